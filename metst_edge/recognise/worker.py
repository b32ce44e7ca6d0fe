"""The thread that a recogniser lives in: it is opened, asked and closed there, one question after the other.

Knows clips and events; not where they come from.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from metst_edge.errors import EngineError
from metst_edge.events import MicroExpression, Opinion
from metst_edge.labels import NEUTRAL
from metst_edge.recognise.images import ImageSettings, flow_images
from metst_edge.recognise.memory import Clip
from metst_edge.recognise.opinion import combine, softmax
from metst_edge.recognise.types import Recognizer

WAITING = 4
"""Questions that may wait; each holds the pictures of one clip."""
NICE = 10
"""How far the thread stands back where processors are short: what measures the next frame goes first."""
CLOSE_SECONDS = 5.0
"""How long closing waits for the question under way. A recogniser that takes longer is closed when it is done."""


@dataclass(slots=True, eq=False)
class Question:
    """An interval to be named, and once that is done, what came of it.

    Attributes:
        event: as it was spotted.
        clip: of it.
        refined: the event with the opinion in it.
        error: why there is none.
        done: whether either of them is there.
    """

    event: MicroExpression
    clip: Clip
    refined: MicroExpression | None = None
    error: Exception | None = None
    done: bool = False


class Worker:
    """A recogniser in a thread of its own.

    Args:
        open_recognizer: opens it; called in the thread.

    Attributes:
        recognizer: nobody but the thread may use it; its bundle and labels may be read.

    Raises:
        Whatever `open_recognizer` raises.
    """

    def __init__(self, open_recognizer: Callable[[], Recognizer]) -> None:
        self._open = open_recognizer
        self._changed = threading.Condition()
        self._waiting: deque[Question] = deque()
        self._asked: deque[Question] = deque()  # those not collected, in order, waiting or done
        self._closing = False
        self._opening: Future[Recognizer] = Future()
        # Daemon: one that is never closed does not keep the process from ending. But Python ends such a thread wherever
        # it is, and compiled code takes that for an error: it is closed before.
        atexit.register(self.close)
        self._thread = threading.Thread(target=self._run, name="metst-edge recognizer", daemon=True)
        self._thread.start()
        try:
            self.recognizer = self._opening.result()
        except BaseException:
            self._closing = True  # nobody will ask it any more
            atexit.unregister(self.close)
            raise

    def ask(self, event: MicroExpression, clip: Clip) -> bool:
        """Put a question at the end of the queue; False, and it is not put, where the queue is full."""
        with self._changed:
            if self._closing or len(self._waiting) >= WAITING:
                return False
            question = Question(event, clip)
            self._waiting.append(question)
            self._asked.append(question)
            self._changed.notify_all()
            return True

    def answers(self) -> list[Question]:
        """Return the questions that are done, in the order they were asked, up to the first that is not."""
        done = []
        with self._changed:
            while self._asked and self._asked[0].done:
                done.append(self._asked.popleft())
        return done

    def wait(self, seconds: float | None) -> None:
        """Wait until all questions are done, at most so long; None for as long as it takes, or until `stop`."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or all(question.done for question in self._asked), seconds)

    def forget(self) -> int:
        """Drop all questions; return how many had not been done. The answer of the one under way is dropped too."""
        with self._changed:
            dropped = sum(not question.done for question in self._asked)
            self._waiting.clear()
            self._asked.clear()
            return dropped

    def stop(self) -> None:
        """Take no more questions, drop those that wait, and let nobody wait for the one under way."""
        with self._changed:
            self._closing = True
            self._waiting.clear()
            self._changed.notify_all()

    def close(self) -> None:
        """End the thread, waiting for the question under way no longer than CLOSE_SECONDS. Harmless twice."""
        self.stop()
        self._thread.join(CLOSE_SECONDS)
        atexit.unregister(self.close)

    def _run(self) -> None:
        with suppress(OSError):  # where a container forbids it
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        try:
            recognizer = self._open()
            settings = ImageSettings.from_dict(recognizer.bundle.images)
        except BaseException as error:
            self._opening.set_exception(error)
            return
        try:
            self._opening.set_result(recognizer)
            while (question := self._next()) is not None:
                try:
                    opinion = recognised(question.clip, recognizer, settings)
                    question.refined = refined(question.event, opinion, recognizer)
                except Exception as error:  # whatever it is: the stream goes on, and is told
                    question.error = error
                with self._changed:
                    question.done = True
                    self._changed.notify_all()
        finally:
            recognizer.close()

    def _next(self) -> Question | None:
        with self._changed:
            self._changed.wait_for(lambda: bool(self._waiting) or self._closing)
            return None if self._closing else self._waiting.popleft()


def recognised(clip: Clip, recognizer: Recognizer, settings: ImageSettings) -> Opinion:
    """Ask a recogniser for its opinion on an interval.

    Raises:
        EngineError: its logits are no numbers.
    """
    images = flow_images(clip.onset, clip.crops, settings, clip.positions)
    logits = recognizer.infer(images[np.newaxis])[0]
    if not np.isfinite(logits).all():
        raise EngineError(
            f"expected finite logits of the recogniser {recognizer.bundle.name!r}, got {logits}; its weights are "
            "damaged: export it again"
        )
    return Opinion(recognizer.bundle.name, dict(zip(recognizer.labels, softmax(logits).tolist(), strict=True)))


def refined(event: MicroExpression, opinion: Opinion, recognizer: Recognizer) -> MicroExpression:
    """Return the event with the recogniser's opinion combined into it, as revision 1.

    Its emotion is then the most probable one, ties to the emotion voted for. An event voted neutral stays so: a
    recogniser says which emotion it is, not whether it is one. A recogniser of weight 0 changes no emotion.
    """
    weight = recognizer.bundle.weight
    combined = combine(event.probabilities, opinion.probabilities, weight)
    emotion = event.emotion
    if weight > 0 and emotion != NEUTRAL:
        emotion = max(combined, key=lambda label: (combined[label], label == event.emotion))
    return replace(event, emotion=emotion, probabilities=combined, recognizer=opinion, revision=1)
