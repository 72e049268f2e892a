"""The rule that stops hopeless variants, against a paired t test by hand and curves whose fate is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tests.study.runs import jobs, outcome
from ultralytics.study.jobs import FAILURE, StudyJob, failure_of, stopped_reason
from ultralytics.study.results import FITNESS_COLUMN, Findings
from ultralytics.study.statistics import BETTER, STOPPED, holm, judge
from ultralytics.study.stopping import StoppedEarlyError, StopRule, Watch, epoch_values, watched_folders
from ultralytics.study.tables import notes
from ultralytics.study.worker import write_failure

EPOCHS = 10
Curves = dict[str, dict[int, dict[int, float]]]


def curves(final: dict[str, float], seeds: int, epochs: int = EPOCHS) -> Curves:
    """Straight lines to a final value, a little apart by seed and arm."""
    rng = np.random.default_rng(0)

    def line(end: float) -> dict[int, float]:
        return {e: (end + rng.normal(0, 1e-3)) * e / EPOCHS for e in range(1, epochs + 1)}

    return {arm: {s: line(v + 0.01 * s) for s in range(seeds)} for arm, v in final.items()}


def test_the_p_value_is_that_of_the_paired_test_at_one_epoch() -> None:
    rng = np.random.default_rng(1)
    table = {
        arm: {s: {e: rng.normal(mean, 0.01) for e in (5, 6, 7)} for s in range(4)}
        for arm, mean in (("b", 0.5), ("v", 0.49))
    }
    means = {arm: [np.mean(list(c.values())) for c in runs.values()] for arm, runs in table.items()}
    expected = stats.ttest_rel(means["v"], means["b"], alternative="less").pvalue
    assert StopRule().p_worse(table, "v", "b", 7) == pytest.approx(expected)  # of two arms it is paired
    assert StopRule().p_worse(table, "v", "b", 6) == 1.0  # the window is not complete


def test_hopeless_variants_stop_and_others_do_not() -> None:
    table = curves({"base": 0.5, "bad": 0.3, "good": 0.6, "same": 0.5}, 2)
    verdict = StopRule().verdict(table, "bad", "base", 9, EPOCHS)
    assert "after epoch 9 of 10" in verdict and "-0.1" in verdict and "over 2 seeds" in verdict
    assert not StopRule().verdict(table, "good", "base", 9, EPOCHS)
    assert not StopRule().verdict(table, "same", "base", 9, EPOCHS)


@pytest.mark.parametrize(("epoch", "seeds"), [(8, 2), (10, 2), (9, 1)])
def test_nothing_stops_early_on_nor_at_the_end_nor_from_one_seed(epoch: int, seeds: int) -> None:
    assert not StopRule().verdict(curves({"base": 0.5, "bad": 0.1}, seeds), "bad", "base", epoch, EPOCHS)


def test_a_variant_that_catches_up_is_not_stopped() -> None:
    table = curves({"base": 0.5, "late": 0.5}, 3)
    for seed in range(3):
        table["late"][seed] = {e: v - 0.02 * (EPOCHS - 1 - e) for e, v in table["base"][seed].items()}
    rule = StopRule()
    assert rule.p_worse(table, "late", "base", 9) < 1e-6 and not rule.verdict(table, "late", "base", 9, EPOCHS)
    assert rule.expected_end(table, "late", "base", 9, EPOCHS) == pytest.approx(0.02, abs=0.005)


def write_curve(folder: Path, values: dict[int, float]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = "".join(f"{e},{v}\n" for e, v in values.items())
    (folder / "results.csv").write_text(f"epoch, {FITNESS_COLUMN}\n{rows}")


@pytest.fixture
def job(tmp_path: Path) -> StudyJob:
    """The second seed of a bad variant; all other curves are on disk."""
    table = curves({"base": 0.5, "bad": 0.3}, 2)
    listed = [replace(j, seed=s, folder=f"{j.folder}{s}") for j in jobs(tmp_path, ["base", "bad"]) for s in (0, 1)]
    for one in listed[:3]:
        write_curve(one.path, table[one.arm][one.seed])
    stop = {"start": 0.5, "alpha": 0.01, "window": 3}
    return replace(listed[3], stop=stop, watched=watched_folders(listed, {}))


def trainer(values: dict[int, float]) -> Any:
    rows = [{"epoch": e, FITNESS_COLUMN: v} for e, v in values.items()]
    return SimpleNamespace(progress=SimpleNamespace(rows=rows, epoch=len(rows)), epochs=EPOCHS)


def test_a_run_stops_itself_and_with_it_the_later_seeds(job: StudyJob) -> None:
    values = curves({"bad": 0.3}, 1)["bad"][0]
    watch = Watch(job)
    watch.before()
    watch(trainer({e: values[e] for e in range(1, 9)}))  # too early for a line
    with pytest.raises(StoppedEarlyError, match="after epoch 9") as e:
        watch(trainer({e: values[e] for e in range(1, 10)}))
    write_failure(job.path, str(e.value), stopped=True)
    assert stopped_reason(job.path) == failure_of(job.path) == str(e.value)
    later = replace(job, seed=2, folder=f"{job.folder}x")
    with pytest.raises(StoppedEarlyError, match="seed 1 of bad was stopped"):
        Watch(later).before()
    write_failure(job.path, "no memory")
    assert (job.path / FAILURE).exists() and not stopped_reason(job.path)
    Watch(later).before()


def test_a_file_that_is_written_just_now_is_no_curve(tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_text("epoch,time\n1,")
    assert epoch_values(tmp_path) == {} == epoch_values(tmp_path / "none")


def test_stopped_arms_are_not_tested_and_make_no_other_test_easier(tmp_path: Path) -> None:
    found = Findings(base="base")
    for arm, aps in {"base": (0.50, 0.51, 0.52), "good": (0.60, 0.612, 0.62), "bad": (0.30, 0.31, 0.32)}.items():
        found.outcomes[arm] = {s: outcome(arm, s, ap, tmp_path) for s, ap in enumerate(aps)}
    found.stopped[("bad", 2)] = "stopped early"
    plain = {row.arm: row for row in judge(found.values(), "base")}
    rows = {row.arm: row for row in found.judgements()}
    assert rows["bad"].verdict == STOPPED and rows["bad"].p is None and rows["good"].verdict == BETTER
    assert rows["good"].p is not None and rows["good"].adjusted == holm([rows["good"].p, 1.0])[0]
    assert rows["good"].adjusted >= (plain["good"].adjusted or 0.0)  # the family keeps its size
    text = notes(found, found.judgements())
    assert any(line.startswith("Stopped early: bad.") for line in text) and not any("One seed" in x for x in text)
