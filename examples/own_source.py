"""A source of your own, with interruptions: python examples/own_source.py [SOURCE]

`Analyzer.stream` opens what `metst_edge.capture.open_source` knows: cameras by index, video files, folders. Anything
else is pushed. This shows a class with the members of `metst_edge.capture.Source` and the loop that feeds it: what it
yields is pushed, and where it was away the run is ended, so that nothing is measured across the hole.

The camera here is made up: it plays SOURCE (the packaged clip by default) in gray, and loses a second on the way.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import metst_edge
from metst_edge.capture import Frame, Interruption, open_source, to_gray

DEMO = Path(metst_edge.__file__).with_name("app") / "demo_clip" / "clip.mp4"
LOST = range(300, 330)
"""The frames that this camera loses."""


class IndustrialCamera:
    """Frames with the times of the camera's own clock, and an Interruption where the cable was out.

    Attributes:
        uri: what messages call it.
        fps: nominal frames per second, None when unknown.
        frame_count: None, as of every camera.
        live: whether time goes on while nobody reads.
    """

    live = True
    frame_count: int | None = None

    def __init__(self, source: str) -> None:
        self._source = open_source(source)  # stands for the camera's driver
        self.uri = f"industrial://{source}"
        self.fps = self._source.fps
        self._frames = self._read()

    def _read(self) -> Iterator[Frame | Interruption]:
        last: Frame | None = None
        for frame in self._source:
            if isinstance(frame, Interruption) or frame.index in LOST:
                continue
            if last is not None and frame.index > last.index + 1:
                yield Interruption(last.timestamp, frame.timestamp, "cable_out")
            last = Frame(frame.index, frame.timestamp, to_gray(frame.image))
            yield last

    def __iter__(self) -> IndustrialCamera:
        return self

    def __next__(self) -> Frame | Interruption:
        return next(self._frames)

    def __enter__(self) -> IndustrialCamera:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._source.close()


def events_of(camera: IndustrialCamera, analyzer: metst_edge.Analyzer) -> Iterator[metst_edge.Event]:
    """Yield a camera's events as they become final. Seconds are the camera's; frames count anew after a flush."""
    analyzer.check_rate(camera)  # too slow a camera is refused before the first frame
    for item in camera:
        if isinstance(item, Interruption):
            yield from analyzer.flush()
            yield metst_edge.Gap(item.start, item.end, item.reason)
        else:
            yield from analyzer.push(item.image, item.timestamp)
    yield from analyzer.flush()


if __name__ == "__main__":
    with (
        IndustrialCamera(sys.argv[1] if len(sys.argv) > 1 else str(DEMO)) as camera,
        metst_edge.Analyzer() as analyzer,
    ):
        for event in events_of(camera, analyzer):
            print(event.to_json())
