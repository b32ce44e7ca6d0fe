"""Every exception the SDK raises on purpose.

Each message states what was expected, what came, and what to do about it; the command line prints it as one line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from metst_edge.report import Report


class MetstError(Exception):
    """Base of all of them: catch this to catch whatever the SDK refuses.

    Attributes:
        report: what ``Analyzer.analyze`` had found when the source broke off, None elsewhere.
    """

    report: Report | None = None


class StateError(MetstError, RuntimeError):
    """An object cannot be used now, whatever it is asked for.

    Attributes:
        state: "busy": a call is under way, in another thread or around this one; "closed"; "broken": a call before was
            broken off, by Ctrl-C or an error; "forked": it was made in the process that this one was forked off.
    """

    def __init__(self, message: str, state: str = "broken") -> None:
        super().__init__(message)
        self.state = state


class SourceError(MetstError):
    """A camera, video file or image folder cannot be opened, or broke off while it was read."""


class FrameError(MetstError, ValueError):
    """A frame has the wrong dtype, shape or size, or its size changed within a stream."""


class TimestampError(MetstError, ValueError):
    """A timestamp is not a finite number, or does not rise."""


class FaceModelError(MetstError):
    """The face landmark model cannot be loaded."""


class ModelNotFoundError(MetstError, LookupError):
    """No shipped model has this name and no bundle lies at this path."""


class BundleError(MetstError):
    """A bundle cannot be used as it is on disk."""


class BundleFileError(BundleError):
    """A file of the bundle is missing or cannot be parsed."""


class BundleKindError(BundleError):
    """The bundle is whole, and of another kind than is wanted: a recogniser for a model that spots, or the reverse."""


class BundleHashError(BundleError):
    """A file of the bundle differs from the sha256 in its manifest."""


class BundleVersionError(BundleError):
    """The bundle was written in a format this version does not know."""


class OptionError(MetstError, ValueError):
    """An argument has the wrong type or is out of range, whatever model or source it is for."""


class SettingsError(MetstError, ValueError):
    """Settings of decoding are unknown or out of range, or name a label that the model does not have."""


class CalibrationError(MetstError, ValueError):
    """A calibration cannot be read, is of another model, or cannot be made of what was seen."""


class EngineError(MetstError):
    """An engine is unknown, not installed here, or was given arrays that do not fit the model."""


class BundleGraphError(BundleFileError, EngineError):
    """A graph of the bundle is not what its manifest says, reads a file that it may not, or is one no engine takes."""


class NotCompiledError(EngineError, ImportError):
    """The compiled part of the package is not here: mostly the source folder hides the package that is installed."""


class OutputError(MetstError):
    """A result would take the place of what is read, or of another result."""


class PlotError(MetstError):
    """A picture is wanted, and what draws it is not installed here, or cannot draw it in that format."""


class BenchFileError(MetstError):
    """A file is not the result of a benchmark, or of a format this version does not know."""
