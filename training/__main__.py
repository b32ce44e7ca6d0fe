"""``python -m training``: the command line, or one line that says which package it lacks."""

from __future__ import annotations

import sys

from training.missing import missing


def main() -> int:
    """Run the command line; return its exit status."""
    try:
        from training.cli import main as run
    except ImportError as error:
        print(f"training: error: {missing(error)}", file=sys.stderr)
        return 1
    return run()


if __name__ == "__main__":
    sys.exit(main())
