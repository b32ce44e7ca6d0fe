"""``metst-edge info``: what is inside a model."""

from __future__ import annotations

import argparse
import json
import sys

from metst_edge.app import arguments, terminal
from metst_edge.choices import MODEL


def add(verbs: arguments.Verbs) -> None:
    """Add the verb's parser."""
    parser = verbs.add_parser("info", help="show what is inside a model bundle")
    parser.add_argument(
        "bundle",
        metavar="BUNDLE",
        nargs="?",
        type=arguments.named,
        default=MODEL,
        help=f"shipped model or path ({MODEL})",
    )
    parser.add_argument("--all", action="store_true", help="show every figure and file, not only what matters first")
    parser.add_argument("--json", action="store_true", help="print the manifest as it is")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Show a bundle's manifest."""
    from metst_edge.app.info import show
    from metst_edge.bundle import open_bundle

    bundle = open_bundle(options.bundle)
    if options.json:
        print(json.dumps(bundle.manifest, indent=1))
    else:
        show(terminal.console_on(sys.stdout), bundle, options.all)
    return 0
