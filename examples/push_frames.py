"""Push frames from a loop of your own: python examples/push_frames.py [VIDEO]

For programs that read their camera themselves. The analyzer wants each frame once, in order, with the time at which it
was taken; it copies what it keeps, so a buffer may be used again. Without VIDEO, the packaged clip stands in for the
camera.
"""

import sys
from pathlib import Path

import cv2

import metst_edge

DEMO = Path(metst_edge.__file__).with_name("app") / "demo_clip" / "clip.mp4"


def main(video: str) -> None:
    camera = cv2.VideoCapture(video)
    if not camera.isOpened():
        sys.exit(f"{video}: expected a video that OpenCV can read")
    period = 1 / (camera.get(cv2.CAP_PROP_FPS) or 30)
    with metst_edge.Analyzer() as analyzer:
        frames = 0
        while True:
            ok, frame = camera.read()  # uint8 (H, W, 3), BGR; gray (H, W) will do as well
            if not ok:
                break
            # Of a real camera: the driver's timestamp, or time.monotonic() right after the read.
            events = analyzer.push(frame, timestamp=frames * period)
            frames += 1
            show(events)  # usually none: an event comes once it is final, about half a second after its apex
        show(analyzer.flush())  # what was still undecided when the input ended
    print(f"{frames} frames", file=sys.stderr)


def show(events: list[metst_edge.Event]) -> None:
    for event in events:
        if isinstance(event, metst_edge.Gap) and event.end is None:
            print(f"{event.start:7.2f} s on: nothing can be spotted ({event.reason})")
        elif isinstance(event, metst_edge.Gap):
            print(f"{event.start:7.2f} s to {event.end:.2f} s: nothing could be spotted ({event.reason})")
        else:
            print(f"{event.apex:7.2f} s: {event.emotion}, score {event.score:.2f}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else str(DEMO))
