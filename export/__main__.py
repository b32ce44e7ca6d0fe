"""``python -m export``: the command line, or one line that says which package it lacks."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from training.missing import missing


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0 done, 1 failed, 2 bad usage (by argparse)."""
    try:
        from export.cli import run
    except ImportError as error:
        print(f"error: {missing(error)}", file=sys.stderr)
        return 1
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
