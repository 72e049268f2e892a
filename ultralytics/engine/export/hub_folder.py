"""`format=hf`: a folder that `transformers` opens, checked before it gets its name.

The folder is read back by our own reader: the network that comes out must compute, bit for bit, what the written one
computes. So a network whose rows differ from the published structure, where no tensor shows it, is refused. Where
`transformers` is installed, its outputs are compared too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from ultralytics.engine.export.exporter import move_into_place, work_folder
from ultralytics.engine.export.parity import TIE
from ultralytics.nn.export.transformers_config import hub_class
from ultralytics.nn.export.transformers_folder import TENSORS, hub_card, transformers_form, write_transformers
from ultralytics.nn.families import family_of
from ultralytics.nn.modules.query_head import QueryHead
from ultralytics.nn.tasks import DetectionModel, load_checkpoint
from ultralytics.utils.checks import check_imgsz, require
from ultralytics.utils.errors import CheckpointError, ConfigError
from ultralytics.utils.log import LOGGER

BOUND = 1e-4
"""Largest difference of logits, and of boxes in 0..1, from those of `transformers`."""
_IMAGES, _SEED = 2, 2304


class Outputs(NamedTuple):
    """What the last decoder layer says of one image: logits (Q, nc), and boxes (Q, 4) as cx, cy, w, h in 0..1."""

    logits: Tensor
    boxes: Tensor


def export_transformers(model: nn.Module, stem: Path, run: Mapping[str, Any]) -> Path:
    """Write `<stem>_hf/` and return its path; a folder of that name is replaced.

    Args:
        model: A detector that is not fused.
        stem: Path of the folder without its ending.
        run: The checkpoint dict that the model came from; the model card shows its arguments and metrics.

    Raises ConfigError for a network that `transformers` does not have, CheckpointError for a folder that computes
    something else.
    """
    plain = transformers_form(model)
    side = _side(run)
    target = stem.with_name(f"{stem.name}_hf")
    with work_folder(target) as folder:
        made = folder / target.name
        made.mkdir()
        write_transformers(plain, made, side, hub_card(stem.name, plain, run))
        images = list(noise_images(side))
        check_read_back(plain, made, images[0])
        if find_spec("transformers") is None:
            LOGGER.info("transformers is not installed here: its own outputs were not compared")
        else:
            compare_outputs(plain, made, images)
        move_into_place(made, target)
    LOGGER.info(f"{target} written, for {hub_class(plain.model[-1]).name}.from_pretrained({str(target)!r})")
    return target


def _side(run: Mapping[str, Any]) -> int:
    """Side of the training images, 640 where it is unknown, as a multiple of the largest stride."""
    given = (run.get("train_args") or {}).get("imgsz") or 640
    side = check_imgsz(given, max_dim=1, stride=32)
    return side if isinstance(side, int) else max(side)


def noise_images(side: int) -> Iterable[Tensor]:
    """Yield images (1, 3, S, S) of noise, the same at each call."""
    generator = torch.Generator().manual_seed(_SEED)
    for _ in range(_IMAGES):
        yield torch.rand(1, 3, side, side, generator=generator)


@torch.no_grad()
def network_outputs(model: DetectionModel, image: Tensor) -> Outputs:
    """Run a detector on one image (1, 3, S, S)."""
    places = family_of(model).places
    if places is None:
        raise ConfigError(f"format=hf: the family of {type(model).__name__} has no queries")
    found = places(model.model[-1], model(image), (int(image.shape[2]), int(image.shape[3])))
    return Outputs(found.logits, found.boxes)


def check_read_back(model: DetectionModel, folder: Path, image: Tensor) -> None:
    """Raise CheckpointError unless the folder, read here, gives the same outputs bit for bit."""
    again, _ = load_checkpoint(folder / TENSORS)
    if not isinstance(again, DetectionModel):
        raise CheckpointError(f"the written folder is read as {type(again).__name__}, not as a detector")
    ours, theirs = network_outputs(model, image), network_outputs(again, image)
    if ours.logits.shape != theirs.logits.shape or not all(map(torch.equal, ours, theirs)):
        raise CheckpointError(
            "format=hf: the network differs from the published structure of its tensors, which transformers builds\n"
            "it can be written for models such as rtdetr-r18.yaml, rtdetr-resnet50vd.yaml or dfine-s.yaml"
        )


@torch.no_grad()
def compare_outputs(model: DetectionModel, folder: Path, images: Iterable[Tensor]) -> Outputs:
    """Run the folder in `transformers` and return the largest differences of logits and boxes.

    The tokens that become queries are chosen by score, and scores that are equal but for rounding may be chosen
    otherwise there: our network takes the same tokens, each of which must be within `TIE` of our own choice.

    Raises CheckpointError beyond the bounds.
    """
    name = hub_class(model.model[-1]).name
    library = require("transformers", "comparing with transformers")
    network = getattr(library, name).from_pretrained(str(folder), local_files_only=True).eval()
    found = []
    for image in images:
        out = network(image)
        chosen = out.enc_outputs_class.amax(-1).topk(out.logits.shape[1], 1).indices  # (1, Q)
        theirs = Outputs(out.logits[0], out.pred_boxes[0])
        found.append(largest_differences(_with_tokens(model, image, chosen), theirs))
    worst = Outputs(*(torch.stack(values).max() for values in zip(*found, strict=True)))
    shown = f"logits {float(worst.logits):.1e}, boxes {float(worst.boxes):.1e}"
    if not max(map(float, worst)) <= BOUND:
        raise CheckpointError(
            f"format=hf: {name} of transformers gives other outputs ({shown}; at most {BOUND})\n"
            "nothing was written; its version may be too old or too new"
        )
    LOGGER.info(f"beside {name} of transformers, {len(found)} images of noise: {shown}")
    return worst


def _with_tokens(model: DetectionModel, image: Tensor, chosen: Tensor) -> Outputs:
    """Run a detector with these tokens (1, Q) as queries; the outputs are NaN where they are not its best ones.

    A token at the border, which has no valid anchor, is never a query here; `transformers` may take one where nearly
    all others score less, as in networks that were not trained. It is compared too.
    """
    head = cast("QueryHead", model.model[-1])
    fair = True

    def choose(confidence: Tensor, queries: int) -> Tensor:
        nonlocal fair
        scores, least = confidence.gather(1, chosen), confidence.topk(queries, 1).values[:, -1:]
        fair = bool(((scores >= least - TIE) | scores.isneginf()).all())
        if border := int(scores.isneginf().sum()):
            LOGGER.warning(f"transformers takes {border} tokens at the border as queries, which have no place here")
        return chosen

    with head.selecting_by(choose):
        found = network_outputs(model, image)
    return found if fair else Outputs(*(torch.full_like(values, torch.nan) for values in found))


def largest_differences(ours: Outputs, theirs: Outputs) -> Outputs:
    """Return the largest differences of logits and of boxes; infinite where the shapes differ."""
    if any(a.shape != b.shape for a, b in zip(ours, theirs, strict=True)):
        return Outputs(torch.tensor(torch.inf), torch.tensor(torch.inf))
    return Outputs(*((a - b).abs().max() for a, b in zip(ours, theirs, strict=True)))
