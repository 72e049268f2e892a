"""Files of safetensors, held against the package's own reader and writer."""

import json

import pytest
import torch

from ultralytics.nn.checkpoint.safetensors_io import MAX_DESCRIPTION, read_safetensors, write_safetensors
from ultralytics.utils.errors import CheckpointError

package = pytest.importorskip("safetensors")
SHARED = torch.arange(12.0).view(3, 4)
STATE = {"a": SHARED.T, "b": SHARED[1], "c": torch.tensor(3), "d": torch.zeros(0, 2, dtype=torch.float16)}

METADATA_KEY = "rtdetr-shsa"  # on disk: it must not change


def model_record(**more):
    return {"class": "M", "nc": 2, "names": {"0": "猫", "1": "b"}, "state_dict": STATE, **more}


def written(path, meta):
    from safetensors.torch import save_file

    save_file({"w": torch.ones(2)}, path, None if meta is None else {METADATA_KEY: meta})
    return path


def test_tensors_and_facts(tmp_path):
    """Views of one storage become tensors of their own; the state of a run stays out, its arguments come along."""
    run = {"optimizer": {"x": 1}, "train_state": {}, "rng": [1], "epoch": 4, "train_args": {"imgsz": 96}}
    path = write_safetensors(tmp_path / "m.safetensors", {**run, "model": model_record(nc=9), "ema": model_record()})
    with package.safe_open(str(path), framework="pt") as f:
        assert sorted(f.keys()) == ["a", "b", "c", "d"] and f.metadata()["format"] == "pt"
        assert all(torch.equal(f.get_tensor(k), v) and f.get_tensor(k).dtype == v.dtype for k, v in STATE.items())
        description = json.loads(f.metadata()[METADATA_KEY])
    assert description["model"] == {"class": "M", "nc": 2, "names": {"0": "猫", "1": "b"}}  # of the averaged weights
    assert (
        description["train_args"] == {"imgsz": 96}
        and not {"optimizer", "rng", "train_state", "ema"} & description.keys()
    )
    back = read_safetensors(path)
    assert back["epoch"] == 4 and all(torch.equal(back["model"]["state_dict"][k], v) for k, v in STATE.items())


def test_a_file_of_others_is_tensors_alone(tmp_path):
    found = read_safetensors(written(tmp_path / "x.safetensors", None))
    assert found.keys() == {"state_dict"} and torch.equal(found["state_dict"]["w"], torch.ones(2))


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "lacks the model"),
        ('{"model": 3}', "lacks the model"),
        (" " * (MAX_DESCRIPTION + 1), "at most 8,388,608"),
    ],
)
def test_descriptions_that_are_refused(tmp_path, meta, message):
    with pytest.raises(CheckpointError, match=message):
        read_safetensors(written(tmp_path / "x.safetensors", meta))


@pytest.mark.parametrize("size", [0, 4, 60, -1])
def test_damaged_files(tmp_path, size):
    path = write_safetensors(tmp_path / "m.safetensors", {"model": model_record()})
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        read_safetensors(path)


def test_nothing_to_write(tmp_path):
    with pytest.raises(CheckpointError, match="no model"):
        write_safetensors(tmp_path / "m.safetensors", {"ema": None, "epoch": 1})
    assert list(tmp_path.iterdir()) == []
