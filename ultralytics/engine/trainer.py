"""The training loop, without knowledge of a model family: epochs, validation, checkpoints, final report.

One epoch is: batches (`_train_epoch`), validation, one row of results.csv, `last.pt` and, when better, `best.pt`.
`engine.training.setup` builds what the loop runs on, `engine.training.step` is one step of it; what a resumed run needs
is in `engine.training.state.TrainState`.
"""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from traceback import clear_frames
from typing import Any

import torch
from torch import nn

from ultralytics.cfg.keys import Trait
from ultralytics.data.augment.pipeline import AugmentParams
from ultralytics.data.build import EpochSampler, batches_of, stop_workers
from ultralytics.data.types import Batch, FollowsEpochs
from ultralytics.engine.training import optimizer as optim
from ultralytics.engine.training.autobatch import explain_out_of_memory, is_out_of_memory
from ultralytics.engine.training.console import RunClock, memory_text, next_steps, progress_text, write_csv, write_final
from ultralytics.engine.training.environment import Interrupt, deterministic_mode, devices_to_start, process_group
from ultralytics.engine.training.interface import EpochOutcome
from ultralytics.engine.training.nan_trace import StepFailure, bad_labels
from ultralytics.engine.training.protocols import StepPlace
from ultralytics.engine.training.setup import DataParallelNetwork, TrainerSetup, count_of, lr_curve, trainable_names
from ultralytics.engine.training.state import naming_write_errors, pack_best, seed_step, write
from ultralytics.engine.training.step import StepChecks, TrainParts, TrainStep, mean_items
from ultralytics.engine.training.torchrun import train_in_processes
from ultralytics.nn.checkpoint.format import to_plain
from ultralytics.nn.cpu.malloc import retained_memory
from ultralytics.nn.families import find_family
from ultralytics.nn.tasks import load_checkpoint
from ultralytics.utils import LOGGER, TQDM, colorstr, dist
from ultralytics.utils.errors import WorkerError
from ultralytics.utils.files import file_size
from ultralytics.utils.log import log_level
from ultralytics.utils.metrics import DetMetrics
from ultralytics.utils.plotting.curves import plot_results
from ultralytics.utils.torch_utils import unwrap_model

AUTOSAVE_S = 600.0
"""Seconds between checkpoints inside a long epoch."""

CUDA_FETCH = 10
"""Batches between two checks of the losses on a GPU."""


class BaseTrainer(TrainerSetup):
    """Train a network; a model family fills the methods of `TrainerInterface`, and a user may replace any of them.

    `train()` returns the metrics object of the last validation, usually that of the best weights. Setting `stop` in a
    callback ends the run after the current batch or epoch. At the end `best` is last.pt when this run has written no
    best.pt. `final_val=False` leaves out the validation of the weights that the run ends with.
    """

    def train(self) -> DetMetrics | dict[str, float]:
        """Run the training and return the metrics of the last validation."""
        processes = devices_to_start(self.args)
        if processes:
            with naming_write_errors(self):
                self.outcome.metrics, best = train_in_processes(self, processes)
            if best == self.paths.last:
                self.paths = self.paths.ending_with_last()
            return measure_best(self) if self.final_val else self.outcome.metrics
        memory = retained_memory(self.device.type == "cpu")
        with naming_write_errors(self), process_group(self.device), deterministic_mode(self.args), memory:
            with Interrupt(saving=False) as self.interrupt:
                try:
                    self._setup_train()
                    self._do_train()
                finally:
                    tear_down(self)
        return getattr(self.validator, "metrics", self.outcome.metrics)

    # ------------------------------------------------------------------------------------------------------- loop
    def _do_train(self) -> None:
        """All epochs, then the final validation."""
        self.clock = RunClock(self.progress.elapsed)
        self.recovery.begin(self)
        log_start(self)
        self.run_callbacks("on_train_start")
        self.interrupt.saving = True
        while self.progress.epoch < self.epochs and not self.stop:
            self._start_epoch()
            try:
                self._train_epoch()
            except StepFailure as failure:
                self.recovery.handle(self, failure)
                continue
            except WorkerError as e:
                leave_without_worker(self, e)
            except RuntimeError as e:
                if not is_out_of_memory(e):
                    raise
                clear_frames(e.__traceback__)  # they hold the step's tensors, and the memory is about to be measured
                raise explain_out_of_memory(self) from e
            try:
                self._end_epoch()
            except WorkerError as e:
                leave_without_worker(self, e)
        self.interrupt.saving = self.interrupt.requested = False
        if self.rank <= 0:
            self._finish()
        self.run_callbacks("on_train_end")

    def _start_epoch(self) -> None:
        """Modes, sampler position, mosaic, running losses; what callbacks change of these holds."""
        p = self.progress
        self.epoch = p.epoch
        self.clock.start_epoch(p.batch)
        self._model_train()
        frozen = optim.frozen_norms(self.model)
        closing = self.args.close_mosaic
        if closing and self.epochs > closing and p.epoch >= self.epochs - closing:
            self._close_dataloader_mosaic()
        if isinstance(self.train_loader.sampler, EpochSampler):
            self.train_loader.sampler.set_epoch(p.epoch)
            self.train_loader.sampler.set_start(p.batch * (self.train_loader.batch_size or 1))
        elif hasattr(self.train_loader.sampler, "set_epoch"):
            self.train_loader.sampler.set_epoch(p.epoch)
        if isinstance(self.train_loader.dataset, FollowsEpochs):
            self.train_loader.dataset.set_epoch(p.epoch)
        self.meter.start(p.loss_sum if p.batch else (), p.batch)
        self.optimizer.zero_grad()
        self.recovery.open_batches = 0
        self.run_callbacks("on_train_epoch_start")
        take_unfrozen(self, frozen)
        network: Any = unwrap_model(self.model)
        if hasattr(network, "start_epoch"):
            network.start_epoch(self.epoch, self.epochs)
        parts = TrainParts(self.model, self.optimizer, self.ema, *self.precision)
        checks = StepChecks(self.meter, self.recovery, self.device)
        self.train_step = TrainStep(parts, self.warmup, self.args.clip_norm, checks, self.times)
        LOGGER.info(self.progress_string())

    def _model_train(self) -> None:
        """Put the network in training mode; BatchNorm layers that are frozen normalise by their running statistics."""
        self.model.train()
        first = first_frozen_epoch(self.args.freeze_bn, self.epochs)
        if self.epoch == first:
            LOGGER.info("BatchNorm layers keep their statistics from here on")
        for norm in optim.norms_of(self.model) if self.epoch >= first else optim.frozen_norms(self.model):
            norm.eval()

    def _close_dataloader_mosaic(self) -> None:
        """Leave the images whole and unmixed in the last epochs; not in a run that is shorter than these."""
        if not self.progress.mosaic_closed:
            strong = AugmentParams.from_args(self.args).closed_names()
            if strong:
                LOGGER.info(f"Clean images from here on, without {', '.join(strong)}")
        self.progress.mosaic_closed = True
        dataset = self.train_loader.dataset
        if hasattr(dataset, "close_mosaic"):
            dataset.close_mosaic(self.args)

    def _train_epoch(self) -> None:
        """The batches of one epoch, from where the run stands."""
        p = self.progress
        bar: TQDM[Batch] = TQDM(total=self.batches, disable=self.rank > 0 or None)
        with bar:
            bar.update(p.batch)
            self.times.begin()
            for batch in batches_of(self.train_loader):
                self.times.lap("data")
                self.run_callbacks("on_train_batch_start")
                self.at = StepPlace(p.step, p.place())
                self._validate_labels(batch)
                self.times.lap("other")
                batch = self.batch = self.preprocess_batch(batch)
                self.times.lap("to device")
                prepare_step(self)
                self.times.lap("other")
                self.result = self.train_step(batch, p.step, last=p.batch + 1 == self.batches)
                p.batch, p.step = p.batch + 1, p.step + 1
                if self.result.complete:
                    self.optimizer_step()
                self.recovery.open_batches = 0 if self.result.complete else self.recovery.open_batches + 1
                if fetches_losses(self):
                    self.train_step.fetch_losses()
                self.tloss = torch.tensor(self.meter.mean)
                bar.note = self.clock.left(p.batch, (self.epochs - self.epoch) * self.batches - p.batch)
                show_progress(bar, f"{self.epoch + 1}/{self.epochs}", self.meter.mean, batch, self.device)
                if self.rank <= 0 and draws(self.args.plots, self.plot_idx, p.step - 1):
                    self.plot_training_samples(batch, p.step - 1)
                self.run_callbacks("on_train_batch_end")
                if self.stop:
                    break
                if self.result.complete and p.batch < self.batches:
                    self._save_inside()
                self.times.end_batch()
        if self.meter.pending:
            self.train_step.fetch_losses()
        self.train_step.release()
        self.batch = None
        self.tloss = mean_items(self.meter.sum, self.meter.count, self.device)

    def optimizer_step(self) -> None:
        """Unscale and clip the gradients, step, zero them, and move the average."""
        self.train_step.update(self.run_callbacks)

    def _validate_labels(self, batch: Batch) -> None:
        """Stop before a batch with an impossible label; costs four reductions of a small tensor on the host."""
        if bad_labels(batch, self.data["nc"]) is not None:
            raise StepFailure("label", self.preprocess_batch(batch), exact=True)

    def _save_inside(self) -> None:
        """Inside an epoch: save when long enough has passed, or when the user interrupts, and then stop."""
        if not self.interrupt.requested and self.clock.since_saved() < AUTOSAVE_S:
            return
        if self.meter.pending:  # not checked yet: only a state that is known to be good is saved
            return
        self.progress.loss_sum = self.meter.sum
        if self.rank <= 0:
            self._write_last()
        self._leave_if_interrupted()

    def _leave_if_interrupted(self) -> None:
        if self.interrupt.requested and self.progress.epoch < self.epochs:
            if self.rank <= 0 and self.recovery.saved_step != self.progress.step:
                self._write_last()
            LOGGER.info(f"Saved {self.paths.last}; resume with resume={self.paths.last}")
            raise KeyboardInterrupt(self.interrupt.number)

    # -------------------------------------------------------------------------------------------------- end of epoch
    def _end_epoch(self) -> None:
        """Validate, log, save; count the epoch as done."""
        p = self.progress
        self.lr = {f"lr/pg{i}": group["lr"] for i, group in enumerate(self.optimizer.param_groups)}
        self.run_callbacks("on_train_epoch_end")
        resync_average(self)
        self.ema.update_attr(unwrap_model(self.model), include=["yaml", "nc", "args", "names", "stride"])
        self._respect_time()
        last = self.epoch + 1 >= self.epochs or self.stop
        measured = self.args.val or last or self.stopper.possible_stop
        best = p.best_fitness
        metrics, fitness = self._metrics_of_epoch(measured)
        better = fitness is not None and (best is None or fitness > best)
        if better:
            p.best_fitness = fitness
        self.outcome = EpochOutcome(metrics, fitness, better)
        self.save_metrics({**self.label_loss_items(self.tloss), **metrics, **self.lr})
        if self.stopper(self.epoch, fitness):
            LOGGER.info(
                f"patience={self.args.patience}: no better fitness since epoch {self.stopper.best_epoch + 1}, stopping"
            )
            self.stop = True
        self._respect_time(look=measured)  # which took its time, too; an unmeasured epoch must not become the last
        self.scheduler.step()
        p.epoch, p.batch, p.loss_sum = self.epoch + 1, 0, []
        if self.rank <= 0 and (self.args.save or last or self.stop):
            self.save_model()
            self.run_callbacks("on_model_save")
        self.clock.end_epoch()
        self.run_callbacks("on_fit_epoch_end")
        self._leave_if_interrupted()

    def _elapsed(self) -> float:
        """Seconds of training, those of earlier processes of a resumed run included."""
        return self.clock.elapsed()

    def _metrics_of_epoch(self, wanted: bool) -> tuple[dict[str, float], float | None]:
        """Validate when wanted; return the metrics, zeros for those that were not measured, and the fitness."""
        keys = [*self.metric_names(), *self.label_loss_items(prefix="val")]
        metrics = dict.fromkeys(keys, 0.0)
        if not wanted or (self.rank > 0 and not self.shared_validation):
            return metrics, None
        measured, fitness = self.validate()
        return {**metrics, **(measured or {})}, fitness

    def validate(self) -> tuple[dict[str, float], float | None]:
        """Validate the averaged network; return the metrics by name, and the fitness by which the best is chosen.

        All processes take some of the images, with the main one's averaged statistics, and get the same metrics.
        """
        if self.shared_validation:
            dist.broadcast_tensors(b for b in self.ema.ema.buffers() if b.is_floating_point())
        metrics = dict(self.validator(self))
        return metrics, metrics.pop("fitness", None)

    def _respect_time(self, look: bool = True) -> None:
        """Re-estimate the number of epochs under a `time` limit; all processes follow the main one, also in `stop`."""
        if self.args.time and look:
            limit, spent = self.args.time * 3600, self._elapsed()
            done = self.epoch + 1
            self.epochs = max(done, math.ceil(limit * done / spent))
            self.stop |= spent >= limit
        self.stop, self.epochs = dist.broadcast_object((self.stop, self.epochs))
        if self.args.time:
            self.lf = lr_curve(self.args, self.epochs)

    # --------------------------------------------------------------------------------------------------------- files
    def save_metrics(self, metrics: dict[str, float]) -> None:
        """Add the row of an epoch to results.csv, and to what the checkpoints get."""
        self.progress.rows.append({"epoch": self.epoch + 1, "time": self._elapsed(), **metrics})
        if self.rank <= 0:
            write_csv(self.paths.csv, self.progress.rows)

    def save_model(self) -> None:
        """Write best.pt if `is_best`, the checkpoint of a save period, then last.pt, each whole or not at all.

        In this order a kill in between repeats the epoch and loses nothing.
        """
        if self.outcome.is_best:
            best = pack_best(self.state, to_plain(dict(self.args)), self.outcome.metrics, validated_in(self))
            write(self.paths.best, best, self.recovery.on_disk)
            self.progress.best_saved = True
        period = self.args.save_period
        if period > 0 and self.epoch % period == 0:
            write_state(self, self.paths.wdir / f"epoch{self.epoch}.pt")
        self._write_last()

    def _write_last(self) -> None:
        """Write last.pt, whole or not at all."""
        write_state(self, self.paths.last)
        self.recovery.saved(self.paths.last, self.progress.step)
        self.clock.saved()

    # --------------------------------------------------------------------------------------------------------- end
    def _finish(self) -> None:
        """Report, draw the curves and validate the weights that the run ends with."""
        p = self.progress
        if self.recovery.saved_step != p.step:  # stopped after the epoch's end, or without `save`
            self._write_last()
        LOGGER.info(f"\n{p.epoch} epochs completed in {self._elapsed() / 3600:.3f} hours.")
        found = self.paths.best.exists()
        if not (p.best_saved and found):
            if found:
                LOGGER.warning(
                    f"{self.paths.best} is of an earlier run: the weights of this one are in {self.paths.last}"
                )
            self.paths = self.paths.ending_with_last()
        for file in dict.fromkeys((self.paths.last, self.paths.best)):
            LOGGER.info(f"{file}, {file_size(file):.1f} MB")
        if self.args.plots and p.rows:
            self.plot_metrics()
        if self.final_val:
            self.final_eval()
        if text := next_steps(self.epochs, p.epoch, self._elapsed(), self.from_weights):
            LOGGER.info(text)

    def plot_metrics(self) -> None:
        """Draw the curves of results.csv."""
        plot_results(self.paths.csv)
        self.on_plot(self.paths.csv.with_suffix(".png"))

    def final_eval(self) -> None:
        """Validate the weights that the run ends with, with plots and the table of classes, in the main process."""
        LOGGER.info(f"\nValidating {self.paths.best} in float32...")
        if self.rank == 0:  # the other processes have gone
            stop_workers(self.test_loader)
            self.test_loader = self.val_loader(-1)
        self.validator.configure(plots=bool(self.args.plots), dataloader=self.test_loader, float32=True)
        report = self.validator(model=self.paths.best)
        self.outcome.metrics = {k: round(float(v), 5) for k, v in report.items()}
        write_final(self.paths, self.validator, self.outcome.metrics)
        self.run_callbacks("on_fit_epoch_end")


def tear_down(trainer: BaseTrainer) -> None:
    """End workers and loggers, and let go of the run folder; one in which nothing was trained yet is removed."""
    for loader in (trainer.train_loader, trainer.test_loader):
        if loader is not None:
            stop_workers(loader)
    trainer.run_callbacks("teardown")
    trainer.recovery.lock.release()
    untrained = trainer.recovery.on_disk is None and not trainer.progress.step
    if trainer.interrupt.requested and trainer.recovery.made_folder and untrained:
        shutil.rmtree(trainer.save_dir, ignore_errors=True)
        LOGGER.info(f"Stopped before the first step; {trainer.save_dir} is removed again")


def validated_in(trainer: BaseTrainer) -> str | None:
    """The precision of the last validation, None before the first."""
    return None if trainer.fitness is None else trainer.validator.precision


def measure_best(trainer: BaseTrainer) -> DetMetrics | dict[str, float]:
    """Return the metrics object of a run of other processes, which leave files alone: validate its weights again."""
    trainer.model, _ = load_checkpoint(trainer.paths.best)
    trainer.validator = trainer.get_validator()
    trainer.validator.configure(plots=False, float32=True)
    with log_level(logging.WARNING):
        trainer.validator(model=trainer.model)
    return getattr(trainer.validator, "metrics", trainer.metrics)


def resync_average(trainer: BaseTrainer) -> None:
    """Let the average take over tensors of the network where it is not finite, with a warning."""
    if taken := trainer.ema.resync(trainer.model):
        LOGGER.warning(f"{len(taken)} tensors of the average were not finite; they are those of the network again")


def log_start(trainer: BaseTrainer) -> None:
    """Log the network, the arguments of the user, sizes, precision and folder of a run."""
    network: Any = unwrap_model(trainer.model)
    if hasattr(network, "info"):
        network.info(imgsz=trainer.imgsz)
    if frozen := trainer.freeze_layer_names:
        LOGGER.info(f"Frozen: {len(frozen)} parameters, {frozen[0]} ... {frozen[-1]}")
    set_by_user = sorted((k, v) for k, v in trainer.given.items() if k not in {"mode", "task"} and v is not None)
    given = ", ".join(f"{k}={v}" for k, v in set_by_user)
    LOGGER.info(f"Arguments: {given or 'defaults'}; all of them are in {trainer.save_dir / 'args.yaml'}")
    sizes = f"{count_of(trainer.train_loader)} training, {count_of(trainer.test_loader)} validation images"
    precision = str(trainer.amp_dtype or torch.float32).removeprefix("torch.")
    LOGGER.info(
        f"{sizes}, {trainer.imgsz} px, {precision}, {trainer.train_loader.num_workers} loader workers\n"
        f"Logging results to {colorstr('bold', str(trainer.save_dir))}\nTraining for {trainer.epochs} epochs..."
    )
    family = find_family(network)
    if trainer.args.loss == "vfl" and family is not None and Trait.MATCHING in family.arguments:
        LOGGER.info("cls_loss may rise while boxes get better: its targets are their IoU (loss=vfl). Judge by mAP.")


def first_frozen_epoch(freeze_bn: float, epochs: int) -> int:
    """The epoch from which all BatchNorm layers normalise by their running statistics, as they do at inference.

    In batches of a few images the statistics of a batch say much about each image; the network learns to use that, and
    misses it at inference. Trained on the running statistics at the end it loses little (Wu and Johnson 2021,
    "Rethinking Batch in BatchNorm", section 4).
    """
    return epochs - round(freeze_bn * epochs)


def leave_without_worker(trainer: BaseTrainer, error: WorkerError) -> None:
    """Save the state after the last optimizer step, and end the run, which cannot load its images any more."""
    p, run, last = trainer.progress, trainer.recovery, trainer.paths.last
    if trainer.meter.pending:
        trainer.train_step.fetch_losses()
    p.loss_sum = trainer.meter.sum
    if run.open_batches:  # their gradients are lost, and they are read again
        done = p.batch - run.open_batches
        p.loss_sum = [value * done / p.batch for value in trainer.meter.sum]
        p.batch, p.step, run.open_batches = done, p.step - run.open_batches, 0
    if trainer.rank <= 0:
        trainer._write_last()
    trainer._leave_if_interrupted()
    raise WorkerError(*error.args, f"{last} is complete: resume with resume={last}") from error


def prepare_step(trainer: BaseTrainer) -> None:
    """Seed a step, and set the rates of one inside the warm-up; afterwards they are the scheduler's and callbacks'."""
    number, first = trainer.progress.step, trainer.progress.batch == 0
    seed_step(trainer.args.seed, trainer.rank, number)
    if number < trainer.warmup.iterations:
        targets = [float(lr) for lr in trainer.scheduler.get_last_lr()]
        trainer.warmup.set_rates(trainer.optimizer, targets, number, first)


def fetches_losses(trainer: BaseTrainer) -> bool:
    """Whether the losses are fetched from the device after this batch."""
    done = trainer.progress.batch
    return not trainer.recovery.check_every_step and (done % CUDA_FETCH == 0 or done == trainer.batches)


def write_state(trainer: BaseTrainer, path: Path) -> None:
    """Write a file that the run can be resumed from, whole or not at all."""
    trainer.progress.elapsed, trainer.progress.epochs = trainer._elapsed(), trainer.epochs
    record = trainer.state.pack(to_plain(dict(trainer.args)), trainer.metrics, validated_in(trainer))
    write(path, record, trainer.recovery.on_disk)


def draws(plots: bool, steps: Sequence[int], step: int) -> bool:
    """Whether the batch of a step is drawn."""
    return plots and step in steps


def show_progress(bar: TQDM[Batch], epoch: str, losses: Sequence[float], batch: Batch, device: torch.device) -> None:
    """Redraw the progress line."""
    text = progress_text(epoch, memory_text(device), losses, len(batch["cls"]), batch["img"].shape[-1])
    bar.set_description(text)
    bar.update()


def take_unfrozen(trainer: BaseTrainer, frozen: Sequence[nn.Module]) -> None:
    """Train what a callback has unfrozen: the statistics of its norms, and in several processes its gradients."""
    if trainer.epoch < first_frozen_epoch(trainer.args.freeze_bn, trainer.epochs):
        for norm in set(frozen) - set(optim.frozen_norms(trainer.model)):
            norm.train()
    wrapper = trainer.model
    if isinstance(wrapper, DataParallelNetwork) and trainable_names(wrapper) != wrapper.trained:
        trainer.wrap_model()
