"""Checkpoint files: round trip, what may be inside, and files that are cut, foreign, hostile or too new."""

import os
import pickle
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tests.golden.fill import fill_
from tests.nn.networks import tiny
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.nn.checkpoint.format import FORMAT_VERSION, pack_model, read_checkpoint, save_checkpoint, to_plain
from ultralytics.nn.tasks import attempt_load_weights, load_checkpoint, unpack_model
from ultralytics.utils.errors import CheckpointError, ConfigError, NotFoundError


@pytest.fixture(scope="module")
def model():
    model = tiny(nc=3)
    fill_(model, "", 1.2)
    model.names = {0: "cat", 1: "dog", 2: "日本"}
    model.args = SimpleNamespace(imgsz=96, data=Path("data.yaml"), lr0=1e-3, classes=None)
    return model.eval()


@pytest.fixture
def saved(model, tmp_path):
    return save_checkpoint(
        tmp_path / "sub" / "last.pt", {"epoch": 4, "model": pack_model(model), "train_args": {"batch": 2}}
    )


def images():
    return torch.linspace(-1, 1, 2 * 3 * 64 * 96).view(2, 3, 64, 96).cos()


def test_round_trip(model, saved):
    loaded, ckpt = load_checkpoint(saved)
    assert ckpt["epoch"] == 4 and ckpt["ema"] is None and ckpt["format_version"] == FORMAT_VERSION
    assert (loaded.names, loaded.nc, loaded.training) == (model.names, 3, False)
    assert loaded.args["imgsz"] == 96 and loaded.args["data"] == "data.yaml" and loaded.args["batch"] == 2
    assert loaded.pt_path == str(saved)
    for (k, a), b in zip(model.state_dict().items(), loaded.state_dict().values(), strict=True):
        assert torch.equal(a, b), k
    with torch.no_grad():
        assert torch.equal(model(images())[0], loaded(images())[0])


def test_nothing_but_the_file_is_left(saved):
    assert os.listdir(saved.parent) == ["last.pt"]


def test_plain_torch_reads_it_safely(saved):
    """Everything inside passes torch's own restricted reader."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = torch.load(saved, weights_only=True)
    assert data["format"] == "rtdetr-shsa"
    assert {v.dtype for v in data["model"]["state_dict"].values()} <= {torch.float32, torch.int64}


def test_ema_is_preferred_and_half_becomes_float(model, tmp_path):
    other = tiny(7, nc=3).half()
    path = save_checkpoint(tmp_path / "best.pt", {"model": pack_model(model), "ema": pack_model(other)})
    loaded = attempt_load_weights(path)
    assert loaded.model[0].conv.weight.dtype == torch.float32
    assert torch.equal(loaded.model[0].conv.weight, other.model[0].conv.weight.float())


def test_epsilon_scale_and_channels_survive():
    from ultralytics.nn.build.builder import set_batch_norm

    model = tiny(ch=1)
    set_batch_norm([model], eps=1e-5)
    loaded = unpack_model(pack_model(model))
    assert loaded.model[0].conv.in_channels == 1 and loaded.model[0].bn.eps == 1e-5
    assert loaded.yaml["scale"] == "n" and loaded.yaml["channels"] == 1


def test_fused_model_round_trip(model, tmp_path):
    import copy

    fused = copy.deepcopy(model).fuse(verbose=False)
    loaded = attempt_load_weights(save_checkpoint(tmp_path / "fused.pt", {"model": pack_model(fused)}))
    assert loaded.is_fused()
    with torch.no_grad():
        torch.testing.assert_close(loaded(images())[0], fused(images())[0])


def test_plain():
    assert to_plain({}) == {}
    tensor = torch.zeros(2)
    data = to_plain({"a": (1, Path("x")), 3: {"b": None}, "t": tensor, "n": torch.tensor(1.5).numpy(), "o": nn.ReLU()})
    assert data == {"a": [1, "x"], 3: {"b": None}, "t": tensor, "n": 1.5, "o": "ReLU()"}


@pytest.mark.parametrize("value", [nn.ReLU(), {1, 2}, Path("x"), object(), lambda: 0, {"a": [Path("y")]}, {(1, 2): 3}])
def test_only_plain_values_are_written(tmp_path, value):
    with pytest.raises(CheckpointError, match=r"checkpoint\['train_args'\]"):
        save_checkpoint(tmp_path / "x.pt", {"train_args": {"v": value} if not isinstance(value, dict) else value})
    assert os.listdir(tmp_path) == []


def test_missing_file(tmp_path):
    with pytest.raises(NotFoundError, match="nothing"):
        read_checkpoint(tmp_path / "nothing.pt")


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.3, 0.5, 0.9, 0.999])
def test_cut_file(saved, keep):
    data = saved.read_bytes()
    cut = saved.with_name("cut.pt")
    cut.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(CheckpointError) as e:
        load_checkpoint(cut)
    assert len(str(e.value).splitlines()) <= 3
    assert str(cut) in str(e.value) and "cut short" in str(e.value)


@pytest.mark.parametrize(
    "content", [b"hello", b"PK\x03\x04 not a zip", b"\x80\x04N.", b"<html></html>", b'{"a": 1}', bytes(4096)]
)
def test_foreign_content(tmp_path, content):
    path = tmp_path / "foreign.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as e:
        read_checkpoint(path)
    assert len(str(e.value).splitlines()) <= 3 and str(path) in str(e.value)
    assert "of another kind" in str(e.value)


class _Runs:
    """An object whose unpickling would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (Path(self.path),))


@pytest.mark.parametrize("writer", [torch.save, lambda o, p: Path(p).write_bytes(pickle.dumps(o))], ids=["zip", "bare"])
def test_hostile_pickle_does_not_run(tmp_path, writer):
    canary, path = tmp_path / "canary", tmp_path / "hostile.pt"
    writer({"format": "rtdetr-shsa", "format_version": 1, "model": _Runs(str(canary))}, path)
    with pytest.raises(CheckpointError) as e:
        read_checkpoint(path)
    assert not canary.exists()
    assert "could run code" in str(e.value)
    assert len(str(e.value).splitlines()) <= 3


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, None, "1", 2.5])
def test_other_format_version(tmp_path, version):
    path = tmp_path / "x.pt"
    torch.save({"format": "rtdetr-shsa", "format_version": version}, path)
    with pytest.raises(CheckpointError, match=r"format version.*\n?.*upgrade"):
        read_checkpoint(path)


def test_foreign_dict_and_plain_state_dict(tmp_path, model):
    torch.save({"epoch": 3, "optimizer": {}}, tmp_path / "dict.pt")
    with pytest.raises(CheckpointError, match="not a checkpoint of this package"):
        read_checkpoint(tmp_path / "dict.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="holds a list"):
        read_checkpoint(tmp_path / "list.pt")
    torch.save(model.state_dict(), tmp_path / "state.pt")
    assert tiny(nc=3).load(tmp_path / "state.pt", verbose=False).fresh == []
    with pytest.raises(CheckpointError, match="without a model description"):
        load_checkpoint(tmp_path / "state.pt")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"class": "Other"}, "Other"),
        ({"yaml": {"nc": 3, "backbone": [[-1, 1, "Gone", []]], "head": [[-1, 1, "Conv", [8]]]}}, "Gone"),
        ({"state_dict": {}}, "do not fit"),
    ],
)
def test_broken_record(model, tmp_path, change, word):
    path = save_checkpoint(tmp_path / "x.pt", {"model": {**pack_model(model), **change}})
    with pytest.raises(CheckpointError) as e:
        load_checkpoint(path)
    assert word in str(e.value) and str(path) in str(e.value) and len(str(e.value).splitlines()) <= 3


def test_record_without_a_key(model, tmp_path):
    record = pack_model(model)
    del record["yaml"]
    with pytest.raises(CheckpointError, match="lacks the key 'yaml'"):
        load_checkpoint(save_checkpoint(tmp_path / "x.pt", {"model": record}))


# ------------------------------------------------------------------------------------------------- AutoBackend
def test_backend_from_file_and_from_memory(model, saved):
    from_file, from_memory = AutoBackend(saved), AutoBackend(model)
    assert not model.is_fused() and from_memory.model.is_fused()  # a given model stays as it was
    for backend in (from_file, from_memory):
        assert (backend.names, backend.stride, backend.pt, backend.imgsz, backend.fp16) == (
            model.names,
            32,
            True,
            96,
            False,
        )
        backend.warmup((1, 3, 64, 64))
        with torch.no_grad():
            got, want = backend(images())[0], model(images())[0]
        torch.testing.assert_close(got[..., 4], want[..., 4], rtol=1e-4, atol=1e-5)


def test_backend_of_an_unknown_kind(tmp_path):
    with pytest.raises(ConfigError, match=r"no runner for '\.xyz'"):
        AutoBackend(tmp_path / "model.xyz")
    with pytest.raises(NotFoundError):
        AutoBackend(tmp_path / "none.pt")
