"""Scores of a torch network on clips that are already measured: the offline rule of the SDK, without video.

Used while training. ``training.evaluation.evaluate`` is the real thing: encoded video through the whole of the SDK.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from metst_edge.decode import decode
from training.evaluation.metrics import Clip, Labelled, Scores, score
from training.models import SpottingNetwork
from training.samples import MeasuredClip

Curve = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
"""spot (n,) and emotion logits (n, E) of one clip's frames."""


def curves(network: SpottingNetwork, clips: Sequence[MeasuredClip], k: int) -> list[Curve]:
    """Run the network over clips and stitch: the first window whole, of later ones what follows their first half.

    Args:
        network: is put into evaluation mode and left there.
        clips: measured.
        k: frames in a window.
    """
    network.eval()
    device = next(network.parameters()).device
    shapes = {window.shape[1] for clip in clips for window in clip.windows}
    scored: dict[int, list[Curve]] = {}
    for width in sorted(shapes):
        alike = [window for clip in clips for window in clip.windows if window.shape[1] == width]
        parts = [alike[i : i + 64] for i in range(0, len(alike), 64)]
        with torch.no_grad():
            outputs = [network(torch.from_numpy(np.stack(part)).to(device)) for part in parts]
        scored[width] = [
            (s, e) for spot, logits in outputs for s, e in zip(spot.cpu().numpy(), logits.cpu().numpy(), strict=True)
        ]
    waiting = {width: iter(found) for width, found in scored.items()}
    out = []
    for clip in clips:
        windows = [next(waiting[window.shape[1]]) for window in clip.windows]
        kept = [windows[0], *((spot[k // 2 :], logits[k // 2 :]) for spot, logits in windows[1:])]
        out.append((np.concatenate([spot for spot, _ in kept]), np.concatenate([logits for _, logits in kept])))
    return out


def validate(
    network: SpottingNetwork,
    clips: Sequence[MeasuredClip],
    k: int,
    k_p: int,
    ratio: float,
    floor: float,
    delay: int = 0,
) -> Scores:
    """Spot and recognise in measured clips, and score that.

    Args:
        network: is put into evaluation mode and left there.
        clips: measured, truth included.
        k: frames in a window.
        k_p: half the typical duration, frames.
        ratio: as for `metst_edge.decode.decode`.
        floor: as for `metst_edge.decode.decode`.
        delay: frames by which the network's scores lag; of a clip's last ones nothing is known then.
    """
    found = []
    for clip, (spot, logits) in zip(clips, curves(network, clips, k), strict=True):
        intervals = decode(spot[delay:], logits[delay:], k_p, ratio, floor)
        predicted = tuple(Labelled(i.onset, i.offset, i.emotion) for i in intervals if i.emotion is not None)
        found.append(Clip(predicted, tuple(Labelled(a.onset, a.offset, a.emotion) for a in clip.annotations)))
    return score(found)
