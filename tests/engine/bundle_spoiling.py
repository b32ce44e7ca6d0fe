"""Ways to spoil a bundle at random: manifest, zip, weights, graphs, files while they are used; see bundle_fuzz.py."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import os
import random
import struct
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from metst_edge.engine import networks

INTEGERS = (
    *(0, 1, -1, 2, 3, 4, 7, 31, 255, 256, 1000, 65535, 65536, 65537, 10**6, 10**9, 10**12),
    *(2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, 10**30, 10**400, -(2**63)),
)
NUMBERS = (
    *INTEGERS,
    *(0.0, -0.0, 0.5, 1.5, 5e-324, 1e308, -1e308, float("nan"), float("inf"), float("-inf")),
)
TEXTS = (
    *("", " ", "x", "neutral", "positive", "metst64", "metst_plus", "metst_plus_small", "recogniser", "spotter"),
    *("\x1b[2J", "a\nb", "\u202eabc", "\ud800", "\0", "x" * 5000, "../weights.bin", "/etc/passwd", "weights.bin"),
    *("manifest.json", "float32", "adaptive", "none", "0" * 64, "é", "\u200b"),
)
CHANGES = ("place", "place", "dims", "type", "input", "output", "node", "attribute", "wire", "inner", "drop")
OPERATORS = ("Relu", "MatMul", "Add", "Reshape", "Loop", "If", "Scan", "Identity", "Expand")
ENTRY = ((8, "<H"), (10, "<H"), (16, "<I"), (20, "<I"), (24, "<I"), (28, "<H"), (42, "<I"))
"""Fields of an entry of a zip's directory: flags, method, CRC, sizes, length of the name, place of the member."""


@dataclass
class Spoilt:
    """A bundle that is being spoilt.

    Attributes:
        rng: of this run.
        manifest: a copy.
        files: content by name, without the manifest.
        raw: the manifest's bytes, where it is not to be written from `manifest`.
        state: whether to state the files' sizes and hashes as they are.
        zipped: what to do with a zip's bytes; None for a directory.
        later: called with the bundle's folder between loading and using it.
        said: what was done, for whoever reads a finding.
    """

    rng: random.Random
    manifest: dict[str, Any]
    files: dict[str, bytes]
    raw: bytes | None = None
    state: bool = True
    zipped: Callable[[bytes], bytes] | None = None
    later: Callable[[Path], None] | None = None
    said: list[str] = field(default_factory=list)


# What is done to a bundle.


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths to everything in a JSON value."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += places(item, (*path, key))
    return found


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def odd_value(rng: random.Random) -> Any:
    deep: Any = 1
    for _ in range(rng.choice([3, 100, 900])):
        deep = [deep]
    return rng.choice(
        [
            rng.choice(NUMBERS),
            rng.choice(NUMBERS),
            rng.choice(TEXTS),
            None,
            True,
            False,
            [],
            {},
            [1],
            [[]],
            {"a": 1},
            deep,
        ]
    )


def spoil_value(it: Spoilt) -> None:
    """Change, remove, repeat or swap something in the manifest."""
    rng = it.rng
    # The top fields as often as all the rest, most of which are tensors.
    path = rng.choice(places(it.manifest)) if rng.random() < 0.5 else (rng.choice(list(it.manifest)),)
    if len(path) == 1 and rng.random() < 0.5:
        below = places(it.manifest[path[0]], path)
        path = rng.choice(below) if below else path
    *parents, last = path
    parent = at(it.manifest, tuple(parents))
    how = rng.choice(["set", "set", "set", "near", "near", "drop", "repeat", "swap", "add"])
    value = parent[last]
    if how == "near" and isinstance(value, int | float):
        parent[last] = rng.choice([value + 1, value - 1, value * 2, value // 2 if value else 1, -value, value * 2**32])
    elif how == "drop":
        del parent[last]
    elif how == "repeat" and isinstance(parent, list):
        parent.append(copy.deepcopy(value))
    elif how == "swap":
        parent[last] = copy.deepcopy(at(it.manifest, rng.choice(places(it.manifest))))
    elif how == "add" and isinstance(value, dict):
        value[rng.choice(TEXTS)] = odd_value(rng)
    else:
        parent[last] = odd_value(rng)
    it.said.append(f"{how} {'.'.join(map(str, path))[:60]}")


def spoilt_bytes(rng: random.Random, content: bytes) -> bytes:
    """Flip, cut, repeat or insert bytes."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        start = rng.randrange(len(data) + 1)
        length = min(rng.choice([1, 1, 2, 4, 8, 64, 1000]), len(data) - start)
        how = rng.choice(["flip", "flip", "set", "cut", "repeat", "insert", "end"])
        if how == "flip" and length:
            data[start] ^= 1 << rng.randrange(8)
        elif how == "set":
            data[start : start + length] = bytes([rng.choice([0, 1, 127, 128, 255])]) * length
        elif how == "cut":
            del data[start : start + length]
        elif how == "repeat":
            data[start:start] = data[start : start + length]
        elif how == "insert":
            data[start:start] = rng.randbytes(rng.choice([1, 2, 8]))
        elif how == "end" and rng.random() < 0.3:
            del data[start:]
    return bytes(data)


def spoil_manifest_bytes(it: Spoilt) -> None:
    text = json.dumps(it.manifest).encode()
    if it.rng.random() < 0.1:
        text = it.rng.choice([b"[" * 10**5, b'{"a":' * 10**5, b"\xff\xfe" + text, b"", b"null", b"9" * 10**4, text * 2])
    else:
        text = spoilt_bytes(it.rng, text)
    it.raw = text
    it.said.append("manifest bytes")


def spoil_weights(it: Spoilt) -> None:
    names = [name for name in it.files if name.endswith(".bin")]
    name = it.rng.choice(names)
    data = bytearray(it.files[name])
    how = it.rng.choice(["bytes", "numbers", "numbers", "all"])
    odd = [float("nan"), float("inf"), -float("inf"), 3.4e38, -3.4e38, 1e-45, 1e20, -1e20, 0.0]
    if how == "bytes":
        data = bytearray(spoilt_bytes(it.rng, bytes(data)))
    elif how == "numbers" and len(data) >= 4:
        for _ in range(it.rng.choice([1, 10, 1000])):
            struct.pack_into("<f", data, 4 * it.rng.randrange(len(data) // 4), it.rng.choice(odd))
    else:
        data = bytearray(struct.pack("<f", it.rng.choice(odd)) * (len(data) // 4))
    it.files[name] = bytes(data)
    it.said.append(f"{how} of {name}")


def spoil_graph_bytes(it: Spoilt) -> None:
    graphs = [name for name in it.files if name.endswith(".onnx")]
    name = it.rng.choice(graphs)
    if it.rng.random() < 0.1:
        it.files[name] = it.files[it.rng.choice(list(it.files))]
    else:
        it.files[name] = spoilt_bytes(it.rng, it.files[name])
    it.said.append(f"bytes of {name}")


def spoil_graph(it: Spoilt) -> None:
    """Change what a graph says, so that it is a protobuf message still."""
    rng = it.rng
    name = rng.choice([name for name in it.files if name.endswith(".onnx")])
    model = onnx.load_from_string(it.files[name])
    graph = model.graph
    outside = [tensor for tensor in graph.initializer if tensor.external_data]
    for _ in range(rng.choice([1, 1, 3])):
        how = rng.choice(
            ["place", "place", "dims", "type", "input", "output", "node", "attribute", "wire", "inner", "drop"]
        )
        if how in ("place", "dims", "type") and outside:
            tensor = rng.choice(outside)
            if how == "place":
                pair = rng.choice(tensor.external_data)
                pair.value = rng.choice([*map(str, INTEGERS), *TEXTS]).encode("utf-8", "replace").decode()
            elif how == "dims" and tensor.dims:
                tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice([0, 1, -1, 2**31, 2**62, 7])
            else:
                tensor.data_type = rng.choice([0, 1, 2, 7, 8, 10, 11, 16, 99])
        elif how in ("input", "output") and graph.input and graph.output:
            value = rng.choice(graph.input if how == "input" else graph.output)
            dims = value.type.tensor_type.shape.dim
            what = rng.choice(["name", "type", "dim", "add", "clear"])
            if what == "name":
                value.name = rng.choice(TEXTS).encode("utf-8", "replace").decode()
            elif what == "type":
                value.type.tensor_type.elem_type = rng.choice([0, 1, 7, 10, 8])
            elif what == "dim" and dims:
                rng.choice(dims).dim_value = rng.choice([0, 1, -1, 2**40, 11])
            elif what == "add":
                dims.add().dim_value = 1
            else:
                value.type.tensor_type.ClearField("shape")
        elif graph.node:
            node = rng.choice(graph.node)
            if how == "node":
                node.op_type = rng.choice(
                    ["Relu", "MatMul", "Add", "Reshape", "Loop", "If", "Scan", "Identity", "Expand"]
                )
            elif how == "attribute" and node.attribute:
                attribute = rng.choice(node.attribute)
                attribute.i, attribute.f = rng.choice([0, 1, -1, 2**31, 2**62]), rng.choice([0.0, 1e38])
                if attribute.ints:
                    attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice([0, -1, 2**40, 3])
            elif how == "wire" and node.input:
                node.input[rng.randrange(len(node.input))] = rng.choice(rng.choice(graph.node).output)
            elif how == "inner" and outside:
                graph.node.append(onnx.helper.make_node("Constant", [], ["more"], value=rng.choice(outside)))
            elif how == "drop":
                graph.node.remove(node)
        it.said.append(f"{how} in {name}")
    it.files[name] = model.SerializeToString()


def other_sizes(it: Spoilt) -> None:
    """Make it another network throughout: what the native engine runs then was never trained nor published."""
    rng, manifest = it.rng, it.manifest
    if manifest.get("kind"):
        return
    sizes = {name: rng.choice([1, 2, 3, 5, 8, 16, 17, 33]) for name in manifest["sizes"]}
    sizes["channels"], sizes["classes"] = manifest["channels"], len(manifest["labels"])
    for name, largest in (("depth", 3), ("stages", 3), ("pathways", 3)):
        if name in sizes:
            sizes[name] = rng.randint(1, largest)
    shape = networks.describe(manifest["model"], sizes, "fuzz")
    offset, tensors, content = 0, [], io.BytesIO()
    draw = np.random.default_rng(rng.randrange(2**32))
    for name, size in shape.weights.items():
        content.write(draw.standard_normal(size).astype("<f4").tobytes())
        tensors.append({"name": name, "dtype": "float32", "shape": list(size), "offset": offset})
        offset = content.tell()
    manifest.update(sizes=sizes, tensors=tensors, look_ahead=shape.look_ahead)
    manifest["state"] = [{"name": name, "shape": list(size)} for name, size in shape.state.items()]
    it.files["weights.bin"] = content.getvalue()
    it.said.append(f"sizes {sizes}")


def spoil_zip(it: Spoilt) -> None:
    """Change bytes of the zip, most of all of its directory at the end."""
    rng = it.rng

    def change(content: bytes) -> bytes:
        how = rng.choice(["bytes", "directory", "directory", "append"])
        if how == "directory":
            data = bytearray(content)
            entries = [i for i in range(len(data) - 46) if data[i : i + 4] == b"PK\x01\x02"]
            entry = rng.choice(entries)
            place, kind = rng.choice(
                [(8, "<H"), (10, "<H"), (16, "<I"), (20, "<I"), (24, "<I"), (28, "<H"), (42, "<I")]
            )
            most = 2 ** (8 * struct.calcsize(kind)) - 1
            odd = [0, 1, 8, 9, 12, 14, 93, 95, 99, most, most // 2, rng.randrange(most)]
            struct.pack_into(kind, data, entry + place, min(rng.choice(odd), most))
            return bytes(data)
        return content * 2 if how == "append" and rng.random() < 0.3 else spoilt_bytes(rng, content)

    it.zipped = change
    it.said.append("zip bytes")


def spoil_folder(it: Spoilt) -> None:
    """Change a file between the bundle's loading and its use."""
    rng = it.rng
    name = rng.choice([*it.files, "manifest.json"])
    how = rng.choice(["bytes", "cut", "gone", "folder", "pipe", "link"])

    def change(folder: Path) -> None:
        path = folder / name
        if how == "bytes":
            path.write_bytes(spoilt_bytes(rng, path.read_bytes()))
            return
        if how == "cut":
            os.truncate(path, path.stat().st_size // 2)
            return
        path.unlink()
        if how == "folder":
            path.mkdir()
        elif how == "pipe":
            os.mkfifo(path)
        elif how == "link":
            path.symlink_to(rng.choice(["/dev/zero", "/etc/passwd", name, "/nowhere"]))

    it.zipped, it.later = None, change
    it.said.append(f"{how} {name} later")


SPOILERS = (
    [spoil_value] * 8 + [spoil_manifest_bytes, spoil_weights, spoil_weights, spoil_graph_bytes, spoil_graph_bytes]
    + [spoil_graph] * 4 + [other_sizes] * 2 + [spoil_zip, spoil_zip, spoil_folder]
)  # fmt: skip


def spoil(originals: list[tuple[dict[str, Any], dict[str, bytes]]], rng: random.Random) -> Spoilt:
    manifest, files = rng.choice(originals)
    it = Spoilt(rng, copy.deepcopy(manifest), dict(files), state=rng.random() < 0.9)
    it.zipped = (lambda content: content) if rng.random() < 0.3 else None
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        with suppress(Exception):  # what is spoilt already may not be spoilt in every way
            rng.choice(SPOILERS)(it)
    return it


def write(it: Spoilt, folder: Path) -> Path:
    """Write the bundle into an empty folder and return where it is."""
    entries = it.manifest.get("files")
    if it.state and isinstance(entries, dict):
        for name, content in it.files.items():
            if isinstance(entries.get(name), dict) and entries[name].get("sha256") is not None:
                entries[name].update(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
    manifest = json.dumps(it.manifest).encode() if it.raw is None else it.raw
    if it.zipped is not None:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", it.rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as archive:
            for name, content in (("manifest.json", manifest), *it.files.items()):
                archive.writestr(name, content)
        (folder / "b.zip").write_bytes(it.zipped(stream.getvalue()))
        return folder / "b.zip"
    for name, content in (("manifest.json", manifest), *it.files.items()):
        (folder / name).write_bytes(content)
    return folder
