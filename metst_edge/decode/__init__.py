"""From per-frame scores to intervals with an emotion: `decode` for a clip, `OnlineDecoder` for a stream."""

from metst_edge.decode.interval import Interval
from metst_edge.decode.offline import decode, decode_clip
from metst_edge.decode.online import OnlineDecoder
from metst_edge.decode.settings import DecodeSettings, Method, Synergy

__all__ = ["DecodeSettings", "Interval", "Method", "OnlineDecoder", "Synergy", "decode", "decode_clip"]
