"""One face's two windows with optical flow on the device that the network runs on: no picture comes back."""

from __future__ import annotations

from metst_edge.engine.lanes import FrameScore, Lanes
from metst_edge.engine.types import DeviceFlow, DeviceStream
from metst_edge.face import Face
from metst_edge.scoring.slots import Moment, Picture
from metst_edge.scoring.stages import OnStage, timed
from metst_edge.scoring.windows import Find, Window, gone, lost, unknown


class DeviceLanes:
    """From moments to scores, with flow on the device.

    Args:
        stream: with two lanes; nobody else feeds it.
        k: slots in a window, even.
        on_stage: told how long each call of a stage took.
        delay: of the network's scores, see `metst_edge.engine.lanes.Lanes`.

    Attributes:
        flow: where it is measured.
        network: the stream's lanes.
    """

    flow = "cuda"

    def __init__(self, stream: DeviceStream, k: int, on_stage: OnStage | None = None, delay: int = 0) -> None:
        self._stream, self._on_stage = stream, on_stage
        self.network = Lanes(stream, k, delay)
        self._flow: DeviceFlow | None = None  # for frames of one size, once they are seen
        self.reset()

    def reset(self) -> None:
        """Forget all windows."""
        self.network.reset()
        self._windows: dict[int, Window] = {}
        self._shown: Picture | None = None

    def start(self, lane: int, anchor: Picture, face: Face) -> None:
        """Begin a lane's window."""
        height, width = anchor.gray.shape
        if self._flow is None or self._flow.shape != (height, width):
            # Which closes the one before and resets the stream: frames change their size between runs only.
            self._flow = None
            self._flow = self._stream.open_flow((height, width))
        self._show(self._flow, anchor)
        self._flow.start(lane, face.box, face.crop_landmarks)
        self._windows[lane] = Window(anchor)

    def push(self, moment: Moment, find: Find) -> list[FrameScore] | None:
        """Score a moment; None, and nothing done, if the face is lost.

        Args:
            moment: next on the grid.
            find: returns the face on a picture; asked where a crop no longer looks like its anchor's. Where the crop
                is, the device alone knows: it is not carried after the face, as `HostLanes` does.
        """
        flow, starting = self._flow, self.network.starting
        assert flow is not None, "no window has been started"
        windows = {lane: window for lane, window in self._windows.items() if lane != starting}
        with timed("flow", self._on_stage):
            measured = unknown(windows, moment)
            shares = {lane: window.shares(moment) for lane, window in windows.items()}
            for picture, lanes in measured:
                self._show(flow, picture)
                flow.measure(lanes, shares)
            if not measured:
                flow.blend(shares)
        with timed("network", self._on_stage):
            scores = self.network.push(None)
        likeness = flow.likeness[list(windows)]  # known now: waiting for it before would cost more
        if measured and lost(likeness) and (gone(likeness) or find(measured[-1][0]) is None):
            self.network.take_back(scores)
            return None
        return scores

    def _show(self, flow: DeviceFlow, picture: Picture) -> None:
        if self._shown is not picture:
            flow.show(picture.gray)
            self._shown = picture
