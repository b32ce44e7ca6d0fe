"""A second opinion on every interval of a video: asked for as events are found, or afterwards where it is recorded.

Live, an event is passed on at once and its clip goes to the recogniser's thread; the refined event comes back with a
later call. Nothing here waits for the recogniser but `finish`, and that only so long.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from metst_edge.closing import Closing
from metst_edge.errors import BundleError, EngineError, MetstError, StateError
from metst_edge.events import Event, MicroExpression
from metst_edge.recognise.crops import Gray
from metst_edge.recognise.memory import Clip, FaceMemory
from metst_edge.recognise.recorded import FaceTrack, Numbered, clips
from metst_edge.recognise.types import Recognizer
from metst_edge.recognise.worker import Worker

_LOG = logging.getLogger(__name__)

FINISH_SECONDS = 5.0
"""How long the end of a stream waits for opinions under way."""


@dataclass(frozen=True, slots=True)
class Opinions:
    """How many intervals a recogniser was to name so far, and what came of it.

    Attributes:
        given: refined events that were returned.
        skipped: not asked for, since too many were waiting.
        unseen: not asked for, since frames of the interval were no longer kept, the head had moved out of what was kept
            of them, or there was one frame only.
        late: asked for, and not there when the video ended.
        failed: the recogniser failed.
    """

    given: int = 0
    skipped: int = 0
    unseen: int = 0
    late: int = 0
    failed: int = 0


class SecondOpinion(Closing):
    """Has a recogniser look at what was spotted.

    Args:
        open_recognizer: opens it; called in the thread that it will live in.
        emotions: that the model names.
        slots: of a stream that are remembered.

    Attributes:
        name: of the recogniser's bundle.
        labels: the emotions that it names.
        opinions: what has come of them so far.

    Raises:
        BundleError: it knows less than two of the model's emotions.
        Whatever `open_recognizer` raises.
    """

    def __init__(self, open_recognizer: Callable[[], Recognizer], emotions: Sequence[str], slots: int) -> None:
        self._worker = Worker(open_recognizer)
        bundle = self._worker.recognizer.bundle
        self.name, self.labels, self._frames = bundle.name, tuple(bundle.labels), bundle.frames
        if sum(label in emotions for label in self.labels) < 2:
            self.close()
            raise BundleError(
                f"{bundle.path}: expected a recogniser of two at least of the model's emotions {', '.join(emotions)}, "
                f"got one of {', '.join(self.labels)}; use a recogniser that was trained for them"
            )
        self.opinions = Opinions()
        self._memory = FaceMemory(slots)
        self._track: FaceTrack | None = None

    def close(self) -> None:
        """Drop what is under way and release the recogniser. Calling it twice is harmless."""
        self._worker.close()

    def hurry(self) -> None:
        """Let nobody wait for an opinion any more; from any thread. It is to be closed next."""
        self._worker.stop()

    def reset(self) -> None:
        """Forget the video so far; opinions under way are dropped."""
        self._count(late=self._worker.forget())
        self._memory.forget()
        self._track = None

    def record(self) -> None:
        """Take the video that begins as a recorded one: its frames can be had again, and none is remembered."""
        self._track = FaceTrack()

    def saw(self, frame: int, gray: Gray, landmarks: npt.NDArray[np.float32] | None) -> None:
        """Take the next slot; see `metst_edge.recognise.memory.FaceMemory.saw`."""
        (self._memory if self._track is None else self._track).saw(frame, gray, landmarks)

    def take(self, events: Iterable[Event]) -> list[Event]:
        """Return the events that were refined meanwhile, then these as they are, and ask for opinions on them."""
        out: list[Event] = [*self._refined()]
        for event in events:
            if isinstance(event, MicroExpression):
                event = replace(event, revision=0)
                self._ask(event)
            out.append(event)
        return out

    def finish(self) -> list[MicroExpression]:
        """Return the events that are refined within FINISH_SECONDS; Ctrl-C meanwhile ends the wait, not the program.

        What is not there then will not come.
        """
        with suppress(KeyboardInterrupt):
            self._worker.wait(FINISH_SECONDS)
        events = self._refined()
        self._count(late=self._worker.forget())
        return events

    def refine(self, events: list[Event], slots: npt.NDArray[np.int64], source: Iterable[Numbered]) -> None:
        """Replace the events of a recorded source by refined ones, each as soon as its opinion is there.

        Args:
            events: all that was found, of revision 0.
            slots: int64 (n,), the source frames nearest to the slots of the model's grid, rising.
            source: gives its frames, from the first one, once more.

        Raises:
            EngineError: the recogniser failed.
            StateError: it was closed meanwhile.
        """
        assert self._track is not None, "it was not recorded"
        places = [place for place, event in enumerate(events) if isinstance(event, MicroExpression)]
        asked = [event for event in events if isinstance(event, MicroExpression)]
        seen = 0
        for number, clip in clips(asked, slots, self._track, source, self._frames):
            events[places[number]] = self._answer(asked[number], clip)
            seen += 1
        self._count(unseen=len(asked) - seen)

    def _answer(self, event: MicroExpression, clip: Clip) -> MicroExpression:
        """Wait for the opinion on an interval, however long it takes."""
        self._worker.ask(event, clip)
        self._worker.wait(None)
        answers = self._worker.answers()
        if not answers:
            raise StateError(f"expected an open recogniser, {self.name!r} was closed meanwhile", "closed")
        (question,) = answers
        if question.refined is None:
            self._count(failed=1)
            if isinstance(question.error, MetstError):
                raise question.error
            raise EngineError(f"the recogniser {self.name!r} failed: {question.error!r}") from question.error
        self._count(given=1)
        return question.refined

    def _ask(self, event: MicroExpression) -> None:
        clip = self._memory.clip(event.onset_frame, event.apex_frame, event.offset_frame, self._frames)
        if clip is None:
            self._count(unseen=1)
        elif not self._worker.ask(event, clip):
            self._count(skipped=1)

    def _refined(self) -> list[MicroExpression]:
        """Return the events that are refined by now; the first failure of all is a warning."""
        events = []
        for question in self._worker.answers():
            if question.refined is not None:
                events.append(question.refined)
                continue
            if self.opinions.failed == 0:
                _LOG.warning(
                    "the recogniser %r failed: %s; events that it has no opinion on come once",
                    self.name,
                    question.error,
                )
            self._count(failed=1)
        self._count(given=len(events))
        return events

    def _count(self, **more: int) -> None:
        self.opinions = replace(self.opinions, **{name: getattr(self.opinions, name) + n for name, n in more.items()})
