"""What analysing one source offline gives: `values` hold it, `csv` writes it and `plot` draws it."""

from metst_edge.report.values import Report, Scores

__all__ = ["Report", "Scores"]
