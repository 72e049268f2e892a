"""The training loop, without knowledge of a model family: epochs, validation, checkpoints, final report.

One epoch is: batches (`_train_epoch`), validation, one row of results.csv, `last.pt` and, when better, `best.pt`.
`engine.setup` builds what the loop runs on; what a continued run needs is in `engine.checkpointing.TrainState`;
`engine.optim` holds rates and steps.
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ultralytics.data.augment.pipeline import AugmentParams
from ultralytics.data.build import stop_workers
from ultralytics.engine.training import optimizer as optim
from ultralytics.engine.training.autobatch import explain_out_of_memory, is_out_of_memory
from ultralytics.engine.training.console import header_text, memory_text, progress_text, write_csv
from ultralytics.engine.training.environment import Interrupt, devices_to_start, process_group, training_switches
from ultralytics.engine.training.nan_trace import StepFailure, bad_labels
from ultralytics.engine.training.setup import Batch, TrainerSetup
from ultralytics.engine.training.state import naming_write_errors, pack_best, seed_step, write
from ultralytics.engine.training.torchrun import train_in_processes
from ultralytics.nn.checkpoint.format import plain
from ultralytics.nn.cpu.malloc import retained_memory
from ultralytics.utils import LOGGER, TQDM, colorstr, dist
from ultralytics.utils.files import file_size
from ultralytics.utils.plotting.curves import plot_results
from ultralytics.utils.torch_utils import autocast, unwrap_model

AUTOSAVE_S = 600.0
"""Seconds between checkpoints inside a long epoch."""

CUDA_FETCH = 10
"""Batches between two looks at the losses on a GPU."""


class BaseTrainer(TrainerSetup):
    """Train a detector; a model family fills the hooks of `TrainerSetup`.

    `train()` returns the metrics of the final validation of the best weights. Setting `stop` in a callback ends the
    training after the present batch or epoch. At the end `best` is last.pt when this run has written no best.pt.
    """

    def train(self) -> dict[str, float]:
        """Run the training and return the metrics of the final validation."""
        processes = devices_to_start(self.args)
        if processes:
            with naming_write_errors(self):
                self.metrics = train_in_processes(self, processes)
            return self.metrics
        memory = retained_memory(self.device.type == "cpu")
        with naming_write_errors(self), process_group(self.device), training_switches(self.args), memory:
            try:
                self._setup()
                self._fit()
            finally:
                for loader in (self.train_loader, self.test_loader):
                    if loader is not None:
                        stop_workers(loader)
                self.run_callbacks("teardown")
        return self.metrics

    # ------------------------------------------------------------------------------------------------------- loop
    def _fit(self) -> None:
        """All epochs, then the final validation."""
        self.started, self.saved_at = time.monotonic() - self.progress.elapsed, time.monotonic()
        self.recovery.begin(self)
        self._log_start()
        self.run_callbacks("on_train_start")
        with Interrupt() as self.interrupt:
            while self.progress.epoch < self.epochs and not self.stop:
                self._start_epoch()
                try:
                    self._train_epoch()
                except StepFailure as failure:
                    self.recovery.handle(self, failure)
                    continue
                except RuntimeError as e:
                    if not is_out_of_memory(e):
                        raise
                    raise explain_out_of_memory(self) from e
                self._end_epoch()
        if self.rank <= 0:
            self._finish()
        self.run_callbacks("on_train_end")

    def _log_start(self) -> None:
        sizes = f"{len(self.train_loader.dataset)} training, {len(self.test_loader.dataset)} validation images"
        precision = str(self.amp_dtype or torch.float32).removeprefix("torch.")
        LOGGER.info(
            f"{sizes}, {self.imgsz} px, {precision}, {self.train_loader.num_workers} loader workers\n"
            f"Logging results to {colorstr('bold', str(self.save_dir))}\nTraining for {self.epochs} epochs..."
        )

    def _start_epoch(self) -> None:
        """Modes, sampler position, mosaic, running losses."""
        p = self.progress
        self.epoch = p.epoch
        self.model.train()
        for norm in optim.norms_of(self.model) if self._norms_rest() else self.norms:
            norm.eval()
        closing = self.args.close_mosaic
        if closing and self.epochs > closing and p.epoch >= self.epochs - closing:
            self._close_mosaic()
        self.train_loader.sampler.set_epoch(p.epoch)
        self.train_loader.sampler.set_start(p.batch * self.train_loader.batch_size)
        self.meter.start(p.loss_sum if p.batch else (), p.batch)
        self.optimizer.zero_grad()
        self.run_callbacks("on_train_epoch_start")
        LOGGER.info("\n" + header_text(self.loss_names, self.device))

    def _norms_rest(self) -> bool:
        """Whether BatchNorm normalises by its running statistics in this epoch, as it will at inference.

        In batches of a few images the statistics of a batch say much about each image; the network learns to use that,
        and misses it at inference. Trained on the running statistics at the end it loses little (Wu and Johnson 2021,
        "Rethinking Batch in BatchNorm", section 4).
        """
        resting = round(self.args.freeze_bn * self.epochs)
        if resting and self.epoch == self.epochs - resting:
            LOGGER.info("Batch norms keep their statistics from here on")
        return bool(resting) and self.epoch >= self.epochs - resting

    def _close_mosaic(self) -> None:
        """Leave the images whole and unmixed in the last epochs; not in a run that is shorter than these."""
        if not self.progress.mosaic_closed:
            strong = AugmentParams.of(self.args).strong()
            if strong:
                LOGGER.info(f"Clean images from here on, without {', '.join(strong)}")
        self.progress.mosaic_closed = True
        self.train_loader.dataset.close_mosaic(self.args)

    def _train_epoch(self) -> None:
        """The batches of one epoch, from where the run stands."""
        p = self.progress
        bar: TQDM[Batch] = TQDM(total=self.batches, disable=self.rank > 0 or None)
        with bar:
            bar.update(p.batch)
            self.times.begin()
            for batch in self.train_loader:
                self.times.lap("data")
                self.run_callbacks("on_train_batch_start")
                self._name_step()
                self._look_at_labels(batch)
                self.times.lap("other")
                batch = self.preprocess_batch(batch)
                self.times.lap("to device")
                stepped = self._train_batch(batch)
                if not self.recovery.careful and (p.batch % CUDA_FETCH == 0 or p.batch == self.batches):
                    self._look(batch, exact=False)
                self._show(bar, batch)
                if self.args.plots and p.step <= 3 and self.rank <= 0:
                    self.plot_training_samples(batch, p.step - 1)
                self.run_callbacks("on_train_batch_end")
                if self.stop:
                    break
                if stepped and p.batch < self.batches:
                    self._save_inside()
                self.times.end_batch()
        if self.meter.pending:
            self._look(batch, exact=False)
        sums = torch.tensor([*self.meter.sum, self.meter.count], dtype=torch.float64, device=self.device)
        *items, count = dist.all_reduce_sum(sums).tolist()
        self.tloss = [item / max(count, 1) for item in items]

    def _train_batch(self, batch: Batch) -> bool:
        """Forward, backward and, at the end of an accumulation group or epoch, the optimizer step (then True)."""
        p = self.progress
        seed_step(self.args.seed, self.rank, p.step)
        self.warmup.set_rates(self.optimizer, [float(lr) for lr in self.scheduler.get_last_lr()], p.step)
        self.times.lap("other")
        with autocast(self.amp_dtype is not None, self.device, self.amp_dtype):
            loss, items = self.model(batch, **self._loss_options())
        self.times.lap("forward")
        self.loss = loss.detach()
        self.meter.add(loss, items)
        if self.recovery.careful:
            self._look(batch, exact=True)
        self.scaler.scale(loss * self.accumulator.factor(self._objects(batch))).backward()
        if self.recovery.hunting and not self._gradient_is_finite():
            raise StepFailure("gradient", batch, exact=True)
        self.times.lap("backward")
        full = self.accumulator.count >= self.warmup.accumulate_at(p.step) or p.batch + 1 == self.batches
        p.batch, p.step = p.batch + 1, p.step + 1
        if full:
            self._optimizer_step(batch)
        return full

    def _loss_options(self) -> dict[str, bool]:
        """Return what the loss may know of the step: whether it is a part of one; a loss in user code need not ask."""
        network: Any = unwrap_model(self.model)
        accepted = "partial" in inspect.signature(network.loss).parameters
        return {"partial": True} if self.warmup.accumulate > 1 and accepted else {}

    def _name_step(self) -> None:
        """Keep number and place of the step that begins, for messages."""
        p = self.progress
        self.step = p.step
        self.where = f"epoch {p.epoch + 1}, batch {p.batch + 1} (step {p.step + 1})"

    def _look_at_labels(self, batch: Batch) -> None:
        """Stop before a batch with an impossible label; costs four reductions of a small tensor on the host."""
        if bad_labels(batch, self.data["nc"]) is not None:
            raise StepFailure("label", self.preprocess_batch(batch), exact=True)

    def _look(self, batch: Batch, exact: bool) -> None:
        """Fetch the pending losses and norms; all processes stop together when one holds what is not finite."""
        kinds = ("loss", "gradient")
        bad = self.meter.flush()
        if dist.is_initialized():
            found = torch.tensor([float(bad == kind) for kind in kinds], device=self.device)
            bad = next((k for k, n in zip(kinds, dist.all_reduce_sum(found).tolist(), strict=True) if n), "")
        if bad:
            raise StepFailure(bad, batch, exact)

    def _gradient_is_finite(self) -> bool:
        """Whether all gradients so far are finite, or a scaler will see to it."""
        if self.scaler.is_enabled() and self.scaler.get_scale() >= 1:
            return True
        return math.isfinite(nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None]))

    def _look_at_gradient(self, batch: Batch) -> Callable[[torch.Tensor], None]:
        """Return the check of a step's gradient norm; a scaler may see infinite ones until its scale falls below 1."""

        def check(norm: torch.Tensor) -> None:
            if self.scaler.is_enabled() and self.scaler.get_scale() >= 1:
                return
            if not self.recovery.careful:
                self.meter.add_norm(norm)
            elif not math.isfinite(norm):
                raise StepFailure("gradient", batch, exact=self.warmup.accumulate == 1)

        return check

    def _objects(self, batch: Batch) -> float:
        """Number of objects in the batch, over all processes; 1 where batches are not added up."""
        if self.warmup.accumulate == 1:
            return 1.0
        here = float(len(batch["cls"]))
        return float(dist.all_reduce_sum(torch.tensor(here, device=self.device))) if dist.is_initialized() else here

    def _optimizer_step(self, batch: Batch) -> None:
        """Step, then move the average; `batch` is the last of the step."""
        parts = (self.parameters, self.optimizer, self.scaler, self.accumulator, self.args.clip_norm)
        optim.optimizer_step(*parts, check=self._look_at_gradient(batch))
        self.run_callbacks("optimizer_step")
        self.run_callbacks("on_before_zero_grad")
        self.optimizer.zero_grad()
        self.times.lap("optimizer")
        self.ema.update(self.model)
        self.times.lap("ema")
        self.run_callbacks("on_params_update")

    def _show(self, bar: TQDM[Any], batch: Batch) -> None:
        """Redraw the progress line."""
        epoch, memory = f"{self.epoch + 1}/{self.epochs}", memory_text(self.device)
        bar.set_description(progress_text(epoch, memory, self.meter.mean, len(batch["cls"]), batch["img"].shape[-1]))
        bar.update()

    def _save_inside(self) -> None:
        """Inside an epoch: save when long enough has passed, or when the user interrupts, and then stop."""
        if not self.interrupt.requested and time.monotonic() - self.saved_at < AUTOSAVE_S:
            return
        if self.meter.pending:  # not looked at yet: only a state that is known to be good is saved
            return
        self.progress.loss_sum = self.meter.sum
        if self.rank <= 0:
            self._write_last()
        self._leave_if_interrupted()

    def _leave_if_interrupted(self) -> None:
        if self.interrupt.requested and self.progress.epoch < self.epochs:
            if self.rank <= 0 and self.saved_step != self.progress.step:
                self._write_last()
            LOGGER.info(f"Saved {self.last}; go on with resume={self.last}")
            raise KeyboardInterrupt

    def _end_epoch(self) -> None:
        """Validate, log, save; count the epoch as done."""
        p = self.progress
        rates = {f"lr/pg{i}": group["lr"] for i, group in enumerate(self.optimizer.param_groups)}
        self.run_callbacks("on_train_epoch_end")
        self.ema.update_attr(self.model, include=["yaml", "nc", "args", "names", "stride"])
        self._respect_time()
        last = self.epoch + 1 >= self.epochs or self.stop
        measured = self.args.val or last or self.stopper.possible_stop
        self.metrics, self.fitness = self._metrics_of_epoch(measured)
        row = {"epoch": self.epoch + 1, "time": self._elapsed(), **self.label_loss_items(self.tloss), **self.metrics}
        p.rows.append({**row, **rates})
        better = self.fitness is not None and (p.best_fitness is None or self.fitness > p.best_fitness)
        p.best_fitness = self.fitness if better else p.best_fitness
        self._respect_patience()
        self._respect_time(look=measured)  # which took its time, too; an unmeasured epoch must not become the last
        self.scheduler.step()
        p.epoch, p.batch, p.loss_sum = self.epoch + 1, 0, []
        if self.rank <= 0:
            self._write_epoch(better, last or self.stop)
        self.run_callbacks("on_fit_epoch_end")
        self._leave_if_interrupted()

    def _elapsed(self) -> float:
        """Seconds of training, those of earlier processes of a resumed run included."""
        return time.monotonic() - self.started

    def _metrics_of_epoch(self, wanted: bool) -> tuple[dict[str, float], float | None]:
        """Validate when wanted; return the metrics, zeros if not measured, and the fitness.

        All processes take a share of the images, with the main one's averaged statistics, and get the same metrics.
        """
        keys = [*self.metric_names(), *self.label_loss_items(prefix="val")]
        metrics = dict.fromkeys(keys, 0.0)
        if not wanted or (self.rank > 0 and not self.shared_validation):
            return metrics, None
        if self.shared_validation:
            dist.broadcast_tensors(b for b in self.ema.ema.buffers() if b.is_floating_point())
        metrics.update(self.validator(self))
        return metrics, metrics.pop("fitness", None)

    def _respect_patience(self) -> None:
        """Stop when the fitness has not become better for `patience` epochs."""
        if self.stopper(self.epoch, self.fitness):
            best = self.stopper.best_epoch + 1
            LOGGER.info(f"patience={self.args.patience}: no better fitness since epoch {best}, stopping")
            self.stop = True

    def _respect_time(self, look: bool = True) -> None:
        """Re-estimate the number of epochs under a `time` limit; all processes follow the main one, also in `stop`."""
        if self.args.time and look:
            limit, spent = self.args.time * 3600, self._elapsed()
            done = self.epoch + 1
            self.epochs = max(done, math.ceil(limit * done / spent))
            self.stop |= spent >= limit
        self.stop, self.epochs = dist.broadcast_object((self.stop, self.epochs))
        self.lf = self._curve()

    def _write_epoch(self, better: bool, last: bool) -> None:
        """Write results.csv, other weights, then last.pt: a kill in between repeats the epoch and loses nothing."""
        write_csv(self.csv, self.progress.rows)
        if not (self.args.save or last):
            return
        if better:
            best = pack_best(self.state, plain(dict(self.args)), self.metrics)
            write(self.best, best, self.recovery.on_disk)
            self.progress.best_saved = True
        period = self.args.save_period
        if period > 0 and self.epoch % period == 0:
            self._write_state(self.wdir / f"epoch{self.epoch}.pt")
        self._write_last()
        self.run_callbacks("on_model_save")

    def _write_last(self) -> None:
        """Write last.pt, whole or not at all."""
        self._write_state(self.last)
        self.recovery.saved(self.last)
        self.saved_step, self.saved_at = self.progress.step, time.monotonic()

    def _write_state(self, path: Path) -> None:
        """Write a file that the run can go on from."""
        self.progress.elapsed, self.progress.epochs = self._elapsed(), self.epochs
        write(path, self.state.pack(plain(dict(self.args)), self.metrics), self.recovery.on_disk)

    # --------------------------------------------------------------------------------------------------------- end
    def _finish(self) -> None:
        """Report, draw the curves and validate the best weights once more, with plots and the table of classes."""
        p = self.progress
        if self.saved_step != p.step:  # stopped after the epoch's end, or without `save`
            self._write_last()
        LOGGER.info(f"\n{p.epoch} epochs completed in {self._elapsed() / 3600:.3f} hours.")
        found = self.best.exists()
        if not (p.best_saved and found):
            if found:
                LOGGER.warning(f"{self.best} is of an earlier run: the weights of this one are in {self.last}")
            self.best = self.last
        for file in dict.fromkeys((self.last, self.best)):
            LOGGER.info(f"{file}, {file_size(file):.1f} MB")
        if self.args.plots and p.rows:
            plot_results(self.csv)
        self._validate_best()

    def _validate_best(self) -> None:
        """Validate the weights that the run ends with, in the main process alone."""
        LOGGER.info(f"\nValidating {self.best}...")
        if self.rank == 0:  # the other processes have gone
            stop_workers(self.test_loader)
            self.validator.dataloader = self.test_loader = self.val_loader(-1)
        self.validator.args = self.validator.args.replace(plots=self.args.plots)
        report = self.validator(model=self.best)
        self.metrics = {k: round(float(v), 5) for k, v in report.results_dict.items()}
        self.run_callbacks("on_fit_epoch_end")
