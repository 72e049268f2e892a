"""The stages of a training run with a `plan`: rates, mixing of batches, and the return to the best weights.

Published with D-FINE (arXiv 2410.13842) and DEIM (arXiv 2412.04234, section 3.2). Everything is a function of seed,
epoch, step and `Progress.stage`, so that a resumed run equals an uninterrupted one.

Shapes: B images of a batch, N objects of a batch, H x W image.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from ultralytics.data.augment.base import chance
from ultralytics.data.augment.batch_mix import ImageLabels, Paste, mix_batch, paste_objects, paste_sources
from ultralytics.data.types import Batch
from ultralytics.engine.trainer import BaseTrainer
from ultralytics.engine.training.optimizer import Warmup, load_optimizer_state, set_unless_changed
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import CheckpointError, ConfigError
from ultralytics.utils.torch_tools.training_plans import FlatCosine, RunPlan, batch_scales
from ultralytics.utils.torch_utils import unwrap_model

MIX_BETA = (0.45, 0.55)  # bounds of an image's own weight in mixup and under pasted objects
PASTES, ENLARGE = 3, (0.1, 0.25)  # most pasted objects of an image, and bounds of a patch's margin (DEIMv2)
SIZE_REPEATS = 20  # how often the base size stands among those of multi-scale training, as for models of size S
_STREAM, _PASTE_STREAM = 3, 4  # keep the random streams of mixing and pasting apart from others of a seed and step


@dataclass(frozen=True)
class PlannedRates(Warmup):
    """Rates of every batch of a run, in the place of a warm-up and of the scheduler's; momentum stays."""

    plan: FlatCosine = field(default_factory=lambda: FlatCosine(0, 0, 0, 1))

    def set_rates(self, optimizer: Optimizer, targets: Sequence[float], step: int, fresh: bool = True) -> None:
        """Set the rate of every group for batch `step`."""
        factor = self.plan(step + 1)  # of step 0 it is 0
        for group, target in zip(optimizer.param_groups, targets, strict=False):  # a callback may have added groups
            set_unless_changed(group, "lr", group["initial_lr"] * factor, target if fresh else None)

    def accumulate_at(self, step: int) -> int:
        """Batches of every optimizer step."""
        return self.accumulate


def plan_of(trainer: BaseTrainer) -> RunPlan | None:
    """Return the plan of a run, None where the arguments name none; ConfigError together with `time`."""
    args = trainer.args
    if args.plan is None:
        if args.copy_paste and args.copy_paste_mode == "blend":
            raise ConfigError("copy_paste_mode=blend acts on the batches of a plan", "add plan=deim, or choose flip")
        return None
    if args.time:
        raise ConfigError(f"plan={args.plan} with time={args.time:g}: stages need a number of epochs", "leave time out")
    return RunPlan.named(args.plan, trainer.epochs)


def attach_stages(trainer: BaseTrainer) -> None:
    """Let the rates of a run, and its returns to the best weights, follow its plan; without one nothing changes."""
    plan = plan_of(trainer)
    if plan is None:
        return
    LOGGER.info(
        f"Plan {plan.name}: mosaic and mixup in epochs {plan.start + 1} to {plan.middle}, strong transforms "
        f"in {plan.start + 1} to {plan.stop}, clean images afterwards"
    )
    if plan.falls and not trainer.args.user_keys & {"lr_schedule", "cos_lr"}:
        warmup = trainer.warmup
        rates = plan.rates(trainer.batches, warmup.iterations, float(trainer.args.lrf))
        trainer.warmup = PlannedRates(
            rates.end, warmup.bias_lr, warmup.start_momentum, warmup.momentum, warmup.accumulate, rates
        )
    trainer.add_callback("on_train_start", _set_average)
    trainer.add_callback("on_train_epoch_start", lambda run: _enter_epoch(run, plan))


def _set_average(trainer: BaseTrainer) -> None:
    """Give the average the decay that the run has come to: lower by 1 - decay for each return to the best weights."""
    decay = float(trainer.args.ema_decay)
    trainer.ema.base_decay = max(decay - int(trainer.progress.stage.get("returns", 0)) * (1 - decay), 0.0)


def _enter_epoch(trainer: BaseTrainer, plan: RunPlan) -> None:
    """At the start of an epoch: keep the last one's state if it is the best; from `plan.stop` on return to the best.

    The first clean epoch starts from the best weights so far, and each later one whose predecessor was not better;
    every such one also lowers the decay of the average.
    """
    progress, epoch = trainer.progress, trainer.progress.epoch
    _set_average(trainer)
    if progress.batch or not epoch or progress.best_fitness is None:
        return
    improved = trainer.stopper.best_epoch == epoch - 1
    if improved:
        progress.stage = {**progress.stage, "epoch": epoch - 1, "best": _packed(trainer)}
    best = progress.stage.get("best")
    if best is None or epoch < plan.stop or (improved and epoch > plan.stop):
        return
    if not improved:
        LOGGER.info(
            f"Epoch {epoch + 1} starts from the weights of epoch {progress.stage['epoch'] + 1}, the best so far"
        )
        _restore(trainer, best)
    if epoch > plan.stop:
        progress.stage = {**progress.stage, "returns": int(progress.stage.get("returns", 0)) + 1}
        _set_average(trainer)


def _packed(trainer: BaseTrainer) -> dict[str, Any]:
    """Return a copy of weights, average and optimizer, on the CPU."""
    state = {
        "model": unwrap_model(trainer.model).state_dict(),
        "ema": trainer.ema.ema.state_dict(),
        "updates": trainer.ema.updates,
        "optimizer": trainer.optimizer.state_dict(),
    }
    return {key: _on_cpu(value) for key, value in state.items()}


def _on_cpu(value: object) -> object:
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, dict):
        return {k: _on_cpu(v) for k, v in value.items()}
    return [_on_cpu(v) for v in value] if isinstance(value, (list, tuple)) else value


def _restore(trainer: BaseTrainer, best: dict[str, Any]) -> None:
    """Return to a packed state; rates stay those of the present step. CheckpointError where it does not fit the run."""
    rates = [group["lr"] for group in trainer.optimizer.param_groups]
    try:
        unwrap_model(trainer.model).load_state_dict(best["model"])
        trainer.ema.ema.load_state_dict(best["ema"])
        trainer.ema.updates = int(best["updates"])
        load_optimizer_state(trainer.optimizer, copy.deepcopy(best["optimizer"]))
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as e:
        raise CheckpointError(
            f"the best weights in the resumed file do not fit this run: {str(e).splitlines()[0]:.120}",
            "resume from another checkpoint of the run",
        ) from e
    for group, rate in zip(trainer.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


# -------------------------------------------------------------------------------------------------------------- batches
def planned_side(plan: RunPlan, base: int, stride: int, seed: int, epoch: int, step: int) -> int:
    """Return the image side in pixels of a batch: one of several sizes before the clean epochs, then `base`."""
    if epoch >= plan.stop:
        return base
    sizes = batch_scales(base, SIZE_REPEATS, stride)
    return int(np.random.default_rng((seed, step)).choice(sizes))


def mixed(batch: Batch, probability: float, seed: int, step: int) -> Batch:
    """Blend each image of a batch with the one before it, with a probability; a function of seed and step.

    Args:
        batch: Images (B, C, H, W), floating point, and labels.
        probability: Of mixing the batch.
        seed: Of the run.
        step: Batch of the run, from 0.
    """
    rng = np.random.default_rng((seed, step, _STREAM))
    if not chance(rng, probability):
        return batch
    images, joined = mix_batch(batch["img"], _labels_by_image(batch), float(rng.uniform(*MIX_BETA)))
    return _with_labels(batch, images, joined)


def pasted(batch: Batch, probability: float, seed: int, step: int) -> Batch:
    """Blend up to three objects of the batch into each of its images, with a probability (DEIMv2, arXiv 2509.20787).

    Places are drawn anywhere in the image. A function of seed and step; arguments as those of `mixed`.
    """
    rng = np.random.default_rng((seed, step, _PASTE_STREAM))
    if not chance(rng, probability):
        return batch
    labels, (height, width) = _labels_by_image(batch), batch["img"].shape[2:]
    sources = paste_sources(labels, height, width)
    beta = float(rng.uniform(*MIX_BETA))
    pastes = []
    for _ in labels:
        chosen = rng.permutation(len(sources))[:PASTES].tolist()
        corners = [sources[k].corners for k in chosen]
        places = [(rng.integers(width - x2 + x1 + 1), rng.integers(height - y2 + y1 + 1)) for x1, y1, x2, y2 in corners]
        pastes.append(
            [Paste(k, int(x), int(y), float(rng.uniform(*ENLARGE))) for k, (x, y) in zip(chosen, places, strict=True)]
        )
    return _with_labels(batch, *paste_objects(batch["img"], labels, sources, pastes, beta))


def _labels_by_image(batch: Batch) -> list[ImageLabels]:
    """The objects of each image of a batch, all of them wholly visible."""
    owner = batch["batch_idx"].long().flatten()
    labels = []
    for i in range(len(batch["img"])):
        mine = owner == i
        labels.append(ImageLabels(batch["cls"][mine], batch["bboxes"][mine], batch["bboxes"].new_ones(int(mine.sum()))))
    return labels


def _with_labels(batch: Batch, images: Tensor, labels: Sequence[ImageLabels]) -> Batch:
    """The batch with other images and the objects of each."""
    counts = torch.tensor([len(own.cls) for own in labels])
    parts = {
        "cls": torch.cat([own.cls for own in labels]),
        "bboxes": torch.cat([own.bboxes for own in labels]),
        "batch_idx": torch.arange(len(labels)).repeat_interleave(counts).to(batch["batch_idx"]),
    }
    return {**batch, "img": images, **parts}  # type: ignore[typeddict-item]
