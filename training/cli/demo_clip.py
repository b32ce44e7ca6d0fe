"""``python -m training demo-clip``: the clip that `metst-edge demo` shows."""

from __future__ import annotations

import argparse
from pathlib import Path

from training.cli import terminal
from training.cli.arguments import Verbs


def add(verbs: Verbs) -> None:
    """Add the verb's parser."""
    parser = verbs.add_parser(
        "demo-clip",
        help="render the packaged demo clip",
        description="Render the clip that `metst-edge demo` shows.",
    )
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder for clip.mp4 and truth.json")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Render the packaged demo clip."""
    from training.synthesis.demo import write_demo

    console = terminal.console()
    terminal.expect_place(options.out)
    with terminal.refused_input():
        clip, truth = write_demo(options.out)
    console.print(f"wrote {clip} ({clip.stat().st_size / 1e6:.2f} MB) and {truth}")
    return 0
