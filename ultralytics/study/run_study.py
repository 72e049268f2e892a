"""The command `yolo ablate`: check a plan, run what is not finished, judge, and write the report."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ultralytics.study.check import check_plan, estimate_table, resolution_text, write_models
from ultralytics.study.engines import check_engine, device_list, make_engine, need_engine
from ultralytics.study.jobs import Outcome, StudyJob, known_outcomes, make_jobs, stopped_reason
from ultralytics.study.plan import StudyPlan, load_plan
from ultralytics.study.report import write_study_report
from ultralytics.study.results import Findings
from ultralytics.study.statistics import Judgement
from ultralytics.study.stopping import watched_folders
from ultralytics.utils.config.settings import SETTINGS
from ultralytics.utils.log import LOGGER, clock_text, colorstr
from ultralytics.utils.plotting.paper import check_format


@dataclass(frozen=True)
class Study:
    """A study that has ended: its plan, folder, findings and judgements of AP50-95."""

    plan: StudyPlan
    folder: Path
    findings: Findings
    judgements: list[Judgement]


def ablate(
    plan: str | Path | Mapping[str, Any],
    project: str | Path | None = None,
    engine: str = "local",
    devices: Sequence[str | int] | str | int | None = None,
    fmt: str = "pdf",
    dry: bool = False,
) -> Study:
    """Run the study of a plan and write its report into `<project>/<name of the plan>`.

    Started again after a kill it resumes: finished runs are kept, stopped ones continue from their last checkpoint,
    failed ones are tried again. Runs of equal content are taken from earlier studies of the project.

    Args:
        plan: YAML file, or a mapping of its form; see docs/studies.md.
        project: folder of studies; by default `studies` below the runs of the settings.
        engine: local, slurm or ray.
        devices: of engine=local: GPUs such as 0 and 1, or `cpu`, repeated for several processes; else as in the plan.
        fmt: vector format of the figures beside PNG: pdf or svg.
        dry: check and estimate only.

    Raises:
        ConfigError: the plan is wrong or an arm cannot run; nothing was started.
    """
    loaded = load_plan(plan)
    if devices is not None:
        loaded = replace(loaded, devices=device_list(devices))
    check_engine(engine) if dry else need_engine(engine)
    check_format(fmt)
    root = Path(project) if project else Path(SETTINGS["runs_dir"]) / "studies"
    folder = (root / loaded.name).absolute()
    checked = check_plan(loaded if engine == "local" else replace(loaded, devices=()))  # a cluster's are not here
    table = estimate_table(loaded, checked.estimates)
    LOGGER.info(f"{table.title}\n{table.render()}")
    (LOGGER.info if len(loaded.seeds) > 1 else LOGGER.warning)(resolution_text(loaded))
    findings = Findings(base=loaded.base.name, variance=loaded.variance)
    if dry:
        return Study(loaded, folder, findings, [])
    write_models(checked.yamls, folder / "models")
    jobs = make_jobs(loaded, checked.yamls, folder / "models", folder / "runs")
    run_jobs(jobs, findings, loaded, folder, engine)
    command = f"ultralytics.ablate({dict(plan)})" if isinstance(plan, Mapping) else f"yolo ablate {plan}"
    title = f"Study {loaded.name}"
    written = write_study_report(findings, folder, title, checked.yamls, fmt, command, change_rows(loaded))
    written.log(findings)
    LOGGER.info(f"Study saved to {colorstr('bold', str(folder))}")
    return Study(loaded, folder, findings, written.rows)


def change_rows(plan: StudyPlan) -> list[tuple[str, ...]]:
    """Return a table of what the plan changes: a head with the variants, then a row for each key."""
    keys = list(dict.fromkeys(key for variant in plan.variants for key in variant.changes))
    rows: list[tuple[str, ...]] = [("key", *(v.name for v in plan.variants))]
    return rows + [(key, *(str(v.changes.get(key, "")) for v in plan.variants)) for key in keys]


def run_jobs(
    jobs: Sequence[StudyJob], findings: Findings, plan: StudyPlan, folder: Path, engine: str = "local"
) -> None:
    """Run what no study of the project has finished yet, and fill the findings."""
    known = known_outcomes(folder.parent)
    missing = take_known(jobs, known, findings)
    total, done = len(jobs), len(jobs) - len(missing)
    if done:
        LOGGER.info(f"{done} of {total} runs are finished already, {len(findings.reused)} of them in earlier studies")
    if plan.stop_early:
        places = watched_folders(jobs, {content: outcome.folder for content, outcome in known.items()})
        missing = [replace(job, stop=plan.stop_early, watched=places) for job in missing]
        for job, reason in [(job, reason) for job in missing if (reason := stopped_reason(job.path))]:
            missing.remove(job)
            take_ended(job, reason, findings, total)
    for job in missing:
        job.save()
    if missing:
        run = make_engine(engine, plan.devices, folder, plan.slurm).run
        pace = Pace(len(missing), len(plan.devices) if engine == "local" else 1)
        run(missing, lambda job, reason: take_ended(job, reason, findings, total, pace.left()))
    for arm in [a for a, runs in findings.outcomes.items() if not runs]:
        del findings.outcomes[arm]


def take_known(jobs: Sequence[StudyJob], known: Mapping[str, Outcome], findings: Findings) -> list[StudyJob]:
    """Take the runs that are finished, by their content; return the others."""
    missing = []
    for job in jobs:
        runs = findings.outcomes.setdefault(job.arm, {})
        if (outcome := known.get(job.content)) is None:
            missing.append(job)
        else:
            runs[job.seed] = replace(outcome, arm=job.arm)
            if Path(outcome.folder).absolute() != job.path:
                findings.reused.add((job.arm, job.seed))
    return missing


class Pace:
    """How fast the runs of this start end, `processes` at once."""

    def __init__(self, runs: int, processes: int) -> None:
        self.runs, self.processes, self.ended = runs, processes, 0
        self.started = time.monotonic()

    def left(self) -> str:
        """Return the time that the others take, when one more has ended; empty before each process has ended one."""
        self.ended += 1
        if not self.processes <= self.ended < self.runs:
            return ""
        seconds = (time.monotonic() - self.started) / self.ended * (self.runs - self.ended)
        return f"; about {clock_text(seconds)} left"


def take_ended(job: StudyJob, reason: str, findings: Findings, total: int, left: str = "") -> None:
    """Take a run that has ended: it was measured, stopped as hopeless, or failed for a reason.

    `left` is what the line says of the time left.
    """
    outcome = None if reason else Outcome.load(job.path)
    count = sum(map(len, findings.outcomes.values())) + len(findings.failures) + len(findings.stopped) + 1
    run = f"{count}/{total} {job.arm}, seed {job.seed}"
    if reason and stopped_reason(job.path):
        findings.stopped[(job.arm, job.seed)] = reason
        LOGGER.info(f"{run} {reason}{left}")
    elif outcome is None:
        findings.failures[(job.arm, job.seed)] = reason or "the result cannot be read"
        LOGGER.warning(f"{run} failed: {reason}{left}")
    else:
        findings.outcomes[job.arm][job.seed] = outcome
        LOGGER.info(f"{run}: AP {outcome.metrics['AP']:.4f}, trained for {clock_text(outcome.seconds)}{left}")
