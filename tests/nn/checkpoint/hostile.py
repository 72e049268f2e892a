"""Files that a weights reader must survive, made by: `python -m tests.nn.checkpoint.hostile good.pt folder`.

Each row is a name and the bytes of a file. Payloads would create the canary file of their folder if anything ran them.
"""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

CANARY = "canary"
Row = tuple[str, bytes]


class Call:
    """Pickles as a call of a function that the reading machine may not even have."""

    def __init__(self, module: str, name: str, *args: Any) -> None:
        self.module, self.name, self.args = module, name, args


def pickled(value: Any) -> bytes:
    """Pickle a value by hand: containers, plain values, and `Call`s, which become GLOBAL + REDUCE."""
    return b"\x80\x02" + _code(value) + b"."


def _code(value: Any) -> bytes:
    if isinstance(value, Call):
        args = b"(" + b"".join(_code(a) for a in value.args) + b"t"
        return f"c{value.module}\n{value.name}\n".encode() + args + b"R"
    if isinstance(value, dict):
        return b"}(" + b"".join(_code(k) + _code(v) for k, v in value.items()) + b"u"
    if isinstance(value, (list, tuple)):
        inner = b"(" + b"".join(_code(v) for v in value)
        return b"]" + inner + b"e" if isinstance(value, list) else inner + b"t"
    return pickle.dumps(value, 2)[2:-1]


def zipped(
    data: bytes, members: dict[str, bytes] | None = None, compress: bool = False, root: str = "archive"
) -> bytes:
    """Put a pickle, and further members, in the zip form of torch.save."""
    out = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(out, "w", kind) as z:
        for name, content in {"data.pkl": data, "byteorder": b"little", "version": b"3\n", **(members or {})}.items():
            z.writestr(f"{root}/{name}", content)
    return out.getvalue()


def saved(value: Any) -> bytes:
    """What torch.save writes."""
    out = io.BytesIO()
    torch.save(value, out)
    return out.getvalue()


def calls(canary: str) -> dict[str, Call]:
    """One call each of what hostile pickles use."""
    code = f"open({canary!r}, 'w').close()"
    shell = f"touch {canary}"
    return {
        "os.system": Call("os", "system", shell),
        "posix.system": Call("posix", "system", shell),
        "nt.system": Call("nt", "system", shell),
        "subprocess.Popen": Call("subprocess", "Popen", ["touch", canary]),
        "subprocess.check_output": Call("subprocess", "check_output", ["touch", canary]),
        "builtins.eval": Call("builtins", "eval", code),
        "builtins.exec": Call("builtins", "exec", code),
        "builtins.open": Call("builtins", "open", canary, "w"),
        "builtins.compile": Call("builtins", "compile", code, "x", "exec"),
        "builtins.__import__": Call("builtins", "__import__", "antigravity"),
        "__builtin__.eval": Call("__builtin__", "eval", code),
        "builtins.getattr": Call("builtins", "getattr", Call("builtins", "__import__", "os"), "system"),
        "chained": Call("builtins", "map", Call("builtins", "eval", "print"), [code]),
        "pathlib.touch": Call("pathlib", "Path.touch", Call("pathlib", "PosixPath", canary)),
        "shutil.rmtree": Call("shutil", "rmtree", canary),
        "runpy.run_path": Call("runpy", "run_path", canary),
        "importlib": Call("importlib", "import_module", "antigravity"),
        "webbrowser.open": Call("webbrowser", "open", "http://127.0.0.1:9/"),
        "socket": Call("socket", "create_connection", ("127.0.0.1", 9)),
        "torch.load": Call("torch", "load", canary),
        "torch.hub.load": Call("torch.hub", "load", "a/b", "c"),
        "torch.utils.cpp": Call("torch.utils.cpp_extension", "load", "x", canary),
        "torch._dynamo": Call("torch._dynamo.guards", "GuardBuilder.get", code),
        "numpy.load": Call("numpy", "load", canary),
        "numpy.testing.runstring": Call("numpy.testing._private.utils", "runstring", code, {}),
        "timeit": Call("timeit", "timeit", code),
        "pty.spawn": Call("pty", "spawn", ["touch", canary]),
        "ctypes": Call("ctypes", "CDLL", canary),
        "yaml.load": Call("yaml", "unsafe_load", f"!!python/object/apply:os.system ['{shell}']"),
        "pickle.loads": Call("pickle", "loads", pickled(Call("os", "system", shell))),
        "ultralytics": Call("ultralytics.utils.downloads", "download", "http://127.0.0.1:9/x", canary),
    }


def programs(canary: str) -> Iterator[Row]:
    """Calls in every place of a file where they might be reached."""
    for name, call in calls(canary).items():
        yield f"root {name}", zipped(pickled(call))
        yield f"model {name}", zipped(pickled({"format": "rtdetr-shsa", "format_version": 1, "model": call}))
        yield f"bare {name}", pickled(call)
    for name in ("os.system", "builtins.eval", "subprocess.Popen"):
        call = calls(canary)[name]
        yield f"upstream {name}", zipped(pickled({"model": call, "train_args": {"lr0": call}, "ema": None}))
        yield f"weights {name}", zipped(pickled({"a.weight": call}))
        yield f"text protocol {name}", zipped(f"c{call.module}\n{call.name}\n(V{call.args[0]}\ntR.".encode())
        yield (
            f"stack global {name}",
            zipped(
                b"\x80\x04\x8c"
                + bytes([len(call.module)])
                + call.module.encode()
                + b"\x8c"
                + bytes([len(call.name)])
                + call.name.encode()
                + b"\x93"
                + _code((call.args[0],))
                + b"R."
            ),
        )
        yield f"inst {name}", zipped(f"(V{canary}\ni{call.module}\n{call.name}\n.".encode())
        yield f"build {name}", zipped(b"\x80\x02" + _code(call) + _code({"__setstate__": canary}) + b"b.")


def pickles() -> Iterator[Row]:
    """Pickles that are broken, infinite or too big, without a call."""
    bodies = {
        "empty": b"",
        "only stop": b".",
        "no stop": b"\x80\x02}",
        "mark left": b"(.",
        "unknown opcode": b"\x80\x02\xff.",
        "memo miss": b"\x80\x02h\x07.",
        "huge memo": b"\x80\x02Nr\xff\xff\xff\x7f.",
        "negative size": b"\x80\x02\x8b\xff\xff\xff\xff.",
        "huge text": b"\x80\x02X\xff\xff\xff\x7fabc.",
        "huge bytes": b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f.",
        "extension": b"\x80\x02\x82\x01.",
        "protocol 9": b"\x80\x09N.",
        "buffer": b"\x80\x05\x97.",
        "odd dict": b"\x80\x02}(K\x01u.",
        "list key": b"\x80\x02}(]K\x01u.",
        "append to int": b"\x80\x02K\x01K\x02a.",
        "build on list": b"\x80\x02]}b.",
        "call a number": b"\x80\x02K\x01)R.",
        "foreign reference": b"\x80\x02X\x03\x00\x00\x00abcQ.",
        "deep": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
        "deep dict": b"\x80\x02" + b"}K\x01" * 50_000 + b"N" + b"s" * 50_000 + b".",
        "cycle": b"\x80\x02]q\x00h\x00a.",
        "cycle in model": b"\x80\x02}q\x00X\x05\x00\x00\x00modelh\x00s.",
        "laughs": b"\x80\x02]q\x00"
        + b"".join(b"](" + b"h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) for i in range(90))
        + b".",
        "many lists": b"\x80\x02(" + b"]" * 1_200_000 + b"l.",
        "many dicts": b"\x80\x02(" + b"}" * 950_000 + b"l.",
        "copies": b"\x80\x02]q\x00("
        + b"N" * 200_000
        + b"e0"
        + b"ccollections\nOrderedDict\nq\x010"
        + b"cbuiltins\nset\nq\x020("
        + b"h\x02h\x00\x85R" * 200_000
        + b"l.",
        "surrogates": b"\x80\x02X\x03\x00\x00\x00\xed\xa0\x80.",
        "bad long": b"\x80\x02\x8a\x01.",
        "digits": b"I" + b"9" * 100_000 + b"\n.",
        "hash collisions": b"\x80\x02}("
        + b"".join(b"\x8a\x0a" + ((2**61 - 1) * (i + 1)).to_bytes(10, "little") + b"N" for i in range(20_000))
        + b"u.",
    }
    for name, body in bodies.items():
        yield f"pickle {name}", zipped(body)


def module_code(children: bytes, extra: dict[str, Any] | None = None, name: str = "RTDETRDetectionModel") -> bytes:
    """The pickle of a module object, by hand: `children` is the code of its `_modules`."""
    state = (
        b"}(" + _code("_modules") + children + b"".join(_code(k) + _code(v) for k, v in (extra or {}).items()) + b"u"
    )
    return f"cultralytics.nn.tasks\n{name}\n)\x81".encode("latin-1") + state + b"b"


def trees() -> Iterator[Row]:
    """Pickled module trees, as genuine files have them, that are infinitely deep, empty or wrong."""
    head = b"\x80\x02}(" + _code("model")
    yaml = {"nc": 1, "backbone": [[-1, 1, "Conv", [8, 3, 2]]], "head": [[-1, 1, "Conv", [8, 3, 2]]]}
    leaf = module_code(b"}", {"yaml": yaml, "names": {0: "a"}})
    cycle = (
        b"cultralytics.nn.tasks\nRTDETRDetectionModel\n)\x81q\x63}("
        + _code("_modules")
        + b"}("
        + _code("m")
        + b"h\x63uub"
    )
    double = module_code(b"}") + b"q\x01"
    for i in range(1, 60):
        double += (
            b"0"
            + module_code(b"}(" + _code("a") + b"h" + bytes([i]) + _code("b") + b"h" + bytes([i]) + b"u")
            + b"q"
            + bytes([i + 1])
        )
    bodies = {
        "empty": head + leaf + b"u.",
        "no yaml": head + module_code(b"}") + b"u.",
        "cycle": head + cycle + b"u.",
        "doubling": b"\x80\x02" + double + b"0}(" + _code("model") + b"h\x3cu.",
        "modules are a list": head + module_code(b"]") + b"u.",
        "bare module": b"\x80\x02" + leaf + b".",
    }
    wrong = {
        "yaml": [5, "x", [], {"nc": 10**12}],
        "names": [5, "x", {0: 1}, ["a"] * 3],
        "nc": ["x", 10**12],
        "args": [5, [1]],
        "_parameters": [5, {"w": 1}],
    }
    for key, values in wrong.items():
        for i, value in enumerate(values):
            bodies[f"{key} {i}"] = head + module_code(b"}", {"yaml": yaml, "names": {0: "a"}, key: value}) + b"u."
    for name, body in bodies.items():
        yield f"tree {name}", zipped(body)


def tensor_call(
    kind: str = "FloatStorage", key: Any = "0", numel: Any = 4, offset: Any = 0, size: Any = (4,), stride: Any = (1,)
) -> bytes:
    """A state dict of one tensor, described by hand."""
    storage = b"(" + _code("storage") + f"ctorch\n{kind}\n".encode() + _code(key) + _code("cpu") + _code(numel) + b"tQ"
    args = b"(" + storage + _code(offset) + _code(size) + _code(stride) + b"\x89}t"
    return b"\x80\x02}(" + _code("w") + b"ctorch._utils\n_rebuild_tensor_v2\n" + args + b"Ru."


def tensors() -> Iterator[Row]:
    """Tensors whose description does not fit their bytes."""
    data = {"data/0": struct.pack("<4f", 1, 2, 3, 4)}
    cases: dict[str, dict[str, Any]] = {
        "reaches outside": {"size": (5,)},
        "offset outside": {"offset": 3, "size": (2,)},
        "negative offset": {"offset": -1},
        "negative stride": {"stride": (-1,)},
        "negative side": {"size": (-4,)},
        "expanded": {"size": (1 << 40,), "stride": (0,)},
        "overflow": {"size": (1 << 31, 1 << 31, 1 << 31), "stride": (0, 0, 0)},
        "promised more": {"numel": 1 << 40, "size": (1 << 40,)},
        "no such storage": {"key": "7"},
        "upward key": {"key": "../../../etc/passwd"},
        "number key": {"key": 0},
        "other kind": {"kind": "QInt8Storage"},
        "kind of code": {"kind": "load"},
        "bool of floats": {"kind": "BoolStorage", "numel": 16, "size": (16,), "stride": (1,)},
        "text size": {"size": "abcd"},
        "nested size": {"size": ((4,),)},
        "strides missing": {"stride": ()},
        "float size": {"size": (4.0,)},
        "many axes": {"size": (1,) * 100, "stride": (1,) * 100},
        "wrong numel": {"numel": 3},
        "double": {"kind": "DoubleStorage"},
    }
    for name, case in cases.items():
        yield f"tensor {name}", zipped(tensor_call(**case), data)
    views = b"".join(_code(f"k{i}") + tensor_call()[len(b"\x80\x02}(" + _code("w")) : -2] for i in range(3000))
    yield "tensor many views", zipped(b"\x80\x02}(" + views.replace(_code(4), _code(4)) + b"u.", data)


def archives(good: bytes) -> Iterator[Row]:
    """Zip files that are bombs, nested, ambiguous or damaged."""
    zeros = bytes(100_000_000)
    yield "zip bomb", zipped(pickled({"a": 1}), {"data/0": zeros}, compress=True)
    yield "zip bomb pickle", zipped(b"\x80\x02" + b"N0" * 30_000_000 + b"N.", compress=True)
    yield "nested", zipped(pickled({}), {"inner.zip": zipped(pickled({}), {"data/0": zeros[:1000]}, compress=True)})
    yield "zip in pickle's place", zipped(good)
    yield "no pickle", zipped(b"", root="x").replace(b"data.pkl", b"data.pkx")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        z.writestr("a/data.pkl", pickled({}))
        z.writestr("b/data.pkl", pickled({}))
    yield "two pickles", out.getvalue()
    yield "upward names", zipped(pickled({}), {"../../evil": b"x"}, root="..")
    yield "torchscript", zipped(pickled({}), {"constants.pkl": b"\x80\x02)."})
    yield "empty zip", b"PK\x05\x06" + bytes(18)
    yield "huge directory", b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 65535, 65535, 0x7FFFFFFF, 0, 0)
    at = good.rfind(b"PK\x05\x06")
    yield "directory elsewhere", good[: at + 16] + b"\xff\xff\xff\x7f" + good[at + 20 :]
    entry = good.rfind(b"PK\x01\x02")
    yield "claims 3 GB", good[: entry + 20] + struct.pack("<II", 3 << 30, 3 << 30) + good[entry + 28 :]
    yield "encrypted", good[: entry + 8] + b"\x01\x00" + good[entry + 10 :]
    yield "other compression", good[: entry + 10] + b"\x0e\x00" + good[entry + 12 :]
    yield "big endian", zipped(pickled({}), {"byteorder": b"big"})
    yield "many members", zipped(pickled({}), {f"data/{i}": b"" for i in range(20_000)})


def damaged(good: bytes, seed: int = 0) -> Iterator[Row]:
    """Cut and bit-flipped copies of a good file, and files of another kind."""
    rng = random.Random(seed)
    for i in range(20):
        yield f"cut {i}", good[: int(len(good) * i / 20)]
    yield "cut last byte", good[:-1]
    yield "doubled", good + good
    yield "prefixed", b"#!/bin/sh\n" + good
    for i in range(60):
        copy = bytearray(good)
        for _ in range(1 if i < 40 else 20):
            copy[rng.randrange(len(copy))] ^= 1 << rng.randrange(8)
        yield f"flipped {i}", bytes(copy)
    others = {
        "html": b"<html></html>",
        "json": b'{"a": 1}',
        "zeros": bytes(4096),
        "elf": b"\x7fELF" + bytes(100),
        "text": b"weights",
    }
    yield from others.items()
    for name, head in (("long", 1 << 62), ("short", 5), ("equal", 2)):
        yield f"safetensors {name}", struct.pack("<Q", head) + b"{}"
    for name, meta in (("no json", "{"), ("list", "[]"), ("deep", "[" * 50_000), ("model", '{"model": []}')):
        text = json.dumps({"__metadata__": {"rtdetr-shsa": meta}}).encode()
        yield f"safetensors meta {name}", struct.pack("<Q", len(text)) + text


def fields(good: dict[str, Any]) -> Iterator[Row]:
    """A good checkpoint with one field of a wrong type or an absurd value."""
    record = good["model"]
    wrong: dict[str, list[Any]] = {
        "class": [None, 3, "os.system", ["a"]],
        "yaml": [None, [], "x.yaml", 7, {}, {**record["yaml"], "nc": 10**9}, {**record["yaml"], "head": {}}],
        "nc": [None, "3", 0, -1, 10**12, 3.5, True],
        "ch": ["3", 0, 10**9],
        "names": [["a"], "abc", {0: 1}, {"x": "a"}, 5],
        "bn_eps": ["1e-3", -1.0, 5.0, float("nan")],
        "state_dict": [None, [], {}, {"a": 1}, {1: torch.zeros(1)}, "x"],
        "args": [[1], "x"],
        "fused": ["yes", True],
        "stride": ["x", None],
    }
    for key, values in wrong.items():
        for i, value in enumerate(values):
            yield f"field {key} {i}", saved({**good, "model": {**record, key: value}})
    rows: dict[str, Any] = {
        "wide": [-1, 1, "Conv", [900_000, 3, 2]],
        "repeats": [-1, 10**9, "Conv", [8, 1, 1]],
        "parens": [-1, 1, "Conv", ["(" * 5000]],
        "download": [-1, 1, "TorchVision", [8, "resnet18", "DEFAULT"]],
        "code": [-1, 1, "__import__('os').system", ["x"]],
        "nn code": [-1, 1, "nn.Module.__init__.__globals__", []],
        "nested": [-1, 1, "Conv", [[[[[[[[[1]]]]]]]]]],
        "huge kernel": [-1, 1, "Conv", [8, 99_999, 1]],
        "attention": [-1, 1, "AIFI", [10**6, 1]],
        "upsample": [-1, 1, "nn.Upsample", [None, 10**5]],
        "infinite": [-1, 1, "Conv", [float("inf"), 3, 2]],
        "many blocks": [-1, 200, "ResNetLayer", [16, 4096, 1, False, 1000]],
    }
    for name, row in rows.items():
        yaml = {**record["yaml"], "backbone": [row, *record["yaml"]["backbone"][1:]]}
        yield f"row {name}", saved({**good, "model": {**record, "yaml": yaml}})
    yield (
        "many rows",
        saved({**good, "model": {**record, "yaml": {**record["yaml"], "backbone": [rows["upsample"]] * 5000}}}),
    )
    top = {
        "epoch": "3",
        "train_args": [1],
        "train_metrics": 5,
        "modules": [3],
        "date": 5,
        "ema": 5,
        "optimizer": "x",
        "format_version": 99,
    }
    for key, value in top.items():
        yield f"top {key}", saved({**good, key: value})


def table(good: bytes, canary: str) -> Iterator[Row]:
    """All hostile files; `good` is a whole checkpoint of this package."""
    yield "empty", b""
    yield from programs(canary)
    yield from pickles()
    yield from trees()
    yield from tensors()
    yield from archives(good)
    yield from damaged(good)
    yield from fields(torch.load(io.BytesIO(good), weights_only=True))


if __name__ == "__main__":
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    for number, (label, content) in enumerate(table(Path(sys.argv[1]).read_bytes(), str(folder / CANARY))):
        suffix = ".safetensors" if label.startswith("safetensors") else ".pt"
        (folder / f"{number:03d} {label.replace('/', '_')}{suffix}").write_bytes(content)
