"""``python -m metst_edge`` and ``metst-edge``: the command line, whose imports a Ctrl-C may meet before it is there."""

import sys


def main() -> int:
    """Run the command line and return its exit status."""
    try:
        from metst_edge.app.cli import main as run

        return run()
    except KeyboardInterrupt:
        print("metst-edge: interrupted", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
