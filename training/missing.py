"""What is said where a package that `python -m training` and `python -m export` need is not installed.

Knows the standard library only, so that it can be said.
"""

from __future__ import annotations

OURS = ("export", "metst_edge", "training")


def missing(error: ImportError) -> str:
    """Return the one line that says which package is wanted and how to get it.

    Args:
        error: of its import; raised again where it is a part of ours that cannot be imported, which is a mistake.
    """
    name = (error.name or "").partition(".")[0]
    if name in OURS or not name:
        raise error
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return f"expected {name}, which cannot be imported here ({reason}): pip install -e '.[train]'"
