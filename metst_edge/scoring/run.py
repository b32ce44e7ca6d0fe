"""What belongs to a face: its windows, its lanes, and the scores under way, from where it is found to where it is lost.

Knows moments and whoever finds the face on a picture; nothing of sources, cuts or other faces.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

from metst_edge.engine.lanes import FrameScore
from metst_edge.engine.types import beyond
from metst_edge.errors import EngineError
from metst_edge.face import Face
from metst_edge.scoring.device import DeviceLanes
from metst_edge.scoring.host import HostLanes
from metst_edge.scoring.items import RunEnd, Scored
from metst_edge.scoring.slots import Moment, Picture
from metst_edge.scoring.windows import Find

OnSlot = Callable[[Picture, Face | None], None]
"""Called with the picture nearest to a slot that was scored, and the face on it where a window starts there."""


class Run:
    """Follows one face by the rule of `metst_edge.scoring.windows`. When it has ended, another may begin.

    Args:
        lanes: for its windows; nobody else uses them.
        find: returns this face on a picture; None where it is not seen.
        on_slot: told of every slot that is scored.
        precision: of the network behind the lanes, for an error's text.

    Attributes:
        going: whether a face is followed.
        lanes: those of its windows.
    """

    def __init__(
        self,
        lanes: HostLanes | DeviceLanes,
        find: Find,
        on_slot: OnSlot | None = None,
        precision: str = "fp32",
    ) -> None:
        self.lanes, self._find, self._on_slot, self._precision = lanes, find, on_slot, precision
        self.reset()

    def reset(self) -> None:
        """Forget the face, and its scores under way."""
        self.going = False
        self.lanes.reset()
        self._seen: tuple[Picture, Face | None] | None = None  # what was found last
        self._waiting: deque[Picture] = deque()  # the anchors of slots whose scores are still under way

    def push(self, moment: Moment, face: Face | None = None) -> list[Scored] | None:
        """Score the next moment of the face; the first one begins the run.

        Args:
            moment: next on the grid.
            face: what was found on its anchor, if it is known.

        Returns:
            The scores that became known; None, and the moment not scored, where the face is lost: end the run then.

        Raises:
            EngineError: a score is no number.
        """
        self.going = True
        starting = self.lanes.network.starting
        if starting is None:
            face = None
        else:
            face = face or self._look(moment.anchor)
            if face is None:
                return None
            self.lanes.start(starting, moment.anchor, face)
        scores = self.lanes.push(moment, self._look)
        if scores is None:
            return None
        self._waiting.append(moment.anchor)
        if self._on_slot is not None:
            self._on_slot(moment.anchor, face)
        return self._scored(scores)

    def _look(self, picture: Picture) -> Face | None:
        """Find the face on a picture, once."""
        if self._seen is None or self._seen[0] is not picture:
            self._seen = picture, self._find(picture)
        return self._seen[1]

    def end(self) -> list[Scored | RunEnd]:
        """End the run: return its scores still under way. Harmless where there is none."""
        items: list[Scored | RunEnd] = [*self._scored(self.lanes.network.flush())]
        if self.going:
            items.append(RunEnd())
        self.reset()
        return items

    def _scored(self, scores: list[FrameScore]) -> list[Scored]:
        for score in scores:
            if not (np.isfinite(score.spot) and np.isfinite(score.emotion).all()):
                found = f"expected finite scores, got spot {score.spot} and logits {score.emotion}"
                if self._precision != "fp32":
                    raise EngineError(found + beyond(self._precision))
                raise EngineError(f"{found}; the model's weights are damaged: export it again")
        pictures = (self._waiting.popleft() for _ in scores)
        return [
            Scored(picture.index, picture.time, score.spot, score.emotion, picture.frame.name, score.features)
            for picture, score in zip(pictures, scores, strict=True)
        ]
