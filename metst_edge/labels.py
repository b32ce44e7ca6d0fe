"""The emotions in their one order, which logits, files and scores share."""

EMOTIONS = ("negative", "positive", "surprise", "others")
"""What a micro-expression can be named, in the order of the logits."""

NEUTRAL = "neutral"
"""No expression; the last label of every model."""

LABELS = (*EMOTIONS, NEUTRAL)
"""The labels of the models trained here. A bundle names its own, neutral last."""
