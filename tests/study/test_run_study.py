"""A study from its plan to the page: one tiny run is real, the others are written by the test."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.engine.tiny import write_dataset
from tests.study.runs import PLAN, outcome, write_plan, write_run
from ultralytics.cli.main import entrypoint
from ultralytics.nn.build.insertion import replace_row
from ultralytics.study import check, report, run_study
from ultralytics.study.check import Checked, Estimate, check_plan, estimate_table, model_yaml, resolution_text
from ultralytics.study.engines import OnEnd
from ultralytics.study.jobs import OUTCOME, Outcome, StudyJob, data_digest, failure_of, make_jobs
from ultralytics.study.plan import StudyPlan, load_plan
from ultralytics.study.run_study import ablate
from ultralytics.study.worker import run_command_line, run_job
from ultralytics.utils.errors import UserError

APS = {"base": [0.50, 0.52], "focal": [0.49, 0.53], "shsa": [0.70, 0.72]}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "set")


class Written:
    """An engine whose runs are written at once; arms in `broken` fail."""

    def __init__(self, broken: Sequence[str] = ()) -> None:
        self.broken = broken
        self.ran: list[tuple[str, int]] = []

    def run(self, jobs: Sequence[StudyJob], report: OnEnd) -> None:
        rng = np.random.default_rng(0)
        noise = rng.normal(0, 0.01, 100)
        for job in jobs:
            self.ran.append((job.arm, job.seed))
            if job.arm in self.broken:
                report(job, "out of memory")
                continue
            ap = APS[job.arm][job.seed] + 0.001 * job.seed * (job.arm == "shsa")
            result = replace(outcome(job.arm, job.seed, ap, job.path), content=job.content)
            write_run(job.path, result, drawn=ap + noise)
            report(job, "")


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Written:
    written = Written()
    monkeypatch.setattr(run_study, "make_engine", lambda *_: written)
    monkeypatch.setattr(run_study, "check_plan", quick_check)
    return written


def quick_check(plan: StudyPlan) -> Checked:
    """The models without their cost, which has a test of its own."""
    return Checked({v.name: model_yaml(v) for v in plan.arms}, [Estimate(v.name, 1, 1.0, 0.1, 1.0) for v in plan.arms])


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("draw_cost", "draw_run_bands"):
        monkeypatch.setattr(report, name, lambda *_, **__: [])


def test_a_plan_becomes_a_judged_study(tmp_path: Path, data: Path, engine: Written) -> None:
    study = ablate(write_plan(tmp_path, data), project=tmp_path / "studies", fmt="svg")
    assert engine.ran == [(arm, seed) for seed in (0, 1) for arm in APS]
    assert {row.arm: row.verdict for row in study.judgements} == {
        "base": "base", "focal": "within noise", "shsa": "better",
    }  # fmt: skip
    folder = tmp_path / "studies" / "small"
    for name in (
        "study.csv",
        "study.md",
        "study.tex",
        "runs.csv",
        "cost.png",
        "cost.svg",
        "curves.svg",
        "all_curves.png",
    ):
        assert (folder / name).stat().st_size > 100, name
    assert "**0.710 ± 0.015**" in (folder / "study.md").read_text()
    tex = (folder / "study.tex").read_text()
    assert r"\textbf{0.710 $\pm$ 0.015}" in tex and r"\toprule" in tex
    assert r"$+0.200$" in tex and r"\textless{}0.001" not in tex and "& -0.0" not in tex
    with open(folder / "study.csv", newline="") as f:
        base, _, shsa = csv.DictReader(f)
    assert base["difference"] == "" and float(base["AP_mean"]) == pytest.approx(0.51)
    assert float(shsa["difference"]) == pytest.approx(0.2005) and shsa["verdict"] == "better"
    assert float(shsa["seeds_low"]) < float(shsa["images_low"]) < 0.2005 < float(shsa["p_holm"]) + 0.2005
    page = (folder / "report.html").read_text()
    assert "http" not in page.replace("http-equiv", "") and "<script" not in page
    assert 'src="data:image/png;base64,' in page and "SHSA" in page and "白细胞" in page


@pytest.mark.usefixtures("no_figures")
def test_finished_runs_are_not_repeated_in_this_study_nor_another(tmp_path: Path, data: Path, engine: Written) -> None:
    plan = write_plan(tmp_path, data)
    ablate(plan, project=tmp_path / "studies")
    engine.ran.clear()
    again = ablate(plan, project=tmp_path / "studies")
    assert engine.ran == [] and not again.findings.reused
    other = write_plan(tmp_path, data, PLAN.replace("name: small", "name: other").replace("loss: focal", "loss: mal"))
    study = ablate(other, project=tmp_path / "studies")
    assert {arm for arm, _ in engine.ran} == {"focal"}
    assert {arm for arm, _ in study.findings.reused} == {"base", "shsa"}


@pytest.mark.usefixtures("no_figures")
def test_a_variant_that_fails_is_reported_and_the_others_are_judged(
    tmp_path: Path, data: Path, engine: Written
) -> None:
    engine.broken = ["focal"]
    plan = write_plan(tmp_path, data)
    study = ablate(plan, project=tmp_path / "studies")
    assert [row.arm for row in study.judgements] == ["base", "shsa"]
    text = (tmp_path / "studies/small/study.md").read_text()
    assert "focal, seed 1: out of memory" in text
    assert "out of memory" in (tmp_path / "studies/small/report.html").read_text()
    engine.broken = ["base"]
    study = ablate(plan, project=tmp_path / "without")
    assert study.judgements == [] and "nothing can be compared" in (tmp_path / "without/small/study.md").read_text()


def test_the_time_left_is_that_of_the_runs_that_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter((0.0, 60.0, 90.0))
    monkeypatch.setattr("ultralytics.study.run_study.time", SimpleNamespace(monotonic=lambda: next(clock)))
    pace = run_study.Pace(4, processes=2)
    assert [pace.left() for _ in range(4)] == ["", "; about 1:00 left", "; about 0:30 left", ""]


def test_what_cannot_run_is_refused_before_the_first_run(
    tmp_path: Path, data: Path, engine: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_study, "check_plan", check_plan)
    monkeypatch.setattr(check, "step_seconds", lambda *_: 1.0)
    plan = write_plan(tmp_path, data, PLAN.replace("row: [SHSA, []]", "row: [SHSA, [16, 9999]]"))
    with pytest.raises(UserError, match=r"plan\.yaml:16: shsa cannot run: "):
        ablate(plan, project=tmp_path / "studies")
    assert engine.ran == [] and not (tmp_path / "studies").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("loss: focal", "epochs: 1, verbose: false", r"plan\.yaml:15: focal is base again"),
        ("loss: focal", "recipe: trial", r"plan\.yaml:15: focal is base again: .* recipe=trial sets"),
        ("insert: {{after: 3, row: [SHSA, []]}}", "loss: focal", r"plan\.yaml:16: shsa is focal again"),
        ("loss: focal", "pretrained: none.pt", r"plan\.yaml:15: focal cannot run: .*none\.pt"),
        ("loss: focal", "dfl: 2.0", r"plan\.yaml:15: focal cannot run: dfl=2.0 has no effect"),
        ("after: 3", "after: 30", r"^plan\.yaml:16: shsa cannot run: insert: after=30: give the index"),
        ("after: 3", "after: Conv", r"rows with the module Conv: 0, 1, 2, 3, 4, 5"),
        ("devices: [cpu]", "devices: [cpu, 77]", "GPU 77"),
    ],
)
def test_an_arm_that_would_show_nothing_is_refused(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, message: str
) -> None:
    monkeypatch.setattr(check, "step_seconds", lambda *_: 1.0)
    write_plan(tmp_path, data, PLAN.replace(old, new))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        check_plan(load_plan("plan.yaml"))


def test_equal_networks_are_timed_once_and_one_seed_is_announced(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter((1.0, 2.0))
    monkeypatch.setattr(check, "step_seconds", lambda *_: next(times))
    plan = load_plan(write_plan(tmp_path, data))
    base, focal, shsa = check_plan(plan).estimates
    assert base.hours == focal.hours == pytest.approx((4 + 4 / 3) / 3600) and shsa.hours == 2 * base.hours
    assert estimate_table(replace(plan, devices=("cpu", "cpu")), [base]).rows[-1][4] == base.hours * 2
    assert "2 seeds show a difference of 0.056" in resolution_text(plan)
    assert "with one seed nothing is tested" in resolution_text(replace(plan, seeds=(3,)))


def test_the_command_line_estimates(
    tmp_path: Path, data: Path, engine: Written, capsys: pytest.CaptureFixture[str]
) -> None:
    entrypoint(["ablate", str(write_plan(tmp_path, data)), f"project={tmp_path}/studies", "dry=True"])
    assert "hours, 2 seeds" in capsys.readouterr().out and engine.ran == []


def test_contents_differ_where_a_run_would(tmp_path: Path, data: Path) -> None:
    plan = load_plan(write_plan(tmp_path, data))
    yamls = {v.name: model_yaml(v) for v in plan.arms}

    def addresses(changed: Any = plan) -> list[str]:
        return [job.content for job in make_jobs(changed, yamls, tmp_path / "m", tmp_path / "r")]

    first = addresses()
    assert len(set(first)) == 6 and addresses() == first
    quiet = replace(plan, base=replace(plan.base, args={**plan.base.args, "verbose": False}))
    assert addresses(quiet) == first
    assert addresses(replace(plan, split="train"))[0] not in first
    label = data.parent / "labels" / "train" / "002.txt"
    before = data_digest(str(data))
    label.write_text("0 0.5 0.5 0.2 0.2\n")
    assert data_digest(str(data)) != before
    label.write_text("")


def test_a_row_is_put_in_and_one_replaced(tmp_path: Path, data: Path) -> None:
    text = PLAN.replace("insert: {{after: 3, row: [SHSA, []]}}", "replace: {{layer: 3, row: [Conv, [24, 3, 2]]}}")
    plan = load_plan(write_plan(tmp_path, data, text))
    yaml = model_yaml(plan.variants[1])
    assert yaml["backbone"][3] == [-1, 1, "Conv", [24, 3, 2]] and len(yaml["backbone"]) == 5
    inserted = model_yaml(load_plan(write_plan(tmp_path, data)).variants[1])
    named: dict[str, Any] = {
        "nc": 1,
        "backbone": [[-1, 2, "Conv", [8], {"name": "a"}]],
        "head": [["a", 1, "Conv", [8]]],
    }
    assert replace_row(named, "a", ["SHSA", []])["backbone"] == [[-1, 2, "SHSA", [], {"name": "a"}]]
    assert inserted["backbone"][4][2] == "SHSA" and inserted["head"][-1][0] == [2, 4, 7]


def test_estimates_count_the_network(tmp_path: Path, data: Path) -> None:
    checked = check_plan(load_plan(write_plan(tmp_path, data)))
    base, focal, shsa = checked.estimates
    assert base.params == focal.params < shsa.params and base.hours > 0 and base.megabytes > 4


def test_a_job_trains_evaluates_and_is_finished(tmp_path: Path, data: Path) -> None:
    """The worker in this process: a real run of one epoch, its outcome, and what a second start does."""
    plan = load_plan(write_plan(tmp_path, data))
    job = make_jobs(plan, {v.name: model_yaml(v) for v in plan.arms}, tmp_path, tmp_path / "runs")[0]
    job = replace(job, model=str(tmp_path / "tiny.yaml"))
    job.save()
    assert run_command_line([str(job.file), "--device", "cpu"]) == 0
    result = Outcome.load(job.path)
    assert result is not None and result.content == job.content and result.images == 4
    drawn = result.replicates()
    assert drawn is not None and len(drawn) == 1000 and (job.path / "results.csv").exists()
    (job.path / OUTCOME).unlink()  # killed after training: the evaluation is repeated, the training is not
    stamp = (job.path / "weights" / "last.pt").stat().st_mtime_ns
    assert run_job(StudyJob.load(job.file), "cpu").metrics == result.metrics
    assert (job.path / "weights" / "last.pt").stat().st_mtime_ns == stamp


def test_a_job_that_cannot_run_leaves_its_reason(tmp_path: Path) -> None:
    job = StudyJob("a", 0, "x", str(tmp_path / "run"), str(tmp_path / "none.yaml"), {"data": "none.yaml"})
    job.save()
    assert run_command_line([str(job.file)]) == 1 and "none.yaml" in failure_of(job.path)


def test_files_of_another_kind_are_not_outcomes(tmp_path: Path) -> None:
    (tmp_path / OUTCOME).write_text(json.dumps({"a": 1}))
    assert Outcome.load(tmp_path) is None and failure_of(tmp_path) == ""
