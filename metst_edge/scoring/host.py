"""One face's two windows with optical flow on the CPU, in front of any engine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from metst_edge.engine import Stream
from metst_edge.engine.lanes import LANES, FrameScore, Lanes
from metst_edge.face import Face
from metst_edge.face.rois import STEADY
from metst_edge.flow import RoiFlow, SteadyFlow, channels, measure, measure_steady
from metst_edge.scoring.slots import Moment, Picture
from metst_edge.scoring.stages import OnStage, timed
from metst_edge.scoring.windows import Find, Window, carried, gone, lost, same_face, unknown


class _HostWindow(Window):
    """A window with its flow, and the features of its last two pictures: float32 (C,) each."""

    flow: RoiFlow | SteadyFlow

    def __init__(self, anchor: Picture, face: Face, roi_set: str, compat: bool) -> None:
        super().__init__(anchor)
        if roi_set == STEADY:
            self.flow = SteadyFlow(anchor.gray, face.box, face.crop_landmarks, anchor.time)
        else:
            self.flow = RoiFlow(anchor.gray, face.box, face.crop_landmarks, roi_set, compat)
        self.before = self.last = np.zeros(channels(roi_set), np.float32)
        self._face = face.box

    def follow(self, face: Face, picture: Picture, threads: int) -> bool:
        """Measure the last picture again with the crop carried to where its face is; False where that is another."""
        if not same_face(self.flow.box, face.box):
            return False
        self.flow.box = carried(self._face, self._face, face.box, *picture.gray.shape)
        (self.last,) = _measure([self], picture, threads)
        return not gone(self.flow.likeness)


def _measure(windows: Sequence[_HostWindow], picture: Picture, threads: int) -> list[npt.NDArray[np.float32]]:
    """Measure a picture in windows, which are all of one set of regions."""
    steady = [window.flow for window in windows if isinstance(window.flow, SteadyFlow)]
    if steady:
        return measure_steady(steady, picture.gray, picture.time, threads)
    return measure([window.flow for window in windows if isinstance(window.flow, RoiFlow)], picture.gray, threads)


class HostLanes:
    """From moments to scores, with flow on the CPU.

    Args:
        stream: with two lanes; nobody else feeds it.
        k: slots in a window, even.
        roi_set: one of `metst_edge.face.ROI_SETS`.
        compat: measure as the published code does.
        threads: that a picture's flow is spread over, at most.
        on_stage: told how long each call of a stage took.
        delay: of the network's scores, see `metst_edge.engine.lanes.Lanes`.

    Attributes:
        flow: where it is measured.
        network: the stream's lanes.
    """

    flow = "cpu"

    def __init__(
        self,
        stream: Stream,
        k: int,
        roi_set: str,
        compat: bool = False,
        threads: int = 1,
        on_stage: OnStage | None = None,
        delay: int = 0,
    ) -> None:
        self._roi_set, self._compat, self._channels = roi_set, compat, channels(roi_set)
        self._threads, self._on_stage = threads, on_stage
        self.network = Lanes(stream, k, delay, anchored=roi_set != STEADY)
        self.reset()

    def reset(self) -> None:
        """Forget all windows."""
        self.network.reset()
        self._windows: dict[int, _HostWindow] = {}

    def start(self, lane: int, anchor: Picture, face: Face) -> None:
        """Begin a lane's window."""
        self._windows[lane] = _HostWindow(anchor, face, self._roi_set, self._compat)

    def push(self, moment: Moment, find: Find) -> list[FrameScore] | None:
        """Score a moment; None, and nothing done, if the face is lost.

        Args:
            moment: next on the grid.
            find: returns the face on a picture; asked where a crop no longer looks like its anchor's.
        """
        starting = self.network.starting
        windows = {lane: window for lane, window in self._windows.items() if lane != starting}
        features = np.zeros((LANES, self._channels), np.float32)
        measured = unknown(windows, moment)
        with timed("flow", self._on_stage):
            for picture, lanes in measured:
                measured_in = [windows[lane] for lane in lanes]
                for lane, new in zip(lanes, _measure(measured_in, picture, self._threads), strict=True):
                    windows[lane].before, windows[lane].last = windows[lane].last, new
        if measured and not self._there([windows[lane] for lane in measured[-1][1]], measured[-1][0], find):
            return None
        for lane, window in windows.items():
            of_before, of_last = window.shares(moment)
            features[lane] = of_before * window.before + of_last * window.last
        with timed("network", self._on_stage):
            return self.network.push(features)

    def _there(self, windows: list[_HostWindow], picture: Picture, find: Find) -> bool:
        """Tell whether the face is in all crops of the picture; one that it has jumped out of is put on it again."""
        doubtful = [window for window in windows if lost(window.flow.likeness)]
        if not doubtful:
            return True
        face = find(picture)
        return face is not None and all(window.follow(face, picture, self._threads) for window in doubtful)
