"""The pickle machine: equal to Python's own reader on plain values, inert on all else, bounded on hostile input."""

from __future__ import annotations

import collections
import io
import math
import pickle
from pathlib import PurePosixPath

import pytest
import torch

from ultralytics.nn.checkpoint.pickle_reader import Record, StoredTensor, read_pickle
from ultralytics.nn.checkpoint.zip_archive import open_archive
from ultralytics.utils.errors import CheckpointError

VALUES = [
    {},
    [],
    (),
    None,
    True,
    -1,
    2**40,
    -(2**70),
    math.pi,
    "",
    "日本",
    b"",
    b"\x00\xff",
    [1, [2, (3, "a")]],
    {"a": {1: None, "b": [True, 1.5]}},
    {("x", "y"): 1},
    list(range(3000)),
    {str(i): (i, i + 1) for i in range(300)},
    collections.OrderedDict(a=1, b=[2]),
]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("value", VALUES, ids=lambda v: f"{v!r:.20}")
def test_plain_values(value, protocol):
    assert read_pickle(pickle.dumps(value, protocol))[0] == value


def test_sets_become_lists_and_paths_text():
    assert sorted(read_pickle(pickle.dumps({3, 1, 2}, 2))[0]) == [1, 2, 3]
    assert read_pickle(pickle.dumps(PurePosixPath("a/b"), 2))[0] in ("a/b", Record("pathlib.PurePosixPath", ("a", "b")))


def test_shared_objects_stay_shared_and_cycles_are_read():
    inner = [1]
    a, b = read_pickle(pickle.dumps([inner, inner], 2))[0]
    assert a is b
    loop: list = []
    loop.append(loop)
    read = read_pickle(pickle.dumps(loop, 2))[0]
    assert read[0] is read


class Thing:
    """Pickled by reference to this class."""

    def __init__(self) -> None:
        self.a = {"b": 1}


def test_an_object_becomes_a_record():
    value, names = read_pickle(pickle.dumps({"x": Thing()}, 2))
    record = value["x"]
    assert isinstance(record, Record) and record.name.endswith("Thing") and record.state == {"a": {"b": 1}}
    assert any(n.endswith(".Thing") for n in names)


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "damaged"),
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"\x80\x02(" + b"N" * 1_000_010 + b"l.", "opcodes"),
        (b"\x80\x02}\x8a\x0a" + b"\xff" * 9 + b"\x00Ns.", "60 bits"),
    ],
)
def test_refusals(data, word):
    with pytest.raises(CheckpointError, match=word):
        read_pickle(data)


@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]
)
def test_tensors_equal_torchs_own(tmp_path, dtype):
    """Every kind, with views: transposed, cut, 0-D, empty."""
    base = torch.arange(24).view(4, 6).to(getattr(torch, dtype))
    value = {"a": base, "t": base.t(), "cut": base[1:3, ::2], "0": base[0, 1], "none": base[:0], "p": [base[2]]}
    torch.save(value, tmp_path / "x.pt")
    want = torch.load(tmp_path / "x.pt", weights_only=True)
    with open_archive(tmp_path / "x.pt") as archive:
        assert isinstance(archive.root["a"], StoredTensor)
        got = archive.plain(archive.root)
    for key, tensor in want.items():
        pairs = [(tensor, got[key])] if key != "p" else [(tensor[0], got[key][0])]
        assert all(a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b) for a, b in pairs), key
    assert got["a"].data_ptr() == got["t"].data_ptr()


def test_a_parameter_is_its_tensor(tmp_path):
    buffer = io.BytesIO()
    torch.save(torch.nn.Parameter(torch.ones(3)), buffer)
    (tmp_path / "p.pt").write_bytes(buffer.getvalue())
    with open_archive(tmp_path / "p.pt") as archive:
        assert archive.plain(archive.root).tolist() == [1, 1, 1]
