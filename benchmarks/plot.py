"""Draw what the features and the network of a frame cost, against frame size, patch area, channels and lanes.

Usage: python benchmarks/plot.py [--results benchmarks/results] [--out docs/cost.png]

Reads the newest dated results of roi_flow.py (all three tables) and network_step.py in that folder.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.results import FOLDER, Rows

NAMES = ("roi-flow", "roi-flow-features", "roi-flow-area", "network-step")
OURS, OPENCV, ONNX, MAMBAPY, TORCH = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7f7f7f"
"""Told apart by the colour-blind (Okabe and Ito), and by their markers."""
SHAPES = {OURS: "o", OPENCV: "s", ONNX: "^", MAMBAPY: "D", TORCH: "v"}


def newest(folder: Path, name: str) -> dict[str, Any]:
    """Return the newest result of a benchmark; raises SystemExit where there is none."""
    # The date has a fixed form, so that roi-flow does not also match roi-flow-area.
    found = sorted(folder.glob(f"????-??-??-{name}.json"))
    if not found:
        raise SystemExit(f"{folder}: expected a result of {name}; run the benchmark with --out first")
    content: dict[str, Any] = json.loads(found[-1].read_text())
    return content


def select(rows: Rows, **wanted: Any) -> Rows:
    """Return the rows with these values."""
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def line(axes: Any, xs: Iterable[float], ys: Iterable[float], colour: str, label: str, dashed: bool = False) -> None:
    """Draw one contender."""
    style = "--" if dashed else "-"
    axes.plot(list(xs), list(ys), style, marker=SHAPES[colour], color=colour, label=label, markersize=5, linewidth=1.6)


def frame_size(axes: Any, rows: Rows) -> None:
    """Features of both lanes by frame size."""
    for rois, dashed in ((18, False), (5, True)):
        some = select(rows, ROIs=rois, lanes=2, threads=1)
        sizes = [_pixels(row["frame"]) / 1e6 for row in some]
        line(axes, sizes, [row["OpenCV path ms"] for row in some], OPENCV, f"OpenCV path, {rois} ROIs", dashed)
        line(axes, sizes, [row["ours ms"] for row in some], OURS, f"metst_edge, {rois} ROIs", dashed)
    axes.set(xscale="log", title="Features of a frame by its size\ntwo lanes, one thread", xlabel="frame, pixels")
    axes.set_xticks(sizes, [row["frame"] for row in some])
    axes.minorticks_off()


def area(axes: Any, rows: Rows, sets: Rows) -> None:
    """Flow by the area it is computed on: one growing square, and a set's patches one after the other."""
    for sweep, dashed, what in (("square side", False, "one square"), ("patches", True, "1 to 7 face patches")):
        some = select(rows, sweep=sweep)
        pixels = [row["pixels"] for row in some]
        line(axes, pixels, [row["OpenCV ms"] for row in some], OPENCV, f"OpenCV Farneback, {what}", dashed)
        line(axes, pixels, [row["ours ms"] for row in some], OURS, f"metst_edge, {what}", dashed)
    for row in sets:
        axes.axvline(row["pixels"], color="#bbbbbb", linewidth=1, zorder=0)
        side = "right" if row["ROIs"] == 5 else "left"
        axes.annotate(
            f" {row['ROIs']} ROIs ",
            (row["pixels"], 0.02),
            xycoords=("data", "axes fraction"),
            ha=side,
            fontsize=8,
            color="#555555",
        )
    axes.set(
        xscale="log",
        yscale="log",
        title="Flow of patches by their area\none thread, anchor kept where possible",
        xlabel="pixels in all",
    )


def channels(axes: Any, rows: Rows) -> None:
    """Features of both lanes by the number of channels, one and two threads."""
    places, labels = [], []
    for i, (rois, threads) in enumerate(((5, 1), (5, 2), (18, 1), (18, 2))):
        row = select(rows, ROIs=rois, lanes=2, threads=threads, frame="640x360")[0]
        for shift, key, colour, label in (
            (-0.2, "OpenCV path ms", OPENCV, "OpenCV path"),
            (0.2, "ours ms", OURS, "metst_edge"),
        ):
            axes.bar(i + shift, row[key], 0.38, color=colour, label=label if i == 0 else None)
            axes.annotate(f"{row[key]:.3g}", (i + shift, row[key]), ha="center", va="bottom", fontsize=8)
        places.append(i)
        labels.append(f"{2 * rois} channels\n{threads} thread{'s' * (threads > 1)}")
    axes.set_xticks(places, labels, fontsize=8)
    axes.margins(y=0.12)
    axes.set(title="Features of a frame by channels\n640x360, two lanes")


def lanes(axes: Any, rows: Rows, steps: Rows) -> None:
    """Features and network step by the number of lanes."""
    some = sorted(select(rows, ROIs=18, frame="640x360", threads=1), key=lambda row: row["lanes"])
    line(axes, [row["lanes"] for row in some], [row["OpenCV path ms"] for row in some], OPENCV, "features, OpenCV path")
    line(axes, [row["lanes"] for row in some], [row["ours ms"] for row in some], OURS, "features, metst_edge")
    model = "metst64" if select(steps, model="metst64") else steps[0]["model"]
    for engine, colour in (("mambapy", MAMBAPY), ("onnxruntime", ONNX), ("torch", TORCH), ("native", OURS)):
        some = sorted(
            (row for row in select(steps, model=model) if row["engine"].split(",")[0] == engine),
            key=lambda row: row["lanes"],
        )
        if some:
            name = {"native": "metst_edge", "onnxruntime": "ONNX Runtime", "torch": "torch, whole windows"}
            label = f"network step, {name.get(engine, engine)}"
            line(axes, [row["lanes"] for row in some], [row["median ms"] for row in some], colour, label, True)
    ticks = sorted({row["lanes"] for row in [*rows, *steps]})
    axes.set(
        xscale="log",
        yscale="log",
        title=f"A frame by lanes\n18 ROIs, {model}, one thread",
        xlabel="lanes (windows open)",
    )
    axes.set_xticks(ticks, list(map(str, ticks)))
    axes.minorticks_off()


def _pixels(frame: str) -> int:
    width, height = frame.split("x")
    return int(width) * int(height)


def draw(folder: Path, out: Path) -> None:
    """Draw the newest results of a folder."""
    contents = {name: newest(folder, name) for name in NAMES}
    rows = {name: content["rows"] for name, content in contents.items()}
    plt.switch_backend("Agg")  # no window, on a machine without a display too
    figure, ((first, second), (third, fourth)) = plt.subplots(2, 2, figsize=(12, 9), layout="constrained")
    frame_size(first, rows["roi-flow-features"])
    area(second, rows["roi-flow-area"], rows["roi-flow"])
    channels(third, rows["roi-flow-features"])
    lanes(fourth, rows["roi-flow-features"], rows["network-step"])
    for axes in (first, second, third, fourth):
        axes.set_ylabel("median, ms")
        axes.grid(True, color="#e5e5e5", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        # Head room for the legend, which lies across the top.
        bottom, top = axes.get_ylim()
        axes.set_ylim(top=top * (top / bottom) ** 0.3 if axes.get_yscale() == "log" else 1.2 * top)
        axes.legend(fontsize=8, frameon=False, loc="upper left", ncols=2)
        axes.title.set_fontsize(11)
    for axes in (first, third):
        axes.set_ylim(bottom=0)
    for axes in (second, fourth):
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    about = contents["roi-flow-features"]["machine"]
    dates = sorted({content["date"] for content in contents.values()})
    figure.suptitle(f"{about['processor']}, {about['cores']} cores, {about['simd']}; {' to '.join(dates)}", fontsize=10)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110)
    plt.close(figure)


def main() -> None:
    """Draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=FOLDER)
    parser.add_argument("--out", type=Path, default=FOLDER.parent.parent / "docs" / "cost.png")
    options = parser.parse_args()
    draw(options.results, options.out)
    print(options.out)


if __name__ == "__main__":
    main()
