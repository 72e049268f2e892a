"""The file of a failed step: the network as it was, and data alone. Whole runs: tests/engine/test_anomaly.py."""

from __future__ import annotations

import copy
import math
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.tiny import TINY
from tests.nn.checkpoint.hostile import pickled, zipped
from ultralytics.engine.training.nan_trace import NanFinding, Step
from ultralytics.engine.training.replay import examine, precision_name, read_replay, replay, write_replay
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils.errors import CheckpointError

STEP = Step(seed=3, rank=0, number=6)


def batch(corrupted: bool = False) -> dict[str, Any]:
    img = torch.linspace(0, 1, 2 * 3 * 64 * 64).view(2, 3, 64, 64).cos()
    if corrupted:
        img[1, 0, 0, 0] = math.nan
    boxes = torch.tensor([[0.5, 0.5, 0.25, 0.5], [0.25, 0.5, 0.25, 0.25]])
    index = torch.tensor([0.0, 1.0])
    return {"img": img, "cls": index[:, None], "bboxes": boxes, "batch_idx": index, "im_file": ["a.png", "b.png"]}


@pytest.fixture(scope="module")
def model() -> RTDETRDetectionModel:
    """In training mode, with a frozen layer, and a norm with frozen statistics elsewhere."""
    torch.manual_seed(0)
    model = RTDETRDetectionModel(TINY, verbose=False).train()
    model.model[0].conv.weight.requires_grad_(False)
    model.model[1].bn.eval()
    return model


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16])
def test_precisions_are_named(tmp_path: Path, model: Any, dtype: torch.dtype | None) -> None:
    name = {None: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]
    write_replay(tmp_path / "r.pt", model, batch(), Step(1, 2, 5, dtype, 8.0), NanFinding("none", "nothing"))
    stored = read_replay(tmp_path / "r.pt")["step"]
    assert precision_name(dtype) == name
    assert stored == {"seed": 1, "rank": 2, "number": 5, "dtype": name, "scale": 8.0, "partial": False}


def test_the_network_is_as_it_was(tmp_path: Path, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights, what is frozen, norms with frozen statistics and the batch; the finding is the same."""
    seen: list[tuple[Any, Any, Step]] = []

    def look(network: Any, given: Any, step: Step) -> NanFinding:
        seen.append((copy.deepcopy(network), given, step))
        return examine(network, given, step)

    corrupted = batch(corrupted=True)
    found = examine(copy.deepcopy(model), corrupted, STEP)
    assert (found.cause, found.images) == ("image", ("b.png",))
    write_replay(tmp_path / "r.pt", model, corrupted, STEP, found)
    monkeypatch.setattr("ultralytics.engine.training.replay.examine", look)
    assert replay(tmp_path / "r.pt", "cpu") == found
    ((network, given, step),) = seen
    assert step == STEP and torch.equal(given["img"].nan_to_num(7), corrupted["img"].nan_to_num(7))
    assert [n for n, p in network.named_parameters() if not p.requires_grad] == ["model.0.conv.weight"]
    assert [n for n, m in network.named_modules() if not m.training and n.endswith("bn")] == ["model.1.bn"]
    assert network.training
    for (key, a), b in zip(model.state_dict().items(), network.state_dict().values(), strict=True):
        assert torch.equal(a, b), key


def test_a_step_that_does_not_fail_again(tmp_path: Path, model: Any, capsys: pytest.CaptureFixture[str]) -> None:
    write_replay(tmp_path / "r.pt", model, batch(), STEP, NanFinding("loss", "as it was", ("loss_giou",), ("a.png",)))
    assert replay(tmp_path / "r.pt", "cpu").cause == "none"
    text = capsys.readouterr().out
    assert "step 7, fp32, 2 images on cpu" in text and "NOT reproduced" in text
    assert "then  [loss] as it was; loss terms: loss_giou" in text


class Hostile:
    """Runs a call when a pickle is loaded without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_file_is_data_alone(tmp_path: Path, model: Any) -> None:
    write_replay(tmp_path / "r.pt", model, batch(), STEP, NanFinding("none", "nothing"))
    whole = read_replay(tmp_path / "r.pt")
    torch.save({**whole, "more": Hostile(tmp_path / "ran")}, tmp_path / "h.pt")
    (tmp_path / "p.pt").write_bytes(pickle.dumps(Hostile(tmp_path / "ran"), protocol=2))
    (tmp_path / "cut.pt").write_bytes((tmp_path / "r.pt").read_bytes()[:-200])
    for name in ("h.pt", "p.pt", "cut.pt"):
        with pytest.raises(CheckpointError, match=rf"{name} cannot be read as a replay"):
            read_replay(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def damage(record: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    """Put a value at a place such as `step.dtype`, "absent" takes it away."""
    changed = copy.deepcopy(record)
    *path, last = place.split(".")
    owner = changed
    for key in path:
        owner = owner[key]
    if value == "absent":
        del owner[last]
    else:
        owner[last] = value
    return changed


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        ("modules", "absent", "lacks 'modules'"),
        ("frozen", 5, "frozen is 5"),
        ("step", "absent", "the checkpoint's step is None"),
        ("step.dtype", "int4", "step.dtype is 'int4'"),
        ("step.seed", "x", "step.seed is 'x'"),
        ("finding.cause", [], "finding.cause is a list"),
        ("batch", None, "the checkpoint's batch is None"),
        ("batch.img", torch.zeros(3), "images of shape"),
        ("batch.im_file", ["a.png"], "and 1 names"),
        ("batch.batch_idx", torch.tensor([0.0, 7.0]), "batch_idx names images"),
        ("batch.bboxes", torch.zeros(5, 4), "bboxes does not belong to 2 objects"),
        ("batch.img", torch.zeros(2, 5, 64, 64), "the step in it cannot be run"),
        ("model", {}, "lacks the key 'yaml'"),
        ("model.nc", 10**9, "nc is 1000000000"),
    ],
)
def test_a_damaged_file_is_refused_by_its_field(
    tmp_path: Path, model: Any, place: str, value: Any, reason: str
) -> None:
    write_replay(tmp_path / "r.pt", model, batch(), STEP, NanFinding("none", "nothing"))
    torch.save(damage(read_replay(tmp_path / "r.pt"), place, value), tmp_path / "r.pt")
    with pytest.raises(CheckpointError, match=reason):
        replay(tmp_path / "r.pt", "cpu")


@pytest.mark.parametrize(
    "content", [b"", b"text", b"PK\x03\x04", b"\x80\x02N."], ids=["empty", "text", "cut", "pickle"]
)
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "r.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read as a replay"):
        read_replay(tmp_path / "r.pt")


def test_a_packed_file_is_refused(tmp_path: Path) -> None:
    """A member that is packed may be a thousand times larger than the file."""
    (tmp_path / "r.pt").write_bytes(zipped(pickled({"format": "rtdetr-shsa-replay"}), {"data/0": bytes(10**6)}, True))
    with pytest.raises(CheckpointError, match="compressed"):
        read_replay(tmp_path / "r.pt")


def test_a_row_of_the_network_fetches_nothing(tmp_path: Path, model: Any) -> None:
    write_replay(tmp_path / "r.pt", model, batch(), STEP, NanFinding("none", "nothing"))
    record = read_replay(tmp_path / "r.pt")
    rows = [[-1, 1, "TorchVision", [512, "resnet18", False, "DEFAULT"]], *record["model"]["yaml"]["backbone"][1:]]
    torch.save(damage(record, "model.yaml", {**record["model"]["yaml"], "backbone": rows}), tmp_path / "r.pt")
    assert read_replay(tmp_path / "r.pt")["model"]["yaml"]["backbone"][0][3] == [512, "resnet18", False]
