"""``metst-edge build``: TensorRT engines of a model for this device, kept where engine "tensorrt" takes them from."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from metst_edge.app import arguments, terminal

if TYPE_CHECKING:
    from metst_edge.analyzer import Progress

LINE_SECONDS = 10.0
"""Between lines of progress where there is no terminal to draw a bar on."""


def add(verbs: arguments.Verbs) -> None:
    """Add the verb's parser."""
    parser = verbs.add_parser(
        "build",
        help="build TensorRT engines of a model for this device",
        description="Build TensorRT engines of a model for this device and keep them in the user's cache folder, from\n"
        "where engine 'tensorrt' takes them. What has been built before is not built again.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundle", metavar="BUNDLE", type=arguments.named, help="shipped model or path")
    arguments.add_precision(parser)
    parser.add_argument(
        "--workspace",
        metavar="MiB",
        type=arguments.count(1),
        help="memory a layer may use for itself, at most (default: 256)",
    )
    parser.add_argument("--force", action="store_true", help="build again what has been built before")
    parser.add_argument(
        "--target",
        metavar="SM",
        help="build for another GPU, such as sm89; only TensorRT for RTX can (default: this one)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Build every engine of a bundle, or find them built."""
    from metst_edge.bundle import open_bundle
    from metst_edge.engine.tensorrt.builder import WORKSPACE_MIB, EngineBuilder

    precision = getattr(options, "precision", "fp32")
    with terminal.progress("TensorRT", quiet=options.json) as advance:
        builder = EngineBuilder(
            open_bundle(options.bundle),
            precision=precision,
            workspace_mib=WORKSPACE_MIB if options.workspace is None else options.workspace,
            target=options.target,
            progress=percent(advance, terminal.tell),
            say=terminal.tell,
        )
        plans = [builder.plan(graph, force=options.force) for graph in builder.bundle.graphs]
    if options.json:
        engines = [
            {
                "graph": plan.graph,
                "built": plan.built,
                "seconds": round(plan.seconds, 3),
                "bytes": len(plan.content),
                "path": None if plan.path is None else str(plan.path),
                "parts": builder.parts(plan.graph),
            }
            for plan in plans
        ]
        print(json.dumps({"bundle": str(builder.bundle.path), "precision": precision, "engines": engines}))
        return 0
    for plan in plans:
        when = "built" if plan.built else f"in the cache, built {plan.created}"
        where = "not kept" if plan.path is None else plan.path
        print(f"{plan.graph:<6}  {when} in {plan.seconds:.1f} s  {len(plan.content) / 1e6:.1f} MB  {where}")
    return 0


def percent(advance: Progress, say: Callable[[str], None]) -> Callable[[float, str], None]:
    """Show the progress of a build: a bar on a terminal, elsewhere a line now and then.

    Args:
        advance: moves the bar.
        say: prints a line.

    Returns:
        What the builder is to call with the share that is done, and with what it is doing.
    """
    told = time.monotonic()

    def progress(share: float, _: str) -> None:
        nonlocal told
        advance(int(100 * share), 100)
        if not sys.stderr.isatty() and time.monotonic() - told >= LINE_SECONDS:
            told = time.monotonic()
            say(f"{share:.0%} done")

    return progress
