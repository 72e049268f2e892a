"""Two processes give what one gives: losses, weights, averaged weights and metrics; one log and one writer.

Denoising is off here (`nd` 0): its groups are laid out by the most crowded image of a process's own batch, and its
noise is drawn by each process for itself.
"""

import csv
import json
import socket

import pytest
import torch

from tests.engine.tiny import IMAGES, write_dataset
from tests.engine.training.child import finish, start
from tests.engine.training.plain import EMPTY, NO_DENOISING, PLAIN
from tests.models.dfine.networks import FINE
from tests.models.yolo.networks import V26
from ultralytics.data.build import EpochSampler
from ultralytics.models.rtdetr.val import RTDETRValidator
from ultralytics.nn.checkpoint.format import read_checkpoint


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture(scope="module")
def images():
    """Twenty images, seven of them with objects: three steps an epoch."""
    return [*IMAGES[:2], *[EMPTY] * 6, IMAGES[3], *[EMPTY] * 6, IMAGES[0], EMPTY, IMAGES[1], IMAGES[3], IMAGES[0]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory, images):
    """Folders and outputs of a run in one process and of the same in two."""
    root = tmp_path_factory.mktemp("processes")
    data = str(write_dataset(root / "set", images))
    outcome = {}
    for name, ranks in (("one", 1), ("two", 2)):
        overrides = {**PLAIN, "data": data, "project": str(root), "name": name}
        job = {"overrides": overrides, "head": NO_DENOISING, "losses": str(root / f"{name}.json")}
        ended = finish(start(job, ranks, free_port()))
        assert all(status == 0 for status, _ in ended), ended
        losses = [json.loads((root / f"{name}.json.{rank}").read_text()) for rank in range(ranks)]
        outcome[name] = (root / name, [text for _, text in ended], torch.tensor(losses))
    return outcome


def test_some_batches_of_a_process_hold_no_object(images):
    empty = []
    for rank in range(2):
        order = EpochSampler(len(images), True, 0, rank, 2).order()
        empty += [not any(images[i][1] for i in order[k : k + 4]) for k in range(0, len(order), 4)]
    assert any(empty)


def test_losses_are_equal(runs):
    one, two = runs["one"][2][0], runs["two"][2].mean(0)
    assert len(one) == 12
    torch.testing.assert_close(two, one, rtol=0, atol=1e-5)


@pytest.mark.parametrize("part", ["model", "ema"])
def test_weights_are_equal(runs, part):
    one, two = (read_checkpoint(runs[name][0] / "weights" / "last.pt") for name in ("one", "two"))
    assert one["updates"] == two["updates"] == 12
    states = [ckpt[part]["state_dict"] for ckpt in (one, two)]
    assert list(states[0]) == list(states[1]) and one[part]["bn_eps"] == two[part]["bn_eps"]
    for key, tensor in states[0].items():
        torch.testing.assert_close(states[1][key], tensor, rtol=0, atol=1e-4, msg=key)


def test_metrics_are_equal(runs):
    rows = []
    for name in ("one", "two"):
        with open(runs[name][0] / "results.csv") as f:
            rows.append([{k: float(v) for k, v in row.items() if k != "time"} for row in csv.DictReader(f)])
    assert len(rows[0]) == len(rows[1]) == 4
    for one, two in zip(*rows, strict=True):
        assert two == pytest.approx(one, abs=2e-5)


def test_one_log_and_one_writer(runs):
    folder, (main, other), _ = runs["two"]
    assert "results to" in main
    assert not [line for line in other.splitlines() if not line.startswith("[rank1]:[W")]  # PyTorch's own
    assert not (folder.parent / "two2").exists()


def without_denoising(yaml):
    """The network with no denoising queries: the activation, the output layer and the 0 follow the other arguments."""
    *rows, (source, repeats, name, args) = yaml["head"]
    return {**yaml, "head": [*rows, [source, repeats, name, [*args, None, -1, 0]]]}


@pytest.mark.parametrize(("yaml", "steps"), [(without_denoising(FINE), 3), (V26, 1)], ids=["dfine", "yolo26"])
def test_other_families(yaml, steps, images, tmp_path):
    """One epoch: the losses, whose divisors count the targets of all processes, and the weights."""
    data = str(write_dataset(tmp_path / "set", images if steps == 3 else images[-8:]))
    losses, states = [], []
    for name, ranks in (("one", 1), ("two", 2)):
        overrides = {**PLAIN, "data": data, "project": str(tmp_path), "name": name, "epochs": 1, "val": False}
        overrides |= {"letterbox": None, "lr0": 1e-3}
        job = {"overrides": overrides, "network": yaml, "losses": str(tmp_path / f"{name}.json")}
        ended = finish(start(job, ranks, free_port()))
        assert all(status == 0 for status, _ in ended), ended
        parts = [json.loads((tmp_path / f"{name}.json.{rank}").read_text()) for rank in range(ranks)]
        losses.append(torch.tensor(parts).mean(0))
        states.append(read_checkpoint(tmp_path / name / "weights" / "last.pt")["model"]["state_dict"])
    assert len(losses[0]) == steps
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-5, atol=1e-5)
    for key, tensor in states[0].items():
        torch.testing.assert_close(states[1][key], tensor, rtol=0, atol=1e-4, msg=key)


def test_parts_of_a_validation_are_gathered_in_order(monkeypatch):
    """Five images in two parts, the second with one batch less."""
    made = [RTDETRValidator(args={"data": "none"}) for _ in range(3)]
    for v in made:
        v.names = {0: "a"}
        v.init_metrics(torch.nn.Identity())
    parts = [range(0, 5, 2), range(1, 5, 2)]
    for v, mine in zip(made, [range(5), *parts], strict=True):
        for place, image in enumerate(mine):
            v.metrics.stats.append({"image_id": place, "im_name": str(image)})
    made[0].losses = [(torch.tensor([2.0, 5.0]), 4), (torch.tensor([7.0, 1.0]), 3)]
    made[1].losses = [(torch.tensor([1.0, 2.0]), 3), (torch.tensor([7.0, 1.0]), 3)]
    made[2].losses = [(torch.tensor([5.0, 14.0]), 1)]
    gathered = iter([[[(i.tolist(), n) for i, n in v.losses] for v in made[1:]], [v.metrics.stats for v in made[1:]]])
    monkeypatch.setattr("ultralytics.utils.dist.all_gather_objects", lambda _: next(gathered))
    made[1].gather()
    assert made[1].metrics.stats == made[0].metrics.stats and made[1].seen == 5
    torch.testing.assert_close(made[1].mean_loss(), made[0].mean_loss().double())
