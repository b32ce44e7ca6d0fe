"""A recogniser on TensorRT, one interval at a time; its engine comes from the cache, or is built when it is opened."""

from __future__ import annotations

import logging
import threading
import traceback
import weakref

import numpy as np

from metst_edge.bundle import RecognizerBundle
from metst_edge.closing import Closing
from metst_edge.engine.tensorrt.builder import EngineBuilder, Say
from metst_edge.engine.tensorrt.device import CudaStream, open_device, packed
from metst_edge.engine.tensorrt.execution import LoadedEngine, Shape
from metst_edge.engine.types import check_scores
from metst_edge.errors import EngineError
from metst_edge.recognise.types import Array, check_images

_LOG = logging.getLogger(__name__)


class TensorRTRecognizer(Closing):
    """Recognizer (see types.py) on TensorRT. May be used from any thread.

    Args:
        bundle: what to run.
        say: told in one line what takes long or is not as it should be; default: a log record of level WARNING.

    Raises:
        EngineError: TensorRT, pycuda or the GPU is missing; the engine cannot be built.
    """

    name = "tensorrt"

    def __init__(self, bundle: RecognizerBundle, say: Say | None = None) -> None:
        self.bundle, self.labels = bundle, bundle.labels
        builder = EngineBuilder(bundle, say=say or _LOG.warning)
        device = open_device()
        self._lock = threading.Lock()  # one context, one set of buffers
        self._result: Shape = (1, len(bundle.labels))
        self._stream = CudaStream(device)
        self._release = weakref.finalize(self, self._stream.close)
        try:
            with self._stream.use():
                try:
                    self._prepare(builder)
                except BaseException as error:
                    # Its frames hold TensorRT's engine, which must go while the context is current.
                    traceback.clear_frames(error.__traceback__)
                    raise
        except BaseException:
            self._release()
            raise

    def _prepare(self, builder: EngineBuilder) -> None:
        stream, side = self._stream, self.bundle.input_size
        largest: Shape = (1, self.bundle.frames, 3, side, side)
        self._inputs = stream.buffer(packed({"images": largest})[1])
        self._outputs = stream.buffer(packed({"logits": self._result})[1])
        self._context = LoadedEngine(builder, "clip").context({"images": largest}, {"logits": self._result})
        stream.on_close(self._context.release)
        self._context.set_addresses({"images": self._inputs.address, "logits": self._outputs.address})

    def infer(self, images: Array) -> Array:
        """Give logits (N, E) of pictures (N, F, 3, S, S); see `Recognizer`.

        Raises:
            EngineError: also where F is above the bundle's `frames`, for which the engine is built; closed; the GPU or
                TensorRT fails.
        """
        images = check_images(images, self.bundle.input_size)
        frames = images.shape[1]
        if frames > self.bundle.frames:
            raise EngineError(
                f"expected at most {self.bundle.frames} pictures of an interval, for which the TensorRT engine is "
                f"built, got {frames}; use engine='onnxruntime' for more"
            )
        logits = np.empty((len(images), len(self.labels)), np.float32)
        with self._lock, self._stream.use():
            for clip, row in zip(images, logits, strict=True):
                shape = (1, *clip.shape)
                self._context.set_shapes({"images": shape}, {"logits": self._result})
                self._inputs.view(0, shape)[0] = clip
                self._stream.upload(self._inputs, 0, clip.size)
                self._context.enqueue(self._stream.handle)
                self._stream.download(self._outputs, row.size)
                self._stream.wait()
                row[:] = self._outputs.view(0, self._result)[0]
        check_scores(logits, logits, self.bundle.path)
        return logits

    def close(self) -> None:
        """Give back what it holds on the GPU. Calling it again is harmless."""
        self._release()
