"""From per-frame scores to intervals with an emotion: `decode` for a clip, `OnlineDecoder` for a stream."""

from metst_edge.decode.interval import Interval, Synergy
from metst_edge.decode.offline import Method, decode
from metst_edge.decode.online import OnlineDecoder

__all__ = ["Interval", "Method", "OnlineDecoder", "Synergy", "decode"]
