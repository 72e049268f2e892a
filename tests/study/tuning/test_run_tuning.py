"""A search from its call to the best arguments; trials are written by the test, one real search is short."""

from __future__ import annotations

import builtins
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.engine.tiny import TINY, write_dataset
from ultralytics import RTDETR, SHViTClassifier
from ultralytics.cli.main import entrypoint
from ultralytics.study.engines import OnEnd
from ultralytics.study.jobs import StudyJob
from ultralytics.study.plan import load_plan
from ultralytics.study.tuning import holdout, run_tuning
from ultralytics.study.tuning.report import SearchResult, write_search_report
from ultralytics.study.tuning.trial import COMPLETE, PRUNED, TrialRecord
from ultralytics.study.worker import write_failure
from ultralytics.utils import YAML
from ultralytics.utils.errors import ConfigError, ConfigTypeError, MissingPackageError

FAST: dict[str, Any] = {"epochs": 2, "imgsz": 64, "batch": 4, "workers": 0, "amp": False, "device": "cpu"}
needs_optuna = pytest.mark.skipif(importlib.util.find_spec("optuna") is None, reason="optuna is not installed")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "set")


class WrittenTrials:
    """An engine whose trials are written at once; the third is pruned, the fourth fails at first."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def run(self, jobs: Sequence[StudyJob], report: OnEnd) -> None:
        for job in jobs:
            self.ran.append(job.arm)
            job.path.mkdir(parents=True, exist_ok=True)
            if job.seed == 3 and self.ran.count(job.arm) == 1:
                write_failure(job.path, "out of memory")
                report(job, "out of memory")
                continue
            params = {"lr0": 1e-4 * job.seed} if job.seed else {}
            state = PRUNED if job.seed == 2 else COMPLETE
            TrialRecord(job.seed, state, 0.1 * (job.seed + 1) / 4, 2, 1.0, params).save(job.path)
            report(job, "")


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> WrittenTrials:
    engine = WrittenTrials()
    monkeypatch.setattr(run_tuning, "make_engine", lambda *_: engine)
    for name in ("need_optuna", "open_study", "measure_reported"):
        monkeypatch.setattr(run_tuning, name, lambda *_, **__: None)
    return engine


def test_a_search_ends_with_the_best_arguments_and_continues(
    tmp_path: Path, data: Path, written: WrittenTrials, capsys: pytest.CaptureFixture[str]
) -> None:
    def search(iterations: int) -> SearchResult:
        found = RTDETR(TINY).tune(
            data=str(data), iterations=iterations, space="optimizer", project=tmp_path / "tunes", name="x", **FAST
        )
        assert isinstance(found, SearchResult)
        return found

    first = search(4)
    assert first.best.params == {"lr0": 1e-4} and first.failed == {"003": "out of memory"}  # a pruned one never wins
    assert first.default is not None and first.default.value == pytest.approx(0.025)
    second = search(5)
    assert written.ran == ["000", "001", "002", "003", "003", "004"] and second.best.params == {"lr0": 4e-4}
    folder = tmp_path / "tunes" / "x"
    best = YAML.load(folder / "best.yaml")
    assert (best["lr0"], best["data"], best["epochs"]) == (4e-4, str(data), 2) and "device" not in best
    plan = load_plan(folder / "confirm.yaml")
    assert plan.variants[0].args["lr0"] == 4e-4 and plan.seeds == (0, 1, 2) and plan.base.args["data"] == str(data)
    assert "| 002 | pruned | 2 | 0.0750 |" in (folder / "tune.md").read_text()
    for name in ("trials.csv", "trials.png", "trials.pdf", "model.yaml", "data/held_out.txt"):
        assert (folder / name).stat().st_size > 0, name
    with pytest.raises(ConfigError, match="holds a search with another space"):
        RTDETR(TINY).tune(data=str(data), space="loss", project=tmp_path / "tunes", name="x", **FAST)
    wider = {**TINY, "backbone": [[-1, 1, "Conv", [16, 3, 2]], *TINY["backbone"][1:]]}
    same: dict[str, Any] = {"data": str(data), "space": "optimizer", "project": tmp_path / "tunes", "name": "x", **FAST}
    with pytest.raises(ConfigError, match="another model, holdout, imgsz"):
        RTDETR(wider).tune(**{**same, "holdout": 0.5, "imgsz": 96})


@pytest.mark.parametrize(
    ("changes", "recipe"),
    [
        ({}, "small"),
        ({"fraction": 0.5}, "few"),  # 20 images are held out of 100, half of the others trains
        ({"fraction": 0.1}, "tiny"),
        ({"fraction": [0.1, 1.0]}, "tiny"),
        ({"recipe": "official", "fraction": 0.1}, "official"),
    ],
)
def test_the_recipe_of_a_search_is_that_of_its_trials(
    data: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], recipe: str
) -> None:
    monkeypatch.setattr(run_tuning, "list_images", lambda _: [f"{i}.jpg" for i in range(100)])
    given = {"data": str(data), "epochs": 50, "batch": 16, **changes}
    assert run_tuning._recipe_of(RTDETR(TINY), given, 0.2) == recipe


def test_copies_of_an_image_count_where_they_are(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty copies are held out together, though a fifth of the images was asked for: 40 of 100 train."""
    monkeypatch.setattr(run_tuning, "list_images", lambda _: [f"{i}.jpg" for i in range(100)])
    monkeypatch.setattr(holdout, "image_key", lambda path: "" if int(path[:-4]) < 60 else path)
    given = {"data": str(data), "epochs": 50, "batch": 16}
    assert run_tuning._recipe_of(RTDETR(TINY), {**given, "fraction": 0.4}, 0.2) == "tiny"
    assert run_tuning._recipe_of(RTDETR(TINY), {**given, "fraction": 1.0}, 0.2) == "few"


def test_the_processes_of_a_search_take_the_devices_in_turn() -> None:
    assert run_tuning._devices(None, 2) == ("", "")
    assert run_tuning._devices([0, 1], 3) == ("0", "1", "0") and run_tuning._devices("cpu", 1) == ("cpu",)


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"iterations": 1}, "give at least 2"),
        ({"split": "test"}, "split=test: is set by the search"),
        ({"engine": "pbs"}, "is not one of local, slurm, ray"),
        ({"fmt": "eps"}, "is not one of png, pdf, svg"),
        ({"processes": 0}, "processes=0 is below 1"),
        ({"data": None}, "tune needs data="),
    ],
)
def test_what_cannot_be_searched_is_refused(tmp_path: Path, data: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RTDETR(TINY).tune(**{"data": str(data), "project": str(tmp_path / "tunes"), **FAST, **changes})


@pytest.mark.usefixtures("written")
def test_a_classifier_is_refused(data: Path) -> None:
    with pytest.raises(ConfigTypeError, match="arguments of detectors"):
        run_tuning.tune_model(SHViTClassifier("shvit_s1.yaml"), data=str(data))


def test_without_optuna_one_line_says_what_to_install(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] == "optuna":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingPackageError, match="pip install"):
        RTDETR(TINY).tune(data=str(data))
    YAML.save(tmp_path / "tiny.yaml", TINY)
    with pytest.raises(SystemExit):
        entrypoint(["tune", f"model={tmp_path}/tiny.yaml", f"data={data}"])
    assert "tune needs optuna" in capsys.readouterr().err


def test_a_search_in_which_the_base_is_best_writes_no_plan(tmp_path: Path) -> None:
    trials = [TrialRecord(0, COMPLETE, 0.2, 2, 1.0, {}, str(tmp_path / "000"))]
    trials.append(TrialRecord(1, COMPLETE, 0.1, 2, 1.0, {"lr0": 1e-4}, str(tmp_path / "001")))
    write_search_report(SearchResult(tmp_path, trials, {"data": "d.yaml"}, "model.yaml"), "svg")
    assert "No trial was better than the base" in (tmp_path / "tune.md").read_text()
    assert not (tmp_path / "confirm.yaml").exists() and (tmp_path / "trials.svg").exists()


@needs_optuna
def test_a_trial_that_was_killed_keeps_its_number_and_its_arguments(tmp_path: Path, data: Path) -> None:
    from ultralytics.study.tuning.database import open_study, settings_of
    from ultralytics.study.tuning.space import Range
    from ultralytics.study.tuning.trial import take_trial

    settings = settings_of({"lr0": Range(1e-5, 1e-2, log=True)}, {"epochs": 3}, {}, True, False)
    settings.save(tmp_path)
    job = StudyJob("004", 4, "", str(tmp_path / "trials" / "004"), "m.yaml")
    job.save()
    trial, params = take_trial(open_study(tmp_path, settings, 4), job, settings)
    trial.report(0.5, 1)
    again, same = take_trial(open_study(tmp_path, settings, 4), job, settings)  # another process after the kill
    assert again.number == trial.number and same == params and 1e-5 <= params["lr0"] <= 1e-2
    (frozen,) = open_study(tmp_path, settings).get_trials()
    assert (
        frozen.intermediate_values == {1: 0.5} and json.loads((job.path / "trial.json").read_text())["params"] == params
    )


@needs_optuna
@pytest.mark.slow
def test_a_real_search(tmp_path: Path, data: Path) -> None:
    found = RTDETR(TINY).tune(data=str(data), iterations=3, space="optimizer", project=tmp_path, name="x", **FAST)
    assert [t.number for t in found.trials] == [0, 1, 2] and len(found.trials[1].params) == 4
