"""Training and scoring of recognisers, on intervals that are given: what an interval is shown as, the loop, scores."""
