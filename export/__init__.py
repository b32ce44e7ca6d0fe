"""Workstation side: checkpoints -> bundles that need no torch. Run from a checkout: `python -m export`."""
