"""Engines with stand-ins for what they start: processes that end in each way, and a Slurm of two scripts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.study.runs import jobs, outcome
from ultralytics.study.engines import LocalEngine, RayEngine, SlurmEngine, make_engine
from ultralytics.study.jobs import OUTCOME, StudyJob
from ultralytics.study.worker import write_failure
from ultralytics.utils.errors import ConfigError, MissingPackageError

SCRIPT = """
import json, os, signal, sys
folder = os.path.dirname(sys.argv[1])
arm = os.path.basename(os.path.dirname(folder))
open(os.path.join(folder, "device"), "w").write(" ".join(sys.argv[2:]))
if arm == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if arm == "wrong":
    json.dump({"reason": "no such layer"}, open(os.path.join(folder, "failure.json"), "w"))
    sys.exit(1)
open(os.path.join(folder, "outcome.json"), "w").write("{}")
"""


def test_processes_are_run_and_each_end_is_reported(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    engine = LocalEngine(
        ["cpu", "0"], 0.02, lambda job, *options: [sys.executable, str(script), str(job.file), *options]
    )
    ended: dict[str, str] = {}
    listed = jobs(tmp_path, ["good", "wrong", "killed", "last"])
    engine.run(listed, lambda job, reason: ended.update({job.arm: reason}))
    assert ended["good"] == ended["last"] == "" and ended["wrong"] == "no such layer"
    assert "killed by signal 9" in ended["killed"] and "log.txt" in ended["killed"]
    device = (tmp_path / "runs/good/seed0/device").read_text()
    assert device == "--attached --device cpu"


def test_workers_end_with_the_program_that_started_them(tmp_path: Path) -> None:
    """SIGKILL of the parent leaves no process behind that could write into the run folder."""
    child = "from ultralytics.study.attached import end_with_parent; import time; end_with_parent(); time.sleep(60)"
    parent = textwrap.dedent(f"""
        import subprocess, sys, time
        p = subprocess.Popen([sys.executable, "-c", {child!r}], stdin=subprocess.PIPE)
        print(p.pid, flush=True)
        time.sleep(60)
    """)
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and _is_running(pid):
        time.sleep(0.05)
    assert not _is_running(pid)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins: sbatch notes its script and answers a number, squeue prints the file `queue`."""
    place = tmp_path / "bin"
    place.mkdir()
    for name, text in {
        "sbatch": f'#!/bin/sh\necho "$@" >> {place}/calls\n'
        f'test -f {place}/refuse && echo "bad partition" >&2 && exit 1\necho 77\n',
        "squeue": f"#!/bin/sh\ncat {place}/queue\n",
    }.items():
        (place / name).write_text(text)
        (place / name).chmod(0o755)
    (place / "queue").write_text("0\n1\n2\n")
    monkeypatch.setenv("PATH", f"{place}{os.pathsep}{os.environ['PATH']}")
    return place


def test_slurm_writes_and_follows_one_array(tmp_path: Path, slurm: Path) -> None:
    listed = jobs(tmp_path, ["a", "b", "c"])
    engine = SlurmEngine(tmp_path / "slurm", {"partition": "gpu", "time": "1:00:00"}, 0.0)
    ended: dict[str, str] = {}

    def report(job: StudyJob, reason: str) -> None:
        ended[job.arm] = reason
        if job.arm == "a":  # then b fails, and c leaves without a word
            write_failure(listed[1].path, "out of memory")
            (slurm / "queue").write_text("")

    outcome("a", 0, 0.5, listed[0].path).save(listed[0].path)
    engine.run(listed, report)
    assert ended == {"a": "", "b": "out of memory", "c": ended["c"]} and "left the queue" in ended["c"]
    script = (tmp_path / "slurm" / "array.sh").read_text()
    assert "#SBATCH --array=0-2" in script and "#SBATCH --partition=gpu" in script
    assert subprocess.run(["bash", "-n", str(tmp_path / "slurm" / "array.sh")], check=False).returncode == 0
    assert (slurm / "calls").read_text().count("--parsable") == 1


def test_a_study_started_again_follows_the_array_that_runs(tmp_path: Path, slurm: Path) -> None:
    listed = jobs(tmp_path, ["a", "b", "c"])
    engine = SlurmEngine(tmp_path / "slurm", {}, 0.0)
    engine._submit(listed)
    for job in listed:
        outcome(job.arm, 0, 0.5, job.path).save(job.path)
    ended: list[str] = []
    engine.run(listed[1:], lambda job, reason: ended.append(job.arm + reason))
    assert ended == ["b", "c"] and (slurm / "calls").read_text().count("--parsable") == 1


def test_a_slow_disk_and_a_silent_squeue_are_not_failures(
    tmp_path: Path, slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """squeue fails at first, then the task has left the queue, and its result appears two looks later."""
    (slurm / "squeue").write_text(
        f"#!/bin/sh\necho x >> {slurm}/looks\n"
        f'test $(wc -l < {slurm}/looks) -lt 3 && echo "slurm_load_jobs error: Socket timed out" >&2 && exit 1\n'
        'echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1\n'
    )
    (job,) = jobs(tmp_path, ["a"])
    looks = iter(range(10))

    def sleep(_: float) -> None:
        if next(looks) == 3:
            outcome("a", 0, 0.5, job.path).save(job.path)

    monkeypatch.setattr("ultralytics.study.engines.time", SimpleNamespace(sleep=sleep))
    ended: list[str] = []
    SlurmEngine(tmp_path / "slurm", {}).run([job], lambda job, reason: ended.append(reason))
    assert ended == [""] and next(looks) == 4


def test_the_script_runs_the_worker_of_its_index(tmp_path: Path, slurm: Path) -> None:
    listed = jobs(tmp_path, ["a", "b"])
    for job in listed:
        job.path.mkdir(parents=True)
    SlurmEngine(tmp_path / "slurm", {}, 0.0, "echo run")._submit(listed)
    subprocess.run(
        ["bash", str(tmp_path / "slurm" / "array.sh")], env={**os.environ, "SLURM_ARRAY_TASK_ID": "1"}, check=False
    )
    log = (listed[1].path / "log.txt").read_text()
    assert log == f"run {listed[1].file}\n" and not (listed[0].path / "log.txt").exists()


def test_what_sbatch_refuses_is_reported(tmp_path: Path, slurm: Path) -> None:
    (slurm / "refuse").touch()
    with pytest.raises(ConfigError, match="bad partition"):
        SlurmEngine(tmp_path / "slurm", {}, 0.0).run(jobs(tmp_path, ["a"]), lambda job, reason: None)


def test_slurm_must_be_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="there is no command sbatch"):
        SlurmEngine(tmp_path / "slurm", {}, 0.0).run(jobs(tmp_path, ["a"]), lambda job, reason: None)


def test_engines_by_name(tmp_path: Path) -> None:
    assert isinstance(make_engine("local", (), tmp_path, {}), LocalEngine)
    assert isinstance(make_engine("slurm", (), tmp_path, {}), SlurmEngine)
    assert make_engine("ray", ("cpu",), tmp_path, {}) == RayEngine(gpus=0.0)
    with pytest.raises(ConfigError, match="is not one of local, slurm, ray"):
        make_engine("pbs", (), tmp_path, {})


def test_ray_runs_jobs_or_says_what_to_install(tmp_path: Path) -> None:
    listed = jobs(tmp_path, ["a"])
    listed[0].save()
    ended: list[str] = []
    try:
        import ray  # noqa: F401
    except ImportError:
        with pytest.raises(MissingPackageError, match="pip install"):
            RayEngine().run(listed, lambda job, reason: None)
        pytest.skip("ray is not installed")
    RayEngine(gpus=0.0).run(listed, lambda job, reason: ended.append(reason))
    assert len(ended) == 1 and not (listed[0].path / OUTCOME).exists() and ended[0]
