"""An engine alone, on features: python examples/engine_on_features.py [SOURCE]

For those who measure, schedule or decode themselves. Measures one window of SOURCE (the packaged clip by default),
scores it as a whole with `infer`, then frame by frame with `open_stream`, and shows that both say the same.
"""

import sys
from itertools import islice
from pathlib import Path

import numpy as np

import metst_edge
from metst_edge.capture import Frame, open_source, to_gray
from metst_edge.face import FaceFinder
from metst_edge.flow import window_features

DEMO = Path(metst_edge.__file__).with_name("app") / "demo_clip" / "clip.mp4"
START = 50
"""The first frame of the window. In the packaged clip, a micro-expression begins a few frames later."""


def main(source: str) -> None:
    engine = metst_edge.load_engine("demo", engine="native")  # or "onnxruntime", "tensorrt", "auto"
    bundle = engine.bundle

    with open_source(source) as frames:
        window = [item.image for item in islice(frames, START, START + bundle.k) if isinstance(item, Frame)]
    finder = FaceFinder()
    face = finder.find(window[0])
    finder.close()
    if face is None:
        sys.exit(f"{source}: expected a face in frame {START}")
    grays = [to_gray(image) for image in window]
    features = window_features(grays, face.crop_landmarks, face.box, bundle.roi_set, bundle.compat)
    print(f"features: {features.dtype} {features.shape}, mean flow of {bundle.channels // 2} regions, pixels")

    scores = engine.infer(features[None])  # (1, C, T): a batch of one window
    labels = bundle.labels
    for frame in range(0, bundle.k, 5):
        emotion = labels[int(scores.emotion[0, frame].argmax())]
        print(f"frame {START + frame:3d}: spot {scores.spot[0, frame]:.3f}, {emotion}")

    # The same as a stream of one lane. A score comes `look_ahead` steps after its frame, so the end is pushed out.
    stream = engine.open_stream(lanes=1)
    nothing = np.zeros((1, bundle.channels), np.float32)
    spot = []
    for t in range(bundle.k + stream.look_ahead):
        inside = t < bundle.k
        reset = np.array([t == 0 or not inside])  # the first frame of a window, or what lies behind its end
        step = stream.step(features[None, :, t] if inside else nothing, reset)
        if step is not None:
            spot.append(step.spot[0])
    difference = np.abs(np.array(spot) - scores.spot[0]).max()
    print(f"frame by frame: {len(spot)} scores, at most {difference:.1e} from those of the window")
    engine.close()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else str(DEMO))
