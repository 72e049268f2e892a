"""Schedules, augmentation plans and batch mixing of the golden cases of the newer DETR families."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ultralytics.data.augment.batch_mix import ImageLabels, Paste, mix_batch, paste_objects, paste_sources
from ultralytics.utils.torch_tools.training_plans import (
    AugmentPlan,
    FlatCosine,
    batch_scales,
    ema_decay_at,
    linear_warmup_factor,
)

Config = dict[str, Any]


def flat_cosine(c: Config, steps: list[int]) -> Tensor:
    """Return rates [step, group]."""
    plan = FlatCosine.from_epochs(c["iters"], c["epochs"], c["warmup"], c["flat"], c["no_aug"], c["gamma"])
    return torch.tensor([[lr * plan(k) for lr in c["lrs"]] for k in steps], dtype=torch.float64)


def linear_warmup(c: Config, steps: int) -> Tensor:
    """Return rates [step, group]."""
    factors = [linear_warmup_factor(k, c["duration"]) for k in range(steps + 1)]
    return torch.tensor([[lr * f for lr in c["lrs"]] for f in factors], dtype=torch.float64)


def ema_decay(c: Config, updates: list[int]) -> Tensor:
    """Return the decay of each update."""
    return torch.tensor([ema_decay_at(k, c["decay"], c["warmups"]) for k in updates], dtype=torch.float64)


def augment_plan(c: Config, epochs: list[int]) -> Tensor:
    """Return [epoch, without / with mosaic drawn, transform]."""
    epoch = c["epoch"]
    start, mosaic_end, stop = epoch if isinstance(epoch, list) else (0, 0, epoch)
    plan = AugmentPlan(start, mosaic_end, stop, tuple(c["stopped"]))
    return torch.tensor([[plan.active(c["ops"], e, drawn) for drawn in (False, True)] for e in epochs])


def scales(c: Config) -> Tensor:
    """Return the sides of multi-scale training."""
    return torch.tensor(batch_scales(c["base"], c["repeat"]))


def labels_of(targets: Any) -> list[ImageLabels]:
    """Return the objects of each image."""
    return [ImageLabels(t["labels"], t["boxes"], torch.ones(len(t["labels"]))) for t in targets]


def named(images: Tensor, labels: list[ImageLabels], mixed: bool) -> dict[str, Any]:
    """Return images and objects by the names of the cases."""
    return {
        "images": images,
        "targets": [{"boxes": t.bboxes, "labels": t.cls} | ({"mixup": t.weight} if mixed else {}) for t in labels],
    }


def within(epochs: list[int], epoch: int) -> bool:
    """Return whether an epoch is one of those with mixing."""
    return epochs[0] <= epoch < epochs[1]


def mixup(c: Config, images: Tensor, targets: Any, epoch: int, script: Any) -> dict[str, Any]:
    """Mix a batch where its epoch and its draw say so."""
    options = c["collate"]
    labels = labels_of(targets)
    mixed = within(options["mixup_epochs"], epoch) and script["random"][0] < options["mixup_prob"]
    if mixed:
        images, labels = mix_batch(images, labels, script["uniform"][1])
    return named(images, labels, mixed)


def copyblend(c: Config, images: Tensor, targets: Any, epoch: int, script: Any) -> dict[str, Any]:
    """Paste objects as the script of random numbers says."""
    options = c["collate"]
    labels = labels_of(targets)
    sources = paste_sources(labels, *images.shape[2:], options["area_threshold"])
    beta, *enlarge = script["uniform"]
    places, ratios = iter(script["randint"]), iter(enlarge)
    pastes = [
        [Paste(k, next(places), next(places), next(ratios)) for k in chosen[: options["num_objects"]]]
        for chosen in script["sample"]
    ]
    images, labels = paste_objects(images, labels, sources, pastes, beta)
    return named(images, labels, True)
