"""Small files that stand for much: each is refused by a bound before the memory or the time is spent."""

from __future__ import annotations

import io
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.nn.checkpoint.hostile import module_code, pickled, saved, tensor_call, zipped
from ultralytics.nn.checkpoint.describe import describe_file
from ultralytics.nn.checkpoint.format import read_checkpoint
from ultralytics.utils.errors import CheckpointError

HEAD = b"\x80\x02}(" + pickle.dumps("model", 2)[2:-1]
YAML = {"nc": 1, "backbone": [[-1, 1, "Conv", [8]]], "head": [[-1, 1, "Conv", [8]]]}
TENSOR = tensor_call("HalfStorage", numel=50_000, size=(50_000,))[len(b"\x80\x02}(X\x01\x00\x00\x00w") : -2]
DATA = {"data/0": bytes(100_000)}


def text(value: Any) -> bytes:
    """Pickle code of a plain value."""
    return pickle.dumps(value, 2)[2:-1]


def tree(modules: bytes, extra: bytes = b"") -> bytes:
    """A file of upstream's form: a network with these modules."""
    network = module_code(modules, {"yaml": YAML, "names": {0: "a"}})
    return zipped(HEAD + network[:-2] + extra + network[-2:] + b"u.", DATA)


def many(count: int, code: bytes, memo: int) -> bytes:
    """A dict of `count` names of one object, which is made once."""
    first = text("0") + code + b"r" + struct.pack("<I", memo)
    rest = b"".join(text(str(i)) + b"j" + struct.pack("<I", memo) for i in range(1, count))
    return b"}(" + first + rest + b"u"


def shared_halves() -> bytes:
    """2,000 names of one tensor in half precision, each of which would be copied as float32."""
    return tree(b"}", text("_parameters") + many(2_000, TENSOR, 1000))


def split_biases() -> bytes:
    """1,000 folded convolutions with one bias, each of which would get the four tensors of a batch norm."""
    inner = b"}(" + text("bias") + TENSOR + b"u"
    conv = module_code(b"}", name="Conv2d")
    conv = conv[:-2] + text("_parameters") + inner + conv[-2:]
    return tree(many(1_000, module_code(b"}(" + text("conv") + conv + b"u", name="Conv"), 2000))


def hidden_names() -> bytes:
    """A list of 50,000 buffers that are left out, in each of 500 modules."""
    hidden = text("_non_persistent_buffers_set") + text([f"b{i}" for i in range(50_000)])
    module = module_code(b"}", name="Conv2d")
    return tree(many(500, module[:-2] + hidden + module[-2:], 3000))


def own(**changes: Any) -> bytes:
    """A file of this package with other fields."""
    record = {"class": "RTDETRDetectionModel", "yaml": YAML, "nc": 1, "names": {0: "a"}, "state_dict": {}}
    return saved({"format": "rtdetr-shsa", "format_version": 1, "model": record, **changes})


def second_directory() -> bytes:
    """A zip whose end record has another one inside, with a small number where the true one is large."""
    end = bytearray(b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 9, 9, 80 << 20, 0, 0))
    end[18:22] = b"PK\x05"[:2] + b"\x05\x06"
    return bytes(200) + bytes(end) + b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, 46, 0, 0)


CASES = {
    "shared_halves": (shared_halves, "more elements than the file can hold"),
    "split_biases": (split_biases, "more elements than the file can hold"),
    "hidden_names": (hidden_names, "parameters and buffers"),
    "overlap": (lambda: zipped(tensor_call(size=(2, 2), stride=(1, 1)), {"data/0": bytes(16)}), "elements twice"),
    "directory": (lambda: b"PK" + second_directory(), "above 16,777,216"),
    "digits": (lambda: own(epoch=10**5000), "more than 128 bits"),
    "no_model": (lambda: own(model=None, ema=None), None),
    "backbone_number": (lambda: own(model={**_record(), "yaml": {"backbone": 5, "head": 7}}), None),
    "modules_text": (lambda: own(modules=["blocks.py"]), None),
    "number_keys": (lambda: saved({0: torch.zeros(2), 1: torch.ones(2)}), "no key 'format'"),
    "rep_conv": (lambda: tree(b"}(" + text("m") + _rep_conv() + b"u"), "RepConv at 'm'"),
}


def _record() -> dict[str, Any]:
    return {"class": "RTDETRDetectionModel", "yaml": YAML, "nc": 1, "state_dict": {}}


def _rep_conv() -> bytes:
    return module_code(b"}(" + text("conv") + module_code(b"}", name="Conv2d") + b"u", name="RepConv")


@pytest.mark.parametrize("name", CASES)
def test_a_small_file_stays_small(tmp_path: Path, name: str) -> None:
    make, reason = CASES[name]
    file = tmp_path / "w.pt"
    file.write_bytes(make())
    if reason is None:
        assert describe_file(file)
        return
    with pytest.raises(CheckpointError, match=reason):
        read_checkpoint(file)


def test_views_that_a_contiguous_tensor_may_have_are_read(tmp_path: Path) -> None:
    whole = torch.arange(24.0).reshape(2, 3, 4)
    views = {"t": whole.transpose(0, 2), "s": whole[:, 1:, ::2], "c": whole.permute(2, 0, 1)[1:], "one": whole[:1, :1]}
    torch.save(views, tmp_path / "w.pt")
    state = read_checkpoint(tmp_path / "w.pt")["state_dict"]
    assert all(torch.equal(state[k], v) for k, v in views.items())


def test_what_a_file_holds_does_not_steer_the_terminal(tmp_path: Path) -> None:
    """Class names and dates are shown without the codes that they hold; a name that is not Unicode is escaped."""
    names = {0: "\x1b[2J\x1b]0;title\x07cat", 1: "a\nb", 2: "caf\udce9"}
    file = tmp_path / "w.pt"
    file.write_bytes(own(model={**_record(), "nc": 3, "names": names}, date="\x1b[31m2026"))
    assert read_checkpoint(file)["model"]["names"] == {0: "cat", 1: "a b", 2: "caf\\udce9"}
    shown = "\n".join(describe_file(file))
    assert "\x1b" not in shown and "date 2026" not in shown.replace("2026", "") and "2026" in shown
    shown.encode()


def test_safetensors_with_impossible_sides(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    header = b'{"a":{"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,0]}}'
    file = tmp_path / "w.safetensors"
    file.write_bytes(io.BytesIO(struct.pack("<Q", len(header)) + header).getvalue())
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        read_checkpoint(file)


def test_the_helper_makes_whole_files(tmp_path: Path) -> None:
    """The refusals above are not those of a broken pickle."""
    (tmp_path / "w.pt").write_bytes(tree(b"}"))
    assert read_checkpoint(tmp_path / "w.pt")["model"]["names"] == {0: "a"}
    (tmp_path / "w.pt").write_bytes(zipped(pickled({"a": 1})))
    with pytest.raises(CheckpointError, match="keys: a"):
        read_checkpoint(tmp_path / "w.pt")
