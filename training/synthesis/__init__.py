"""Rendered micro-expressions: they stand in for licensed data; their truth is exact, it was put in."""
