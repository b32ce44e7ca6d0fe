"""A bundle may come from anybody: what it asks for is bounded, what runs is what was hashed, all else is refused."""

import json
import os
import shutil
import struct
import zipfile

import numpy as np
import onnx
import pytest

from metst_edge.bundle import Bundle, RecognizerBundle, open_bundle
from metst_edge.engine import load_engine
from metst_edge.errors import (
    BundleError,
    BundleFileError,
    BundleGraphError,
    BundleHashError,
    EngineError,
    ModelNotFoundError,
)
from metst_edge.manifest import LIMIT_BYTES
from metst_edge.onnx_file import OnnxError, with_weights
from metst_edge.recognise.engine import load_recognizer
from tests.engine.test_bundle import edit, rehash, zipped
from tests.recognisers import recogniser_bundle

WINDOWS = np.random.default_rng(0).standard_normal((2, 10, 30)).astype(np.float32)


@pytest.fixture
def folder(tiny_folder, tmp_path):
    """A copy of the tiny bundle that a test may spoil."""
    return shutil.copytree(tiny_folder, tmp_path / "copy")


@pytest.fixture(scope="module")
def recogniser_folder(tmp_path_factory):
    return recogniser_bundle(tmp_path_factory.mktemp("recognisers") / "small").path


@pytest.fixture
def recogniser(recogniser_folder, tmp_path):
    """A copy of a recogniser's bundle that a test may spoil."""
    return shutil.copytree(recogniser_folder, tmp_path / "recogniser")


def put(folder, value, *keys):
    """Set a value deep in the manifest."""

    def change(manifest):
        for key in keys[:-1]:
            manifest = manifest[key]
        manifest[keys[-1]] = value

    edit(folder, change)


def spoil(folder, name, change):
    """Change an ONNX file and state it as it is then."""
    graph = onnx.load(folder / name, load_external_data=False)
    change(graph)
    (folder / name).write_bytes(graph.SerializeToString())
    rehash(folder, name)


# Numbers.


@pytest.mark.parametrize("number", [10**7, 10**12, 10**30, 10**400, 1e308], ids=lambda n: f"{len(str(n))} digits")
@pytest.mark.parametrize(
    "keys",
    [
        ("fps",),
        ("k",),
        ("k_p",),
        ("look_ahead",),
        ("sizes", "dim"),
        ("sizes", "depth"),
        ("sizes", "d_state"),
        ("state", 0, "shape", 0),
        ("tensors", 0, "shape", 0),
        ("tensors", 3, "offset"),
        ("files", "weights.bin", "bytes"),
        ("decode", "ratio"),
        ("decode", "floor"),
        ("decode", "window_seconds"),
    ],
    ids=str,
)
def test_every_number_of_a_spotter_has_an_upper_bound(keys, number, folder):
    put(folder, number, *keys)
    with pytest.raises(BundleError, match="expected"):
        load_engine(Bundle.load(folder), "native")


@pytest.mark.parametrize("number", [10**7, 10**30, 1e308])
@pytest.mark.parametrize(
    "keys",
    [
        ("weight",),
        ("sizes", "frames"),
        ("sizes", "input_size"),
        ("sizes", "depth"),
        *(("images", name) for name in ("pyr_scale", "levels", "winsize", "iterations", "poly_n", "poly_sigma")),
        ("images", "input_size"),
        ("images", "mean", 0),
        ("images", "std", 0),
    ],
    ids=str,
)
def test_every_number_of_a_recogniser_has_an_upper_bound(keys, number, recogniser):
    put(recogniser, number, *keys)
    with pytest.raises(BundleFileError, match="expected"):
        RecognizerBundle.load(recogniser)


def test_shapes_whose_product_wraps_are_refused(folder):
    put(folder, [2**29, 2**29, 2**6], "tensors", 0, "shape")  # 2**64 numbers, 0 in 64 bits
    with pytest.raises(BundleFileError, match=r"expected (tensors that do not overlap|at least \d{20} bytes)"):
        Bundle.load(folder)
    put(folder, [2**16] * 8, "state", 0, "shape")
    with pytest.raises(BundleFileError):
        Bundle.load(folder)


def test_sizes_may_not_multiply_to_a_network_without_end(folder):
    edit(folder, lambda m: m["sizes"].update(depth=2**15, stages=2**15, pathways=2**15))
    with pytest.raises(BundleFileError, match="number of blocks to be 1024 at most"):
        Bundle.load(folder)


def test_offsets_may_not_overlap_nor_lie_between_numbers(folder):
    before = json.loads((folder / "manifest.json").read_text())["tensors"][1]["offset"]
    put(folder, before, "tensors", 2, "offset")
    with pytest.raises(BundleFileError, match="expected tensors that do not overlap"):
        Bundle.load(folder)
    put(folder, 3, "tensors", 2, "offset")
    with pytest.raises(BundleFileError, match="offsets that 4 divides"):
        Bundle.load(folder)


def test_weights_that_are_no_numbers_are_refused(folder):
    content = bytearray((folder / "weights.bin").read_bytes())
    content[0:4] = struct.pack("<f", float("nan"))
    (folder / "weights.bin").write_bytes(content)
    rehash(folder, "weights.bin")
    with pytest.raises(BundleFileError, match="expected finite weights, got nan or infinity in stem.0.weight"):
        load_engine(folder, "native")


# Text.


@pytest.mark.parametrize("text", ["a\x1b[31m", "two\nlines", "\u202etxt", "\ud800", " ", "x" * 101, "\0"], ids=ascii)
@pytest.mark.parametrize("field", ["name", "model", "labels", "state", "tensors", "licence"])
def test_names_and_labels_are_printable(field, text, folder):
    value = [text, "neutral"] if field == "labels" else text
    if field == "licence" and text.isprintable():
        return
    put(folder, value, *((field, 0, "name") if field in ("state", "tensors") else (field,)))
    with pytest.raises(BundleFileError) as caught:
        Bundle.load(folder)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", ["\x1b]0;title\x07", "\u202etxt", "\ud800"], ids=ascii)
def test_what_only_people_read_is_printable_too(text, folder):
    for value in (text, {"deep": [1, {"er": text}]}, {text: 1}):
        put(folder, value, "training")
        with pytest.raises(BundleFileError, match="expected text that can be printed") as caught:
            Bundle.load(folder)
        assert str(caught.value).isprintable()
    put(folder, "of two lines,\nof which this is one", "training")
    Bundle.load(folder)


# What the manifest is.


@pytest.mark.parametrize("name", ["b.zip", "folder"])
def test_a_manifest_of_gigabytes_is_not_read(name, folder, tmp_path):
    with (folder / "manifest.json").open("r+b") as file:
        file.truncate(LIMIT_BYTES + 1 if name == "b.zip" else 20 * 10**9)  # a hole, no bytes on the disk
    path = zipped(folder, tmp_path / "b.zip") if name == "b.zip" else folder
    with pytest.raises(BundleFileError, match=r"manifest\.json of a few kilobytes, got a huge one"):
        Bundle.load(path)


NESTED = (
    '{"a":' + "[" * 40 + "]" * 40 + "}",
    "[" * 10**5,
    '{"a":' * 10**5,
    "[" * 10**5 + "]" * 10**5,
    '{"a":1e999}',
    "9" * 10**5,
)


@pytest.mark.parametrize("content", NESTED, ids=range(len(NESTED)))
def test_a_manifest_that_is_nested_without_end_is_refused(content, folder, tmp_path):
    (folder / "manifest.json").write_text(content)
    for path in (folder, zipped(folder, tmp_path / "b.zip")):
        with pytest.raises(BundleFileError, match=r"manifest\.json"):
            open_bundle(path)


# Zips.


def lying(path, name, method=None, size=None):
    """Change what a zip's directory says of a member."""
    content = bytearray(path.read_bytes())
    at = content.rindex(name.encode()) - 46  # the member's entry in the central directory
    assert content[at : at + 4] == b"PK\x01\x02"
    if method is not None:
        struct.pack_into("<H", content, at + 10, method)
        struct.pack_into("<H", content, struct.unpack_from("<I", content, at + 42)[0] + 8, method)
    if size is not None:
        struct.pack_into("<I", content, at + 24, size)
    path.write_bytes(content)


def test_a_zip_that_lies_about_a_size_is_refused(folder, tmp_path):
    size = (folder / "weights.bin").stat().st_size
    (folder / "weights.bin").write_bytes(bytes(size + 10**7))
    path = zipped(folder, tmp_path / "b.zip")
    lying(path, "weights.bin", size=size)
    with pytest.raises(BundleError):
        Bundle.load(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, 6, 99])
@pytest.mark.parametrize("name", ["weights.bin", "manifest.json"])
def test_a_zip_of_another_compression_is_refused(name, method, folder, tmp_path):
    path = zipped(folder, tmp_path / "b.zip")
    lying(path, name, method=method)
    with pytest.raises(BundleFileError, match=f"expected {name} stored or deflated, got compression method {method}"):
        Bundle.load(path)


def test_a_zip_is_not_unpacked_by_who_runs_it(tiny_folder, tmp_path, monkeypatch):
    path = zipped(tiny_folder, tmp_path / "b.zip")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    for engine in ("native", "onnxruntime"):
        engine = load_engine(path, engine)
        engine.infer(WINDOWS)
        engine.open_stream()
    assert not list((tmp_path / "temporary").iterdir())


# Files.


def test_a_pipe_in_place_of_a_file_is_not_waited_for(folder):
    (folder / "MODEL_CARD.md").unlink()
    os.mkfifo(folder / "MODEL_CARD.md")
    with pytest.raises(BundleFileError, match=r"MODEL_CARD\.md is missing"):
        Bundle.load(folder)


def test_a_name_longer_than_names_are_is_no_model():
    with pytest.raises(ModelNotFoundError):
        Bundle.find("x" * 5000)


@pytest.mark.parametrize("engine", ["native", "onnxruntime"])
@pytest.mark.parametrize("cut", [False, True])
def test_weights_that_change_after_the_check_are_refused(engine, cut, folder):
    bundle = Bundle.load(folder)
    content = bytearray((folder / "weights.bin").read_bytes())
    content[100] ^= 1
    (folder / "weights.bin").write_bytes(content[:-4000] if cut else content)
    with pytest.raises(BundleHashError, match=r"of weights\.bin"):
        load_engine(bundle, engine)


def test_weights_that_are_cut_while_they_are_used_stay_what_they_were(folder):
    weights = Bundle.load(folder).weights()
    before = {name: array.copy() for name, array in weights.items()}
    os.truncate(folder / "weights.bin", 0)  # a mapped file would end the process with SIGBUS here
    for name, array in weights.items():
        np.testing.assert_array_equal(array, before[name])


# Graphs.


@pytest.mark.parametrize(
    "location", ["/etc/passwd", "../secret.bin", "manifest.json", "MODEL_CARD.md", "other.bin", ""]
)
def test_a_graph_may_not_read_what_is_not_hashed(location, folder):
    (folder / "other").write_bytes(bytes(10**6))
    (folder.parent / "secret.bin").write_bytes(bytes(10**6))

    def change(model):
        for tensor in model.graph.initializer:
            for pair in tensor.external_data:
                if pair.key == "location":
                    pair.value = location

    spoil(folder, "window.onnx", change)
    with pytest.raises(BundleGraphError, match=r"expected weights in weights\.bin, got a graph that reads"):
        load_engine(folder, "onnxruntime")


def test_a_graph_may_not_read_in_a_node_either(folder):
    def change(model):
        tensor = next(t for t in model.graph.initializer if t.external_data)
        model.graph.node.append(onnx.helper.make_node("Constant", [], ["secret"], value=tensor))

    spoil(folder, "window.onnx", change)
    with pytest.raises(BundleGraphError, match="got one inside of a node"):
        load_engine(folder, "onnxruntime")


@pytest.mark.parametrize(
    ("key", "value"), [("offset", "-4"), ("offset", str(10**12)), ("length", "1"), ("length", "x"), ("offset", "1e3")]
)
def test_a_graph_may_not_read_beyond_its_weights(key, value, folder):
    def change(model):
        tensor = next(t for t in model.graph.initializer if t.external_data)
        next(pair for pair in tensor.external_data if pair.key == key).value = value

    spoil(folder, "window.onnx", change)
    with pytest.raises(BundleGraphError, match="expected (weights|offset)"):
        load_engine(folder, "onnxruntime")


def test_a_graph_may_not_read_its_weights_over_and_over(folder):
    def change(model):
        tensor = max((t for t in model.graph.initializer if t.external_data), key=lambda t: np.prod(t.dims))
        for i in range(100):
            model.graph.initializer.add().CopyFrom(tensor)
            model.graph.initializer[-1].name = f"again_{i}"

    spoil(folder, "window.onnx", change)
    with pytest.raises(BundleGraphError, match="reads each weight once"):
        load_engine(folder, "onnxruntime")


def renamed(model):
    model.graph.input[0].name = "pictures"


def of_integers(model):
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64


def of_eleven_channels(model):
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 11


def of_one_more_axis(model):
    model.graph.input[0].type.tensor_type.shape.dim.add().dim_value = 1


def of_other_labels(model):
    model.graph.output[1].type.tensor_type.shape.dim[2].dim_value = 4


@pytest.mark.parametrize("change", [renamed, of_integers, of_eleven_channels, of_one_more_axis, of_other_labels])
def test_a_graph_that_is_not_what_the_manifest_says_is_refused(change, folder):
    spoil(folder, "window.onnx", change)
    with pytest.raises(BundleGraphError, match=r"window\.onnx .*expected"):
        load_engine(folder, "onnxruntime")


def test_a_graph_that_gives_something_else_when_it_runs_is_refused(folder):
    def change(model):
        for value in model.graph.output:  # nothing is said of the shapes
            value.type.tensor_type.ClearField("shape")
        model.graph.output[0].name, model.graph.output[1].name = "emotion", "spot"
        for node in model.graph.node:
            for i, name in enumerate(node.output):
                node.output[i] = {"spot": "emotion", "emotion": "spot"}.get(name, name)

    spoil(folder, "window.onnx", change)
    with pytest.raises(BundleGraphError, match=r"expected window\.onnx to give spot float32 \(2, 30\), got"):
        load_engine(folder, "onnxruntime").infer(WINDOWS)


def test_a_graph_that_cannot_run_is_refused(folder):
    def change(model):
        shape = onnx.numpy_helper.from_array(np.array([7, 7, 7], np.int64), "seven")
        model.graph.initializer.append(shape)
        last = next(node for node in model.graph.node if "spot" in node.output)
        last.output[0] = "before"
        model.graph.node.append(onnx.helper.make_node("Reshape", ["before", "seven"], ["spot"]))
        model.graph.output[0].type.tensor_type.ClearField("shape")

    spoil(folder, "window.onnx", change)
    with pytest.raises(BundleGraphError, match=r"onnxruntime cannot run window\.onnx"):
        load_engine(folder, "onnxruntime").infer(WINDOWS)
    spoil(folder, "step.onnx", change)
    engine = load_engine(folder, "onnxruntime")
    stream = engine.open_stream()
    with pytest.raises(BundleGraphError, match=r"onnxruntime cannot run step\.onnx"):
        stream.step(np.zeros((2, 10), np.float32))


def test_what_onnxruntime_quotes_of_a_graph_can_be_printed(folder, capfd):
    def change(model):
        model.graph.node[0].op_type = "Re\x1b[2J"
        model.graph.node[1].input[0] = "\x10"

    spoil(folder, "window.onnx", change)
    with pytest.raises(BundleGraphError, match=r"onnxruntime refuses window\.onnx") as caught:
        load_engine(folder, "onnxruntime")
    assert str(caught.value).isprintable()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("engine", "precision", "reason"),
    [
        ("native", "fp32", ": the weights are not those of a trained network"),
        ("onnxruntime", "fp32", ": the weights are not those of a trained network"),
        ("native", "fp16", " in fp16, .*: use precision 'fp32', or "),
    ],
)
def test_scores_that_are_no_numbers_are_not_handed_out(engine, precision, reason, folder):
    """Nothing would be found in them, and nobody told. In half precision it may be that they cannot be held."""
    weights = {t.name: t for t in Bundle.load(folder).tensors}
    content = bytearray((folder / "weights.bin").read_bytes())
    for name in ("stem.0.weight", "stem.1.weight"):
        count = int(np.prod(weights[name].shape))
        content[weights[name].offset : weights[name].offset + 4 * count] = struct.pack("<f", 3e38) * count
    (folder / "weights.bin").write_bytes(content)
    rehash(folder, "weights.bin")
    loaded = load_engine(folder, engine, precision)
    with pytest.raises(EngineError, match=f"expected finite scores, got nan or infinity{reason}"):
        loaded.infer(WINDOWS)
    stream = loaded.open_stream()
    with pytest.raises(EngineError, match=f"expected finite scores, got nan or infinity{reason}"):
        for t in range(10):
            stream.step(WINDOWS[:, :, t], np.array([t == 0] * 2))


def test_a_recogniser_s_graph_is_held_to_its_manifest_too(recogniser):
    spoil(recogniser, "clip.onnx", renamed)
    with pytest.raises(BundleGraphError, match=r"expected clip\.onnx with inputs images, got pictures"):
        load_recognizer(recogniser, "onnxruntime")


@pytest.mark.parametrize("name", ["window", "step"])
def test_a_graph_with_its_weights_in_it_is_the_graph(name, folder):
    expected = onnx.load(folder / f"{name}.onnx")  # which reads the weights
    found = onnx.load_from_string(Bundle.load(folder).graph_bytes(name))
    assert len(found.graph.initializer) == len(expected.graph.initializer)
    for ours, theirs in zip(found.graph.initializer, expected.graph.initializer, strict=True):
        assert (ours.name, ours.dims, ours.data_type) == (theirs.name, theirs.dims, theirs.data_type)
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(ours), onnx.numpy_helper.to_array(theirs))
    for model in (found, expected):
        del model.graph.initializer[:]
    assert found == expected


@pytest.mark.parametrize(
    "content",
    [
        b"\xff" * 20,
        b"\x38\x01",  # the graph as a number
        b"\x3a\x05\x28\x01",  # a graph that ends too early
        b"\xba\x80\x80\x80\xf0\x00\x00",  # a tag of more than 32 bits, which readers cut or refuse
        b"\xa2\x01\x00",  # a part for training
    ],
)
def test_bytes_that_readers_disagree_about_are_refused(content):
    with pytest.raises(OnnxError):
        with_weights(content, {}, lambda name: b"")


def test_graphs_in_graphs_end():
    def message(number, content):
        length = len(content)
        return bytes([number << 3 | 2, length & 127 | 128, length >> 7 & 127 | 128, length >> 14]) + content

    def nested(depth):
        graph = b""
        for _ in range(depth):  # a node's attribute
            graph = message(1, message(5, message(6, graph)))
        return message(7, graph)

    with_weights(nested(30), {}, lambda name: b"")
    for depth in (40, 1000):
        with pytest.raises(OnnxError, match="graphs in graphs 32 deep"):
            with_weights(nested(depth), {}, lambda name: b"")
