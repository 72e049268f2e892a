"""Where the runs of a study are executed: processes on this machine, an array job of Slurm, or a Ray cluster.

An engine runs jobs in any order and reports each as it ends. It keeps no state of its own that a kill could lose: what
is finished is on disk, and a run that was stopped resumes from its checkpoint.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol

from ultralytics.study.jobs import FAILURE, LOG, OUTCOME, StudyJob, failure_of
from ultralytics.utils import ROOT
from ultralytics.utils.errors import ConfigError, MissingPackageError
from ultralytics.utils.files import atomic_write
from ultralytics.utils.log import LOGGER

ENGINES = ("local", "slurm", "ray")
WORKER = "ultralytics.study.worker"
"""The module that runs a job of a study; that of another kind of job takes its place."""
MISSES = 3
"""Looks at the queue after which a task that is neither there nor finished has failed: files of a node appear late."""
OnEnd = Callable[[StudyJob, str], None]
"""Called once for each job that has ended: with its reason when it failed, else with an empty string."""


class Engine(Protocol):
    """Runs the jobs of a study."""

    def run(self, jobs: Sequence[StudyJob], report: OnEnd) -> None:
        """Run all jobs, and report each as it ends."""


def worker_command(job: StudyJob, *options: str, module: str = WORKER) -> list[str]:
    """Return the command that runs a job in a process."""
    return [sys.executable, "-m", module, str(job.file), *options]


def worker_environment(threads: int = 0) -> dict[str, str]:
    """Return the environment of a worker: it finds this package, and takes so many threads (0: as it likes)."""
    paths = [str(ROOT.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    limits = {"OMP_NUM_THREADS": str(threads)} if threads and "OMP_NUM_THREADS" not in os.environ else {}
    return {**os.environ, **limits, "PYTHONPATH": os.pathsep.join(paths)}


def reason_of(job: StudyJob, code: int | None) -> str:
    """Return why a job whose process has ended is not finished; empty when it is."""
    if (job.path / OUTCOME).exists():
        return ""
    ended = f"killed by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"
    return failure_of(job.path) or f"the process was {ended}; see {job.path / LOG}"


@dataclass
class _Running:
    job: StudyJob
    device: str
    process: subprocess.Popen[bytes]
    log: IO[bytes]


@dataclass
class LocalEngine:
    """Processes of this machine, one for each entry of `devices`: `0` and `1` are GPUs, `cpu` may be named repeatedly.

    Processes on the CPU divide its cores. They end with this one.
    """

    devices: Sequence[str] = ("",)
    interval: float = 0.2
    command: Callable[..., list[str]] = worker_command

    def run(self, jobs: Sequence[StudyJob], report: OnEnd) -> None:
        """Run all jobs, and report each as it ends."""
        waiting, running = list(jobs), list[_Running]()
        free = list(self.devices or ("",))
        try:
            while waiting or running:
                while waiting and free:
                    running.append(self._start(waiting.pop(0), free.pop(0)))
                time.sleep(self.interval)
                for one in [r for r in running if r.process.poll() is not None]:
                    running.remove(one)
                    free.append(one.device)
                    one.log.close()
                    report(one.job, reason_of(one.job, one.process.returncode))
        finally:
            for one in running:
                one.process.kill()
                one.process.wait()
                one.log.close()

    def _start(self, job: StudyJob, device: str) -> _Running:
        job.path.mkdir(parents=True, exist_ok=True)
        log = open(job.path / LOG, "ab")
        options = ["--attached", *(["--device", device] if device else [])]
        process = subprocess.Popen(
            self.command(job, *options),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=worker_environment(self.threads),
        )
        return _Running(job, device, process, log)

    @property
    def threads(self) -> int:
        """Threads of a process: the cores divided by the processes on the CPU; 0 leaves it to torch."""
        on_cpu = sum(d == "cpu" for d in self.devices)
        return max(1, (os.cpu_count() or 1) // on_cpu) if on_cpu else 0


@dataclass
class SlurmEngine:
    """One array job of Slurm, whose script and number are kept in `folder`.

    `options` are options of sbatch by their long name: `{partition: gpu, gres: "gpu:1", time: "4:00:00"}`. A study that
    is started again follows an array that still runs. The folder of the study must be visible from the nodes.
    """

    folder: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    interval: float = 15.0
    command: str = f"{shlex.quote(sys.executable)} -m {WORKER}"

    def run(self, jobs: Sequence[StudyJob], report: OnEnd) -> None:
        """Submit what is not in the queue yet, and follow it."""
        number, listed = self._queued(jobs) or self._submit(jobs)
        index = {folder: str(i) for i, folder in enumerate(listed)}
        open_jobs = {job.folder: job for job in jobs}
        missed = dict.fromkeys(open_jobs, 0)
        while open_jobs:
            waiting = self._waiting(number)
            for folder, job in list(open_jobs.items()):
                missed[folder] += waiting is not None and index[folder] not in waiting
                finished = (job.path / OUTCOME).exists()
                limit = 1 if (job.path / FAILURE).exists() else MISSES
                if finished or missed[folder] >= limit:
                    del open_jobs[folder]
                    report(job, "" if finished else self._reason(job))
            if open_jobs:
                time.sleep(self.interval)

    def _reason(self, job: StudyJob) -> str:
        return failure_of(job.path) or f"the task left the queue without a result; see {job.path / LOG}"

    def _queued(self, jobs: Sequence[StudyJob]) -> tuple[str, list[str]] | None:
        """Return the number and folders of an array that holds all these jobs and is still in the queue."""
        with suppress(OSError, ValueError, KeyError):
            known = json.loads((self.folder / "array.json").read_text(encoding="utf-8"))
            number, listed = str(known["number"]), list(known["folders"])
            if {job.folder for job in jobs} <= set(listed) and self._waiting(number):
                LOGGER.info(f"following the array job {number}")
                return number, listed
        return None

    def _submit(self, jobs: Sequence[StudyJob]) -> tuple[str, list[str]]:
        """Write the script and submit it; return the number of the array and the folders in its order."""
        listed = [job.folder for job in jobs]
        script = self.folder / "array.sh"
        with atomic_write(script) as f:
            f.write(self.script(jobs))
        for job in jobs:
            (job.path / FAILURE).unlink(missing_ok=True)
        number = _answer(["sbatch", "--parsable", str(script)]).split(";")[0].strip()
        with atomic_write(self.folder / "array.json") as f:
            json.dump({"number": number, "folders": listed}, f)
        LOGGER.info(f"submitted the array job {number} of {len(jobs)} runs: {script}")
        return number, listed

    def script(self, jobs: Sequence[StudyJob]) -> str:
        """Return the text of the batch script."""
        options = {"job-name": self.folder.parent.name, "output": str(self.folder / "task-%a.txt"), **self.options}
        lines = ["#!/bin/bash", f"#SBATCH --array=0-{len(jobs) - 1}"]
        lines += [f"#SBATCH --{name}={value}" for name, value in options.items() if name != "array"]
        lines += ["jobs=(", *(f"  {shlex.quote(str(job.file.absolute()))}" for job in jobs), ")"]
        lines += [
            'job="${jobs[$SLURM_ARRAY_TASK_ID]}"',
            f'export PYTHONPATH={shlex.quote(str(ROOT.parent))}:"$PYTHONPATH"',
            f"cd {shlex.quote(str(Path.cwd()))}",
            f'{self.command} "$job" >> "$(dirname "$job")/{LOG}" 2>&1',
        ]
        return "\n".join(lines) + "\n"

    def _waiting(self, number: str) -> set[str] | None:
        """Return the indices of the tasks that wait or run; None while Slurm does not answer."""
        command = ["squeue", "--noheader", "--array", "--job", number, "--format=%K"]
        _need_command(command[0])
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode == 0 or "invalid job id" in result.stderr.lower():  # an array that has left the queue
            return set(result.stdout.split())
        LOGGER.warning(f"squeue failed, and is asked again: {result.stderr.strip()}")
        return None


def _need_command(name: str) -> None:
    if shutil.which(name) is None:
        raise ConfigError(f"engine=slurm: there is no command {name}", "start the study where Slurm is installed")


def _answer(command: Sequence[str]) -> str:
    """Return what a command of Slurm prints; raises ConfigError when it fails."""
    _need_command(command[0])
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise ConfigError(f"{shlex.join(command)} failed: {result.stderr.strip()}", "correct the options under slurm:")
    return result.stdout


@dataclass
class RayEngine:
    """Tasks on a Ray cluster, by default the one in RAY_ADDRESS, else one on this machine.

    A task that loses its node is started again elsewhere and resumes. The folder of the study must be visible there.
    """

    gpus: float = 1.0
    cpus: float = 1.0
    retries: int = 3
    module: str = WORKER

    def run(self, jobs: Sequence[StudyJob], report: OnEnd) -> None:
        """Run all jobs, and report each as it ends."""
        need_engine("ray")
        import ray

        ray.init(ignore_reinit_error=True, log_to_driver=False)
        options = {"num_gpus": self.gpus, "num_cpus": self.cpus, "max_retries": self.retries}
        task = ray.remote(**options)(run_in_process)
        waiting = {task.remote(worker_command(job, module=self.module), str(job.path / LOG)): job for job in jobs}
        while waiting:
            done, _ = ray.wait(list(waiting), num_returns=1)
            job = waiting.pop(done[0])
            try:
                report(job, reason_of(job, ray.get(done[0])))
            except ray.exceptions.RayError as e:
                report(job, f"{type(e).__name__}: the task was lost {self.retries + 1} times")


def run_in_process(command: Sequence[str], log: str) -> int:
    """Run a command with its output appended to a file; return its exit code. It ends with this process."""
    attached = [*command, "--attached"]
    with (
        open(log, "ab") as f,
        subprocess.Popen(attached, stdin=subprocess.PIPE, stdout=f, stderr=f, env=worker_environment()) as process,
    ):
        return process.wait()


def check_engine(name: str) -> None:
    """Raise ConfigError for an engine that does not exist."""
    if name not in ENGINES:
        raise ConfigError(f"engine={name!r} is not one of {', '.join(ENGINES)}")


def need_engine(name: str) -> None:
    """Raise ConfigError for an engine that does not exist, MissingPackageError for one that is not installed here."""
    check_engine(name)
    if name == "slurm":
        _need_command("sbatch")
    if name == "ray":
        try:
            import ray  # noqa: F401
        except ImportError:
            raise MissingPackageError("engine=ray needs ray", "pip install 'rtdetr-shsa[ray]'") from None


def device_list(devices: Sequence[str | int] | str | int) -> tuple[str, ...]:
    """`0,1`, `[0, 1]`, `cpu` and `cpu,cpu` as a tuple of strings."""
    parts = str(devices).strip("[]()").split(",") if isinstance(devices, (str, int)) else devices
    return tuple(str(part).strip() for part in parts)


def make_engine(
    name: str, devices: Sequence[str], folder: Path, slurm: Mapping[str, Any], module: str = WORKER
) -> Engine:
    """Return the engine of a name, whose processes run `module`; raises ConfigError for an unknown engine."""
    check_engine(name)
    if name == "slurm":
        return SlurmEngine(folder / "slurm", slurm, command=f"{shlex.quote(sys.executable)} -m {module}")
    if name == "ray":
        return RayEngine(gpus=0.0 if set(devices) == {"cpu"} else 1.0, module=module)
    return LocalEngine(devices or ("",), command=partial(worker_command, module=module))
