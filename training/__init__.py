"""Workstation side: models, data, synthesis, fitting and evaluation. Run from a checkout; not in the wheel."""
