"""Runs a recogniser's network: `load_recognizer` picks the runtime. Knows no video and how no picture is made."""

from __future__ import annotations

import logging
import os

from metst_edge import checking
from metst_edge.bundle import RecognizerBundle
from metst_edge.closing import Closing
from metst_edge.engine import why_missing
from metst_edge.engine.onnxruntime import open_session, run
from metst_edge.engine.types import check_scores
from metst_edge.errors import EngineError
from metst_edge.recognise.types import Array, Recognizer, check_images

__all__ = ["RECOGNIZER_ENGINES", "OnnxRuntimeRecognizer", "Recognizer", "load_recognizer"]

RECOGNIZER_ENGINES = ("onnxruntime", "tensorrt")
"""What runs a recogniser; "auto" picks one. The native engine has no transformer."""

_LOG = logging.getLogger(__name__)


def load_recognizer(bundle: RecognizerBundle | str | os.PathLike[str], engine: str = "auto") -> Recognizer:
    """Make a recogniser ready to run.

    Args:
        bundle: a recogniser's bundle, or its path.
        engine: "onnxruntime", "tensorrt", or "auto": "tensorrt" where it, pycuda and a GPU are there, else
            "onnxruntime".

    Raises:
        EngineError: the engine is unknown or not installed.
        BundleError: as `RecognizerBundle.find`; `BundleKindError` for the bundle of a model that spots.
        ModelNotFoundError: likewise.
        OptionError: an argument of the wrong type.
    """
    if checking.text("engine", engine, ("auto", *RECOGNIZER_ENGINES)) not in ("auto", *RECOGNIZER_ENGINES):
        raise EngineError(
            f"expected engine 'auto', {', '.join(map(repr, RECOGNIZER_ENGINES))} for a recogniser, got {engine!r}"
        )
    found = bundle if isinstance(bundle, RecognizerBundle) else RecognizerBundle.find(bundle)
    if engine == "auto":
        reason = why_missing("tensorrt")
        engine = "tensorrt" if reason is None else "onnxruntime"
        _LOG.info("engine 'auto' is %r; TensorRT: %s", engine, reason or "here, with pycuda and a GPU")
    if engine == "tensorrt":
        from metst_edge.recognise.tensorrt import TensorRTRecognizer

        return TensorRTRecognizer(found)
    return OnnxRuntimeRecognizer(found)


class OnnxRuntimeRecognizer(Closing):
    """Recognizer on ONNX Runtime's CPU provider, on one thread: it runs beside the stream, which it must not delay.

    Args:
        bundle: what to run.

    Raises:
        EngineError: onnxruntime is not installed or refuses the graph.
    """

    name = "onnxruntime"

    def __init__(self, bundle: RecognizerBundle) -> None:
        self.bundle, self.labels = bundle, bundle.labels
        self._session = open_session(bundle, "clip")

    def infer(self, images: Array) -> Array:
        """Give logits (N, E) of pictures (N, F, 3, S, S); see `Recognizer`."""
        pictures = check_images(images, self.bundle.input_size)
        shape = (len(pictures), len(self.labels))
        (logits,) = run(
            self._session, self.bundle, self.bundle.graph_file("clip"), {"images": pictures}, {"logits": shape}
        )
        check_scores(logits, logits, self.bundle.path)
        return logits

    def close(self) -> None:
        """Nothing is held outside this process's memory."""
