"""A recogniser without a network, which a test can hold up or break."""

import threading
from types import SimpleNamespace

import numpy as np

from metst_edge.labels import EMOTIONS
from metst_edge.recognise import ImageSettings


class FakeRecognizer:
    """Its logits are means over parts of the images: any change in those changes them.

    Attributes:
        seen: images of every call.
        threads: names of the threads that called.
        gate: waited for in every call.
        error: raised by every call, if any.
        closed: whether it was.
    """

    def __init__(self, labels=EMOTIONS, weight=0.5):
        self.name, self.labels = "fake", tuple(labels)
        images = ImageSettings(input_size=32).to_dict()
        self.bundle = SimpleNamespace(
            name="fake", path="fake", labels=self.labels, frames=11, input_size=32, images=images, weight=weight
        )
        self.seen, self.threads, self.closed, self.error = [], set(), False, None
        self.gate, self.entered = threading.Event(), threading.Event()
        self.gate.set()

    def infer(self, images):
        assert images.dtype == np.float32 and images.shape == (1, 11, 3, 32, 32)
        self.threads.add(threading.current_thread().name)
        self.entered.set()
        self.gate.wait(30)
        if self.error is not None:
            raise self.error
        self.seen.append(images)
        parts = np.array_split(images.astype(np.float64).ravel(), len(self.labels))
        return np.array([[10 * part.mean() for part in parts]], np.float32)

    def close(self):
        self.threads.add(threading.current_thread().name)
        self.closed = True
