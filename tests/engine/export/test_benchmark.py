"""The benchmark: what it measures, and that one form's failure leaves the others."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.tiny import TINY
from tests.utils.plotting.svg import ODD_NAMES, caught
from ultralytics.cli import main as cli
from ultralytics.engine.export import benchmark as bench
from ultralytics.engine.export.benchmark import Benchmark, Figures, form_arguments, runnable_formats
from ultralytics.engine.export.parity import ParityReport
from ultralytics.engine.export.recommendation import recommend
from ultralytics.engine.export.timing import (
    MAX_CALLS,
    MIN_CALLS,
    Job,
    measure,
    peak_memory,
    run_in_subprocess,
    time_calls,
)
from ultralytics.models import RTDETR
from ultralytics.utils.errors import ConfigError, UserError

FIGURES = {
    "mean": 20.0,
    "p50": 19.0,
    "p90": 25.0,
    "p99": 40.0,
    "images_per_second": 50.0,
    "calls": 10,
    "peak_mb": 300.0,
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return RTDETR(TINY).save(tmp_path_factory.mktemp("weights") / "m.pt")


def test_calls_are_counted_between_bounds():
    calls: list[int] = []
    spent = time_calls(lambda: calls.append(1), 0.0, torch.device("cpu"))
    assert len(spent) == MIN_CALLS and len(calls) > MIN_CALLS and min(spent) >= 0  # the first ones warm up
    assert len(time_calls(lambda: None, 60.0, torch.device("cpu"))) == MAX_CALLS


def test_figures_of_a_model(weights: Path):
    figures = measure(Job(str(weights), [2, 3, 64, 64], seconds=0.0, threads=torch.get_num_threads()))
    assert figures["p50"] <= figures["p90"] <= figures["p99"] and figures["calls"] == MIN_CALLS
    assert figures["images_per_second"] == pytest.approx(2000 / figures["mean"])
    assert 0 <= figures["empty_mb"] <= figures["peak_mb"]
    assert peak_memory() >= figures["peak_mb"]


def test_a_failure_in_the_subprocess_is_reported(tmp_path: Path):
    with pytest.raises(UserError, match=r"no-such.*the timing process failed.*does not exist"):
        run_in_subprocess(Job(str(tmp_path / "no-such.pt"), [1, 3, 64, 64]))


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("onnx", ["onnx"]),
        ("pytorch, TRT", ["pytorch", "engine"]),
        ("ts,onnx-int8", ["torchscript", "onnx-int8"]),
        ("", None),
    ],
)
def test_formats(asked: str, found: list[str] | None):
    names = runnable_formats(asked)
    assert names == found if found else names[:2] == ["pytorch", "torchscript"]
    with pytest.raises(ConfigError, match="no such format"):
        runnable_formats("onnx,no")


def test_forms_in_lower_precision():
    assert form_arguments("onnx-int8") == {"format": "onnx", "quantize": 8}
    assert form_arguments("trt-fp16") == {"format": "engine", "quantize": 16}
    assert form_arguments("onnx") == {"format": "onnx"}
    with pytest.raises(ConfigError, match="no such precision"):
        form_arguments("onnx-int4")
    assert "onnx-int8" in runnable_formats("", with_data=True) and "onnx-int8" not in runnable_formats("")


def form(name: str, p50: float, metric: float | None = None) -> Figures:
    return Figures(name, 1.0, metric, single={"p50": p50, "peak_mb": 300.0} if p50 else {})


@pytest.mark.parametrize(
    ("forms", "reference", "best"),
    [
        ([], None, None),
        ([form("onnx", 0.0)], None, None),  # it could not be measured
        ([form("pytorch", 20.0), form("onnx", 10.0), form("onnx-int8", 5.0)], None, "onnx"),
        ([form("pytorch", 20.0, 0.5), form("onnx", 10.0, 0.5), form("onnx-int8", 5.0, 0.495)], 0.5, "onnx-int8"),
        ([form("pytorch", 20.0, 0.5), form("onnx", 10.0, 0.5), form("onnx-int8", 5.0, 0.4)], 0.5, "onnx"),
        ([form("onnx", 10.2, 0.5), form("onnx-fp16", 10.0, 0.495)], 0.5, "onnx"),  # as fast, and better
    ],
)
def test_the_recommended_form(forms: list[Figures], reference: float | None, best: str | None):
    found, why = recommend(forms, "mAP50-95", reference)
    assert found == best and bool(why) == (best is not None)
    if best is not None:
        assert f"best here: {best}, " in why[0] and len(why) == len(forms)
        assert all("not recommended" in line for line in why if "int8" in line and best != "onnx-int8")


def test_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    jobs: list[Job] = []

    def timed(job: Job) -> dict[str, float]:
        jobs.append(job)
        return dict(FIGURES)

    def export(name: str, batch: int, folder: Path) -> tuple[Path, ParityReport | None]:
        if name == "onnx":
            raise ConfigError("onnx is out of order", "second line")
        path = folder / f"m.{name}"
        path.write_bytes(bytes(1 << 20))
        found = ParityReport(metrics={"metrics/mAP50-95(B)": (0.5, 0.25)})
        found.boxes[0.25].append(0.125)
        return path, found

    monkeypatch.setattr(bench, "run_in_subprocess", timed)
    (tmp_path / "m.pt").write_bytes(bytes(3 << 20))
    run = Benchmark(tmp_path / "m.pt", export, (64, 96), 3, tmp_path / "out")
    found = run(["pytorch", "torchscript", "onnx"])
    assert [f.name for f in found] == ["pytorch", "torchscript", "onnx"]
    assert [f.metric for f in found] == [0.5, 0.25, None]  # what the PyTorch model had when it was compared
    assert found[1].megabytes == 1.0 and found[0].megabytes == 3.0 and found[1].difference == 0.125
    assert found[2].note == "onnx is out of order" and not found[2].single
    assert [j.shape for j in jobs] == [[1, 3, 64, 96], [8, 3, 64, 96]] * 2
    with open(tmp_path / "out/benchmark.csv", encoding="utf-8", newline="") as f:
        table = list(csv.reader(f))
    assert table[0][:3] == ["form", "MB", "mAP50-95"] and table[2][:3] == ["torchscript", "1.0", "0.2500"]
    record = json.loads((tmp_path / "out/benchmark.json").read_text(encoding="utf-8"))
    assert record["recommended"] == "pytorch" and "is more than 0.01 below" in record["why"][1]
    assert record["forms"][1]["single"] == FIGURES and record["imgsz"] == [64, 96] and "CPU" in record["machine"]
    assert (tmp_path / "out/benchmark.png").stat().st_size > 5000
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"benchmark.csv", "benchmark.json", "benchmark.png"}


def test_command_line(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    monkeypatch.setattr(bench, "run_in_subprocess", lambda job: dict(FIGURES))
    arguments = ["benchmark", f"model={weights}", "imgsz=64", "format=pytorch,torchscript", f"project={tmp_path}"]
    cli.entrypoint(arguments)
    assert (tmp_path / "benchmark/benchmark.csv").is_file()
    for bad, word in ((["benchmark"], "needs model="), (["export"], "needs model=")):
        with pytest.raises(SystemExit):
            cli.entrypoint(bad)
        assert word in capsys.readouterr().err


def test_texts_of_the_picture_are_drawn_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    found = caught(monkeypatch, bench)
    bench.draw([bench.Figures("onnx", 1.0, single=FIGURES, large=FIGURES)], tmp_path / "b.png", ODD_NAMES[0])
    assert {ODD_NAMES[0], "onnx", "p90", "batch 8"} <= set(found[0])
