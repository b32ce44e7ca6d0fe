"""A recogniser's bundle is told from one that spots, and its engines give the logits of its network."""

import json
import shutil
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from metst_edge.app import cli
from metst_edge.app.doctor import software
from metst_edge.app.doctor.children import QUESTIONS
from metst_edge.bundle import Bundle, RecognizerBundle, open_bundle
from metst_edge.engine import load_engine
from metst_edge.engine.tensorrt import module
from metst_edge.engine.tensorrt.builder import EngineBuilder
from metst_edge.errors import BundleFileError, BundleKindError, EngineError, ModelNotFoundError
from metst_edge.recognise.engine import Recognizer, load_recognizer
from tests.engine.test_bundle import edit, zipped
from tests.recognisers import LABELS, draw_recogniser, recogniser_bundle

TARGET = "sm89"


@pytest.fixture(scope="session")
def recogniser_folder(tmp_path_factory):
    """A bundle of the small recogniser; not to be changed."""
    return recogniser_bundle(tmp_path_factory.mktemp("recognisers") / "small").path


@pytest.fixture
def folder(recogniser_folder, tmp_path):
    """A copy of it that a test may spoil."""
    return shutil.copytree(recogniser_folder, tmp_path / "copy")


@pytest.fixture(params=["onnxruntime", "tensorrt"])
def recogniser(request, recogniser_folder):
    """The small recogniser in each engine; "tensorrt" on a GPU that runs its graph in ONNX Runtime."""
    if request.param == "tensorrt":
        request.getfixturevalue("gpu")
    engine = load_recognizer(recogniser_folder, request.param)
    yield engine
    engine.close()


def pictures(*shape, seed=2):
    return np.random.default_rng(seed).standard_normal((*shape, 3, 32, 32)).astype(np.float32)


# The bundle.


def test_a_recogniser_s_bundle_says_what_it_is(recogniser_folder, tmp_path):
    for path in (recogniser_folder, zipped(recogniser_folder, tmp_path / "small.zip", "small/")):
        bundle = RecognizerBundle.load(path)
        assert (bundle.kind, bundle.name, bundle.model, bundle.labels) == ("recogniser", "small", "slstt_small", LABELS)
        assert (bundle.frames, bundle.input_size, bundle.weight) == (11, 32, 0.5)
        assert (bundle.graphs, bundle.precisions) == (("clip",), ("fp32",))
        assert type(open_bundle(path)) is RecognizerBundle and open_bundle(path).manifest == bundle.manifest


def test_a_bundle_of_either_kind_is_opened_by_what_its_manifest_says(tiny_folder):
    assert type(open_bundle(tiny_folder)) is Bundle
    assert "kind" not in Bundle.load(tiny_folder).manifest  # as bundles were written before there was another kind
    assert open_bundle("demo").path == Bundle.find("demo").path
    with pytest.raises(ModelNotFoundError, match="got 'dmeo'"):
        open_bundle("dmeo")


def test_a_recogniser_where_a_model_that_spots_is_wanted_is_refused_in_words(recogniser_folder, tmp_path):
    zip_of_it = zipped(recogniser_folder, tmp_path / "small.zip")
    for attempt in (Bundle.load, Bundle.find, load_engine):
        for path in (recogniser_folder, zip_of_it):
            with pytest.raises(BundleKindError, match=r"expected a model that spots, got a recogniser.*--recognizer"):
                attempt(path)


def test_a_model_that_spots_where_a_recogniser_is_wanted_is_refused_in_words(tiny_folder):
    for attempt in (RecognizerBundle.load, RecognizerBundle.find, load_recognizer):
        with pytest.raises(BundleKindError, match=r"expected a recogniser, got a model that spots.*--model"):
            attempt(tiny_folder)


def test_a_kind_of_the_future_is_refused(folder):
    edit(folder, lambda m: m.update(kind="oracle"))
    for attempt in (Bundle.load, RecognizerBundle.load, open_bundle):
        with pytest.raises(BundleFileError, match="expected 'kind' to be spotter or recogniser, got 'oracle'; update"):
            attempt(folder)


def test_a_share_that_is_not_stated_is_a_half(folder):
    edit(folder, lambda m: m.pop("weight"))
    assert RecognizerBundle.load(folder).weight == 0.5


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("labels", lambda m: m.update(labels=["one"])),
        ("labels", lambda m: m["labels"].pop()),
        ("sizes", lambda m: m["sizes"].update(aggregation="sum")),
        ("sizes", lambda m: m["sizes"].pop("frames")),
        ("sizes", lambda m: m["sizes"].update(depth=0)),
        ("images", lambda m: m.pop("images")),
        ("images", lambda m: m["images"].pop("winsize")),
        ("images", lambda m: m["images"].update(pyr_scale=1.0)),
        ("images", lambda m: m["images"].update(std=[0.2, 0.2])),
        ("images", lambda m: m["images"].update(std=[0.2, 0, 0.2])),
        ("images.input_size", lambda m: m["images"].update(input_size=64)),
        ("weight", lambda m: m.update(weight=1.1)),
        ("weight", lambda m: m.update(weight=True)),
        ("files", lambda m: m["files"].pop("clip.onnx")),
    ],
)
def test_a_field_with_a_wrong_value_is_named(field, change, folder):
    edit(folder, change)
    with pytest.raises(BundleFileError, match=rf"manifest\.json: expected .*{field}"):
        RecognizerBundle.load(folder)


# Its engines.


def test_every_engine_gives_the_logits_of_the_network(recogniser):
    assert isinstance(recogniser, Recognizer) and recogniser.labels == LABELS
    network = draw_recogniser()
    for shape in ((2, 11), (1, 1), (1, 5)):
        images = pictures(*shape)
        with torch.no_grad():
            expected = network(torch.from_numpy(images)).numpy()
        np.testing.assert_allclose(recogniser.infer(images), expected, atol=1e-5)


def test_threads_do_not_get_in_each_other_s_way(recogniser):
    clips = [pictures(1, 1 + i % 3, seed=i) for i in range(12)]
    expected = [recogniser.infer(clip) for clip in clips]
    found = [[None] * len(clips) for _ in range(3)]

    def work(row):
        for i, clip in enumerate(clips):
            row[i] = recogniser.infer(clip)

    threads = [threading.Thread(target=work, args=(row,)) for row in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for row in found:
        np.testing.assert_allclose(row, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (pictures(1, 2).astype(np.float64), r"as float32 \(intervals, frames, 3, 32, 32\), got dtype float64"),
        ("pictures", "got str"),
        (pictures(2), r"got shape \(2, 3, 32, 32\)"),
        (pictures(1, 0), r"got shape \(1, 0, 3, 32, 32\)"),
        (np.zeros((1, 2, 3, 64, 64), np.float32), r"got shape \(1, 2, 3, 64, 64\)"),
        (np.full((1, 2, 3, 32, 32), np.nan, np.float32), "expected finite pictures"),
    ],
)
def test_pictures_that_do_not_fit_are_refused(images, message, recogniser):
    with pytest.raises(EngineError, match=message):
        recogniser.infer(images)


def test_pictures_in_another_order_of_memory_are_taken(recogniser):
    images = pictures(2, 3)
    other = np.asfortranarray(images)
    np.testing.assert_array_equal(recogniser.infer(other), recogniser.infer(images))


def test_an_engine_that_runs_no_recogniser_is_refused_with_those_that_do(recogniser_folder):
    for engine in ("native", "openvino"):
        with pytest.raises(EngineError, match=f"'auto', 'onnxruntime', 'tensorrt' for a recogniser, got '{engine}'"):
            load_recognizer(recogniser_folder, engine)


def test_auto_is_tensorrt_where_there_is_a_gpu_and_onnxruntime_elsewhere(recogniser_folder, monkeypatch, request):
    monkeypatch.setattr("metst_edge.recognise.engine.why_missing", lambda engine: "no GPU")
    assert load_recognizer(recogniser_folder).name == "onnxruntime"
    monkeypatch.undo()
    request.getfixturevalue("gpu")
    with load_recognizer(recogniser_folder) as engine:
        assert engine.name == "tensorrt"


def test_tensorrt_takes_no_more_frames_than_it_was_built_for(recogniser_folder, gpu):
    with load_recognizer(recogniser_folder, "tensorrt") as engine:
        with pytest.raises(EngineError, match="at most 11 pictures of an interval.*got 12; use engine='onnxruntime'"):
            engine.infer(pictures(1, 12))
        assert engine.infer(pictures(1, 11)).shape == (1, 4)


def test_a_closed_recogniser_on_a_gpu_says_so(recogniser_folder, gpu):
    engine = load_recognizer(recogniser_folder, "tensorrt")
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="got a closed one"):
        engine.infer(pictures(1, 2))


@pytest.mark.parametrize("failing", ["create_execution_context", "set_input_shape", "mem_alloc"])
def test_what_a_gpu_refuses_is_an_error_and_nothing_is_left_on_it(failing, recogniser_folder, gpu):
    gpu.failing.add(failing)
    with pytest.raises(EngineError):
        load_recognizer(recogniser_folder, "tensorrt")


# What the device is told to build.


@pytest.fixture
def rtx(monkeypatch, tmp_path):
    """TensorRT-RTX, whose builder needs no GPU, with a cache of its own."""
    pytest.importorskip("tensorrt_rtx")
    monkeypatch.setattr(module, "MODULES", ("tensorrt_rtx",))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("METST_EDGE_PLUGIN", raising=False)


@pytest.mark.parametrize("aggregation", ["lstm", "mean"])
def test_tensorrt_builds_the_graph(aggregation, rtx, tmp_path):
    bundle = recogniser_bundle(tmp_path / "bundle", draw_recogniser(aggregation))
    builder = EngineBuilder(bundle, target=TARGET, say=str)
    assert builder.profile("clip") == {"images": ((1, 1, 3, 32, 32), (1, 11, 3, 32, 32), (1, 11, 3, 32, 32))}
    plan = builder.plan("clip")
    assert plan.built and not builder.plan("clip").built
    parts = builder.parts("clip")
    assert parts["clip.onnx"] == bundle.manifest["files"]["clip.onnx"]["sha256"]
    assert parts["weights.bin"] == bundle.manifest["files"]["weights.bin"]["sha256"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["slstt_lstm", "slstt_mean", "slstt_small"])
def test_tensorrt_builds_the_graphs_of_full_size(name, rtx, tmp_path):
    from training.models.slstt import build_recogniser

    network = build_recogniser(name).eval()
    bundle = recogniser_bundle(tmp_path / "bundle", network, LABELS[: network.sizes.classes])
    assert EngineBuilder(bundle, target=TARGET, say=str).plan("clip").built


def test_build_builds_a_recogniser_too(rtx, recogniser_folder, capsys):
    assert cli.main(["build", str(recogniser_folder), "--target", TARGET, "--json"]) == 0
    (engine,) = json.loads(capsys.readouterr().out)["engines"]
    assert engine["graph"] == "clip" and engine["built"]
    assert cli.main(["build", str(recogniser_folder), "--target", TARGET]) == 0
    assert capsys.readouterr().out.startswith("clip    in the cache")
    assert cli.main(["build", str(recogniser_folder), "--target", TARGET, "--precision", "fp16"]) == 1
    error = capsys.readouterr().err
    assert "expected precision fp32, which the bundle holds, got 'fp16'" in error and "export fp16" not in error


# What the command line says of it.


def test_info_shows_a_recogniser_readably(recogniser_folder, capsys):
    assert cli.main(["info", str(recogniser_folder)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for words in (
        "slstt_small, a recogniser: lstm over the frames of an interval",
        "negative, positive, surprise, others",
        "11 of 32x32 an interval, the flow from its onset in colours",
        "pyr_scale: 0.5, levels: 3, winsize: 15, iterations: 3, poly_n: 5, poly_sigma: 1.2",
        "0.5 of the combined opinion",
        "drawn at random",
        "clip.onnx",
    ):
        assert words in shown
    assert cli.main(["info", str(recogniser_folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "recogniser"


def test_doctor_lists_shipped_models_of_both_kinds(recogniser_folder, tiny_folder, tmp_path, monkeypatch):
    for name, path in (("demo", tiny_folder), ("names", recogniser_folder)):
        shutil.copytree(path, tmp_path / "models" / name)
    monkeypatch.setattr("metst_edge.bundle.SHIPPED_MODELS", tmp_path / "models")
    answer = {}
    exec(QUESTIONS["models"], {"answer": answer})
    assert {name: (about["kind"], about["fp16"]) for name, about in answer.items()} == {
        "demo": ("spotter", False),
        "names": ("recogniser", False),
    }
    evidence = SimpleNamespace(answer=lambda name: answer, works=lambda name: True)
    assert software.models(evidence).text == "demo (fp32), names (recogniser, fp32)"
