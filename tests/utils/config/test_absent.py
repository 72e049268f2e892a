"""Names of the interface: those that are here under their signatures, and those that say what to use instead."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.engine.tiny import TINY
from ultralytics import RTDETR, utils
from ultralytics.cfg import cfg2dict
from ultralytics.nn import tasks
from ultralytics.utils.checks import check_file, check_imgsz, check_requirements, check_yaml
from ultralytics.utils.config.absent import ABSENT_NAMES
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.ops import convert_torch2numpy_batch
from ultralytics.utils.plotting import save_one_box
from ultralytics.utils.torch_utils import intersect_dicts, model_info, select_device

PAIRS = [(module, name) for module, names in ABSENT_NAMES.items() for name in names]


@pytest.mark.parametrize(("module", "name"), PAIRS)
def test_an_import_of_a_name_that_is_absent_says_what_to_use(module: str, name: str) -> None:
    found = importlib.import_module(module)
    with pytest.raises(ImportError, match=f"^{name}: use .* instead"):
        getattr(found, name)


@pytest.mark.parametrize("module", sorted({module for module, _ in PAIRS}))
def test_other_names_are_plain_attribute_errors(module: str) -> None:
    assert not hasattr(importlib.import_module(module), "no_such_name")


def test_ranks_follow_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert utils.RANK == utils.LOCAL_RANK == -1 and utils.TESTS_RUNNING is False
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "1"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert utils.RANK == utils.LOCAL_RANK == 1


def test_files_by_the_interface_s_keywords(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    utils.yaml_save(file, {"a": 1})
    assert utils.yaml_load(file) == cfg2dict(file) == cfg2dict({"a": 1}) == {"a": 1}
    assert check_yaml(file=str(file)) == check_file(file=file, download=False) == file
    assert check_file(tmp_path / "b.yaml", hard=False) == tmp_path / "b.yaml"


def test_sizes() -> None:
    assert check_imgsz([320, 640], max_dim=1) == 640
    assert check_imgsz(32, floor=64) == 64
    with pytest.raises(ConfigError, match="at most 32,767"):
        check_imgsz(10**9)


def test_requirements_are_reported_and_never_installed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_requirements("numpy>=1") and check_requirements(["numpy", "torch>=1.0"])
    assert not check_requirements(("numpy", "no-such-package>=3"))
    assert "pip install 'no-such-package>=3'" in capsys.readouterr().out
    assert check_requirements(["numpy>=999"], exclude=["numpy"]) and not check_requirements("numpy>=999")
    file = tmp_path / "requirements.txt"
    file.write_text("# comment\nnumpy  # arrays\n\n")
    assert check_requirements(file)


def test_crops(tmp_path: Path) -> None:
    image = np.arange(40 * 60 * 3, dtype=np.uint32).astype(np.uint8).reshape(40, 60, 3)
    crop = save_one_box(torch.tensor([10, 10, 20, 30]), image, tmp_path / "c.png", gain=1.0, pad=0, BGR=True)
    assert np.array_equal(crop, image[10:30, 10:20]) and (tmp_path / "c.png").is_file()
    whole = save_one_box([-5, -5, 100, 100], image, gain=1.0, pad=0, save=False)
    assert np.array_equal(whole, image[..., ::-1])
    assert save_one_box([10, 10, 20, 30], image, gain=1.0, pad=0, square=True, save=False).shape == (20, 20, 3)


def test_networks_and_tensors(tmp_path: Path) -> None:
    model = RTDETR(TINY)
    path = model.save(tmp_path / "a.pt")
    network, ckpt = tasks.attempt_load_one_weight(path, fuse=True)
    assert network.is_fused() and ckpt["model"] and tasks.torch_safe_load(path)[1] == str(path)
    assert model_info(model.model, imgsz=64) == model.model.info(imgsz=64)
    a, b = torch.ones(1), torch.ones(2)
    assert list(intersect_dicts(da={"x": a, "y": a}, db={"x": a, "y": b}, exclude=())) == ["x"]
    assert select_device("cpu", newline=True).type == "cpu"
    images = convert_torch2numpy_batch(torch.tensor([0.0, 0.5, 2.0]).view(1, 3, 1, 1))
    assert images.tolist() == [[[[0, 127, 255]]]]
