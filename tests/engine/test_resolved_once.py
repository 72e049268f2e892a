"""Arguments are resolved once a call: an old name and an argument without effect are each reported by one warning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.tiny import IMAGES, TINY, draw, write_dataset
from ultralytics import compare
from ultralytics.cli import entrypoint
from ultralytics.models import RTDETR
from ultralytics.utils import ASSETS, YAML
from ultralytics.utils.errors import ConfigError

GIVEN: dict[str, Any] = {"line_thickness": 2, "iou": 0.5}
FAST: dict[str, Any] = {"imgsz": 64, "device": "cpu", "verbose": False}
SET: dict[str, Any] = {**FAST, "workers": 0, "plots": False, "batch": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("once")
    torch.manual_seed(0)
    RTDETR(TINY).save(folder / "a.pt")
    RTDETR(TINY).save(folder / "b.pt")
    write_dataset(folder / "set")
    return folder


def predict(folder: Path) -> None:
    RTDETR(folder / "a.pt").predict(draw(*IMAGES[0]), **FAST, **GIVEN)


def predict_from_file(folder: Path) -> None:
    YAML.save(folder / "args.yaml", {**FAST, **GIVEN})
    RTDETR(folder / "a.pt").predict(draw(*IMAGES[0]), cfg=str(folder / "args.yaml"))


def validate(folder: Path) -> None:
    RTDETR(folder / "a.pt").val(data=data_of(folder), save_dir=str(folder / "val"), **SET, **GIVEN)


def compare_two(folder: Path) -> None:
    place = {"project": str(folder), "name": "compare"}
    compare([RTDETR(folder / n) for n in ("a.pt", "b.pt")], data=data_of(folder), **place, **SET, **GIVEN)


def command(folder: Path) -> None:
    pairs = [f"{k}={v}" for k, v in {**FAST, **GIVEN}.items()]
    image = next((folder / "set").rglob("*.png"), None) or next((folder / "set").rglob("*.jpg"))
    entrypoint(["predict", f"model={folder / 'a.pt'}", f"source={image}", "save=False", *pairs])


def data_of(folder: Path) -> str:
    return str(next((folder / "set").glob("*.yaml")))


@pytest.mark.parametrize("call", [predict, predict_from_file, validate, compare_two, command])
def test_each_warning_comes_once_a_call(
    call: Callable[[Path], None], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call(folder)
    captured = capsys.readouterr()
    text = captured.out + captured.err
    assert text.count("'line_thickness' is deprecated; use line_width=2") == 1
    models = 2 if call is compare_two else 1
    assert text.count("iou=0.5 has no effect") == models  # each model's family decides that


def test_a_kept_predictor_warns_once_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = RTDETR(folder / "a.pt")
    model.predict(draw(*IMAGES[0]), **FAST)
    capsys.readouterr()
    model.predict(draw(*IMAGES[0]), **FAST, **GIVEN)
    assert capsys.readouterr().out.count("is deprecated") == 1
    assert model.predictor.args.line_width == 2


def test_the_arguments_of_a_predictor_can_be_written_to(folder: Path) -> None:
    model = RTDETR(folder / "a.pt")
    model.predict(draw(*IMAGES[0]), **FAST)
    model.predictor.args.conf = 0.5
    assert model.predictor.conf == 0.5


@pytest.mark.parametrize("task", ["segment", "classify"])
def test_a_task_of_another_model_is_an_error(task: str, folder: Path) -> None:
    with pytest.raises(ConfigError, match=f"task={task}: this is a model of task detect"):
        RTDETR(folder / "a.pt").predict(draw(*IMAGES[0]), task=task, **FAST)


def test_a_mode_in_the_place_of_the_task_warns(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    RTDETR(folder / "a.pt").predict(draw(*IMAGES[0]), task="train", **FAST)
    assert capsys.readouterr().out.count("task=train is a mode") == 1


def test_without_a_source_the_drawn_pictures_are_predicted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = RTDETR(folder / "a.pt").predict(**FAST)
    assert [Path(r.path).name for r in results] == ["bus.jpg", "zidane.jpg"] and ASSETS.is_dir()
    assert capsys.readouterr().out.count("source= is missing") == 1
    assert all(p.stat().st_size < 60_000 for p in ASSETS.iterdir())
