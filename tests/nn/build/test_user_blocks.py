"""Blocks in a file of the user's: with a channel rule and without, in checkpoints, in spawned workers."""

import copy
import sys

import pytest
import torch
import yaml

from tests.nn.yamls import TINY
from ultralytics.engine.model import Model
from ultralytics.models import RTDETR
from ultralytics.nn.build.user_blocks import check_user_modules, pack_user_modules
from ultralytics.nn.checkpoint.format import read_checkpoint
from ultralytics.nn.registry import REGISTRY
from ultralytics.nn.tasks import RTDETRDetectionModel, load_checkpoint
from ultralytics.nn.transfer import IDENTITY
from ultralytics.utils.errors import CheckpointError, ModelYAMLError
from ultralytics.utils.log import LOGGER
from ultralytics.utils.user_modules import load_user_modules

BLOCKS = '''\
import torch
from torch import nn

from ultralytics.nn import Plan, register


@register(lambda row: Plan((row.c1, row.scaled(row.args[0])), row.scaled(row.args[0])))
class UserWiden(nn.Module):
    """Its rule gives the output channels."""

    def __init__(self, c1, c2):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, 1)

    def forward(self, x):
        return self.conv(x)


@register
class UserGate(nn.Module):
    """Without a rule; starts as the identity."""

    def __init__(self, channels, hidden=8, twice=False):
        super().__init__()
        self.gain = nn.Parameter(torch.rand(channels, 1, 1))
        self.twice = twice

    def forward(self, x):
        y = x * self.gain
        return torch.cat((y, y), 1) if self.twice else x + y

    def start_as_identity(self):
        nn.init.zeros_(self.gain)
        return not self.twice
'''
NAMES = ("UserWiden", "UserGate")


@pytest.fixture
def blocks(tmp_path):
    """The file; its blocks are unknown before and after."""
    path = tmp_path / "blocks_of_a_user.py"
    path.write_text(BLOCKS)
    yield path
    forget()


def forget():
    sys.modules.pop("blocks_of_a_user", None)
    for name in NAMES:
        REGISTRY._entries.pop(name, None)


def data_with(row):
    """TINY with one more backbone row at the end of the backbone, before AIFI."""
    data = yaml.safe_load(TINY.replace("None", "null"))
    data["backbone"].append(row)
    data["head"][2][0] = [-1, 4]
    data["head"][-1][0] = [3, 10, 7]
    return data


def test_with_a_rule_and_without(blocks):
    load_user_modules(blocks)
    model = RTDETRDetectionModel(data_with([-1, 1, "UserWiden", [40]]), verbose=False)
    assert model.model[6].conv.weight.shape == (40, 64, 1, 1) and model.model[7].ma.embed_dim == 40
    model = RTDETRDetectionModel(data_with([-1, 1, "UserGate", [4, True]]), verbose=False)
    assert model.model[6].gain.shape == (64, 1, 1) and model.model[7].ma.embed_dim == 128


def test_unknown_without_the_file():
    with pytest.raises(ModelYAMLError, match=r"layer 6 \(UserGate\): unknown module.*\n.*modules=FILE.py"):
        RTDETR(data_with([-1, 1, "UserGate", []]))


@pytest.mark.parametrize("as_list", [False, True])
def test_api_save_load_and_the_hash(blocks, tmp_path, monkeypatch, as_list):
    """Constructed with `modules=`; the file says which; without it: an error that names it; changed: a warning."""
    model = RTDETR(data_with([-1, 1, "UserGate", []]), modules=[blocks] if as_list else str(blocks))
    path = model.save(tmp_path / "m.pt")
    stored = read_checkpoint(path)["modules"]
    assert [(s["name"], s["blocks"]) for s in stored] == [("blocks_of_a_user.py", ["UserGate"])]
    forget()
    with pytest.raises(CheckpointError, match=r"UserGate, a block of .*\n.*modules=blocks_of_a_user.py"):
        RTDETR(path)
    again = RTDETR(path, modules=blocks)
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(again.model(x)[0], model.model.eval()(x)[0])
    forget()
    blocks.write_text(BLOCKS + "# changed\n")
    warnings = []
    monkeypatch.setattr(LOGGER, "warning", warnings.append)
    RTDETR(path, modules=str(blocks))
    assert len(warnings) == 1 and "blocks_of_a_user.py has changed since" in warnings[0]


def test_a_checkpoint_alone_runs_nothing(blocks, tmp_path):
    """The path in the stored arguments is never followed."""
    model = RTDETR(data_with([-1, 1, "UserGate", []]), modules=blocks)
    model.ckpt = {"train_args": {"modules": str(blocks)}}
    path = model.save(tmp_path / "m.pt")
    forget()
    with pytest.raises(CheckpointError):
        load_checkpoint(path)
    assert "blocks_of_a_user" not in sys.modules


@pytest.mark.parametrize("stored", [[], ["old.py"], [{"name": "a.py"}], [{"name": 3, "blocks": []}]])
def test_incomplete_records_pass(stored):
    check_user_modules(stored, "x.pt")


def test_models_of_the_package_name_no_file():
    assert pack_user_modules(RTDETRDetectionModel(yaml.safe_load(TINY.replace("None", "null")), verbose=False)) == []


def test_arguments_of_a_call(blocks):
    """`modules=` of train, val and predict is loaded, and kept for later calls."""
    model = RTDETR(yaml.safe_load(TINY.replace("None", "null")))
    args = Model._args(model, "val", {"modules": str(blocks), "imgsz": 64})
    assert "UserGate" in REGISTRY and args["modules"] == [str(blocks)]
    assert Model._args(model, "predict", {})["modules"] == [str(blocks)]


def test_transfer_uses_a_users_identity(blocks):
    load_user_modules(blocks)
    base = data_with([-1, 1, "nn.Identity", []])
    donor = RTDETRDetectionModel(base, verbose=False).eval()
    edited = copy.deepcopy(base)
    edited["backbone"][6] = [-1, 1, "UserGate", []]
    model = RTDETRDetectionModel(edited, verbose=False)
    report = model.load(donor, verbose=False)
    assert [r.note for r in report.layers if r.state == "new"] == [IDENTITY]
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(x)[0], donor(x)[0])
