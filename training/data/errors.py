"""What is wrong with training data, said so that it can be mended."""

from metst_edge.errors import MetstError


class DataError(MetstError):
    """A labelled folder, its labels.csv, or a run's settings cannot be used as they are."""
