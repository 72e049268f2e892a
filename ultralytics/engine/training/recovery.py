"""What a run does after a step that is not finite: find the cause, write the replay, return to the last good state,
continue once in a safer precision, or stop.

A step that is found late (on a GPU the losses are looked at every few batches; in an accumulated step any batch may be
at fault) is found again: the run returns to its last good state and checks every batch from there on.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch

from ultralytics.engine.training.nan_trace import ADVICE, DATA_CAUSES, NanFinding, Step, StepFailure, shown_images
from ultralytics.engine.training.protocols import HasStep
from ultralytics.engine.training.replay import examine, precision_name, write_replay
from ultralytics.nn.checkpoint.format import read_checkpoint
from ultralytics.utils import LOGGER, YAML, dist
from ultralytics.utils.errors import TrainingError
from ultralytics.utils.files import FolderLock
from ultralytics.utils.torch_utils import native_bf16, unwrap_model

REPLAY = "replay.pt"


def safer_precision(dtype: torch.dtype | None, device: torch.device) -> str | None:
    """Return the next safer value of `amp`: bf16 where native after fp16, else fp32; None after fp32."""
    if dtype is None:
        return None
    return "bf16" if dtype is torch.float16 and native_bf16(device) else "fp32"


class Recovery:
    """What a run remembers of its failures, and of its folder.

    `check_every_step`: losses and gradients are checked before the weights change. `check_every_batch`: so is the
    gradient of each single batch inside an accumulated step. The first good state is kept in memory until a checkpoint
    is on disk; that of a resumed run is on disk from the start, in the file that it resumes from.
    """

    def __init__(self, check_every_step: bool, resumed: Path | None = None) -> None:
        self.check_every_step = check_every_step
        self.check_every_batch = self.retried = False
        self._first: dict[str, Any] | None = None
        self._saved = resumed
        self.saved_step: int | None = None  # that the newest checkpoint is of
        self.open_batches = 0  # since the last optimizer step
        self.lock = FolderLock()  # of the run folder
        self.made_folder = False  # whether this run has made its folder

    def begin(self, run: HasStep) -> None:
        """Keep the state that the run starts from, unless it is on disk."""
        if self._saved is None and dist.is_main():
            self._first = copy.deepcopy(run.state.pack({}, {}))

    @property
    def on_disk(self) -> Path | None:
        """The checkpoint that this run could resume from after a crash, None before the first one."""
        return self._saved

    def saved(self, path: Path, step: int) -> None:
        """The last good state, that of a step, is on disk now."""
        self._saved, self._first, self.saved_step = path, None, step

    def handle(self, run: HasStep, failure: StepFailure) -> None:
        """Bring the run back to its last good state, or raise TrainingError when there is nothing more to try."""
        if not failure.exact and not self.check_every_batch:
            LOGGER.warning(f"a {failure.kind} is not finite: returning to the last good state, to check every batch")
            self.check_every_step = self.check_every_batch = True
            self._restore(run)
            return
        finding = self._report(run, failure)
        text = failure_lines(run, failure, finding)
        safer = safer_precision(run.precision.dtype, run.device)
        if self.retried or safer is None or finding.cause in DATA_CAUSES:
            raise TrainingError(*text)
        LOGGER.warning("\n".join(text))
        self.retried = True
        self._restore(run)
        run.set_precision(safer)
        if dist.is_main():
            YAML.save(run.paths.save_dir / "args.yaml", dict(run.args))
        LOGGER.warning(f"continuing once with amp={safer} from epoch {run.progress.epoch + 1}")

    def _report(self, run: HasStep, failure: StepFailure) -> NanFinding:
        """Find the cause and write the replay: of the first process that found one."""
        model = unwrap_model(run.model)
        scaler, dtype = run.precision
        scale = float(scaler.get_scale()) if scaler.is_enabled() else 1.0
        step = Step(run.args.seed, run.rank, run.at.number, dtype, scale, run.warmup.accumulate > 1)
        own = examine(model, failure.batch, step)
        if failure.kind == "label":  # seen by one process alone, which stops here
            write_replay(run.paths.save_dir / REPLAY, model, failure.batch, step, own)
            return own
        found = dist.all_gather_objects(own)
        place = next((i for i, f in enumerate(found) if f.cause != "none"), 0)
        if place == max(run.rank, 0):
            write_replay(run.paths.save_dir / REPLAY, model, failure.batch, step, own)
        dist.barrier()
        return found[place]

    def _restore(self, run: HasStep) -> None:
        """Return to the last good state, which the main process holds."""
        state: Any = None
        if dist.is_main():
            state = read_checkpoint(self._saved) if self._saved is not None else copy.deepcopy(self._first)
        run.go_back(dist.broadcast_object(state))


def failure_lines(run: HasStep, failure: StepFailure, finding: NanFinding) -> tuple[str, str, str]:
    """Three lines: where and what, which images, what to do."""
    values = run.meter.bad_text if failure.kind == "loss" else ""
    terms = f"; loss terms: {', '.join(finding.terms)}" if finding.terms else ""
    amp = precision_name(run.precision.dtype)
    verb = "wrong" if failure.kind == "label" else "not finite"
    return (
        f"the {failure.kind} is {verb} at {run.at.text}, {amp}{values}: {finding.what}{terms}",
        f"images: {shown_images(finding.images)}",
        f"yolo replay {run.paths.save_dir / REPLAY} runs this step again; {ADVICE[finding.cause]}",
    )
