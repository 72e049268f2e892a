"""Schedules, augmentation plans and batch mixing of the golden cases of the newer DETR families."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ultralytics.data.augment.batch_mix import ImageLabels, Paste, mix_batch, paste_objects, paste_sources
from ultralytics.engine.training.optimizer import Warmup
from ultralytics.utils.torch_tools.training import ModelEMA
from ultralytics.utils.torch_tools.training_plans import FlatCosine, RunPlan, batch_scales

Config = dict[str, Any]


def flat_cosine(c: Config, steps: list[int]) -> Tensor:
    """Return rates [step, group]."""
    plan = FlatCosine.from_epochs(c["iters"], c["epochs"], c["warmup"], c["flat"], c["no_aug"], c["gamma"])
    return torch.tensor([[lr * plan(k) for lr in c["lrs"]] for k in steps], dtype=torch.float64)


def linear_warmup(c: Config, steps: int) -> Tensor:
    """Return rates [step, group]."""
    factors = [Warmup(c["duration"]).progress(k) for k in range(steps + 1)]
    return torch.tensor([[lr * f for lr in c["lrs"]] for f in factors], dtype=torch.float64)


def ema_decay(c: Config, updates: list[int]) -> Tensor:
    """Return the decay of each update."""
    average = ModelEMA(nn.Identity(), c["decay"], c["warmups"])
    return torch.tensor([average.decay(k) for k in updates], dtype=torch.float64)


def augment_plan(c: Config, epochs: list[int]) -> Tensor:
    """Return [epoch, without / with mosaic drawn, transform]."""
    epoch = c["epoch"]
    start, mosaic_end, stop = epoch if isinstance(epoch, list) else (0, 0, epoch)
    plan = RunPlan("", stop, start, mosaic_end, stop, falls=False)

    def acts(name: str, epoch: int, drawn: bool) -> bool:
        """Whether a transform acts: the strong ones in their epochs, and mosaic in the place of two of them."""
        mosaic = "Mosaic" in c["ops"] and drawn and plan.is_dense(epoch)
        if name == "Mosaic":
            return mosaic
        replaced = mosaic and name in ("RandomZoomOut", "RandomIoUCrop")
        return name not in c["stopped"] or (plan.is_strong(epoch) and not replaced)

    return torch.tensor([[[acts(op, e, drawn) for op in c["ops"]] for drawn in (False, True)] for e in epochs])


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
