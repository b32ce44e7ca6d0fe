"""A recogniser's bundle as it is exported, all the way: through ONNX Runtime into an analyzer's events."""

import pytest
import torch
from rich.console import Console

import metst_edge
from export.recogniser import RecogniserDescription, write_recogniser
from metst_edge.app.demo import demo_clip
from metst_edge.events import MicroExpression
from metst_edge.recognise import combine
from training.models.slstt import build_recogniser

LABELS = ("negative", "positive", "surprise")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A tiny one, with weights as they are drawn; it does not know 'others'."""
    torch.manual_seed(1)
    sizes = {"input_size": 32, "dim": 48, "depth": 2, "heads": 3, "mlp": 96, "lstm_hidden": 32, "lstm_layers": 1}
    network = build_recogniser("slstt_lstm", **sizes, head=16, classes=3).eval()
    out = tmp_path_factory.mktemp("bundles") / "tiny"
    description = RecogniserDescription("tiny", LABELS, weight=0.3)
    return write_recogniser(network, description, out, force=False, console=Console(quiet=True)).path


def test_a_bundle_gives_its_opinion_on_a_clip(bundle):
    with metst_edge.Analyzer(recognizer=bundle) as analyzer:
        assert analyzer.recognizer == "tiny"
        events = [event for event in analyzer.stream(demo_clip()) if isinstance(event, MicroExpression)]
        given = analyzer.opinions.given
    firsts = {event.onset_frame: event for event in events if event.revision == 0}
    refined = [event for event in events if event.revision == 1]
    assert len(refined) == given > 0
    for event in refined:
        vote, opinion = firsts[event.onset_frame].probabilities, event.recognizer
        assert tuple(opinion.probabilities) == LABELS and event.probabilities == combine(
            vote, opinion.probabilities, 0.3
        )
        assert event.probabilities["others"] == vote["others"]
