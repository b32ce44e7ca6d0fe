"""A small recogniser with weights that matter, and its bundle."""

from pathlib import Path

import torch
from rich.console import Console

from export.recogniser import RecogniserDescription, write_recogniser
from metst_edge.bundle import RecognizerBundle
from training.models.slstt import Slstt, build_recogniser

LABELS = ("negative", "positive", "surprise", "others")


def draw_recogniser(aggregation: str = "lstm", seed: int = 5, **sizes: int) -> Slstt:
    """Two blocks on pictures of 32 pixels; every matrix drawn so that signals keep their size."""
    torch.manual_seed(seed)
    small = {"input_size": 32, "dim": 16, "depth": 2, "heads": 2, "mlp": 24, "lstm_hidden": 12, "lstm_layers": 2}
    made = build_recogniser("slstt_small", aggregation=aggregation, **{**small, "head": 8, **sizes})
    for tensor in made.state_dict().values():
        if tensor.dim() == 1:
            tensor.add_(0.1 * torch.randn_like(tensor))
        else:
            tensor.copy_(torch.randn_like(tensor) / tensor[0].numel() ** 0.5)
    return made.eval()


def recogniser_bundle(
    out: Path, network: Slstt | None = None, labels: tuple[str, ...] = LABELS, weight: float = 0.5
) -> RecognizerBundle:
    """Write the bundle of a recogniser, by default of the small one."""
    description = RecogniserDescription("small", labels, weight, training={"data": "drawn at random"})
    made = draw_recogniser() if network is None else network
    return write_recogniser(made, description, out, force=False, console=Console(quiet=True))
