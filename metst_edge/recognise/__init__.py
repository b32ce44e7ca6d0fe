"""Names the emotion of an interval that is spotted already: a second opinion beside the frames' vote.

Rests on SLSTT (arXiv 2112.05851). Knows pictures and intervals, and nothing of how they are spotted.
"""
