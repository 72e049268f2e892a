"""Image classification: the loss, with a teacher or without, weights in the official SHViT form, and the network.

A classifier of ours is a YAML of rows (`SHViTStem`, `SHViTStage`, ..., `SHViTHead`), an official SHViT file holds one
module. `official_prefixes` determines to which row each part of such a file belongs to.
Shapes: B batch, nc classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn.build.builder import set_batch_norm
from ultralytics.nn.build.plans import PlannedLayer
from ultralytics.nn.build.spec import ModelSpec
from ultralytics.nn.families import Family, register_family
from ultralytics.nn.modules.shsa import SHViTHead, SHViTStage, SHViTStem
from ultralytics.nn.transfer import TransferReport, copy_matching
from ultralytics.nn.yaml_model import YamlModel, weights_of
from ultralytics.utils.errors import CheckpointError
from ultralytics.utils.log import LOGGER

TEMPERATURE = 3.0  # of soft distillation (DeiT, arXiv 2012.12877, section 5.2)
SUBSAMPLE = 3  # modules in front of the blocks of stages 2 and 3 in an official file

Logits = Tensor | tuple[Tensor, Tensor]


# ------------------------------------------------------------------------------------------------------------- loss
def classification_loss(preds: Logits, batch: Mapping[str, Any], args: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Loss of logits (B, nc), or of the pair (head, distillation head); returns the total and its detached parts.

    `batch` holds `cls` (B,), and if wanted `teacher` (B, nc), the teacher's logits, and `class_weights` (nc,). `args`
    are `smoothing`, `dis` (gain of the teacher's part) and `distill_type`. Without a second head the teacher's part
    acts on the only one. The parts are [classification] or, with `distill_model` in `args`, [classification,
    distillation].
    """
    logits, follower = preds if isinstance(preds, tuple) else (preds, preds)
    target = batch["cls"].view(-1).long()  # (B,)
    smoothing = float(args.get("smoothing") or 0.0)
    loss = F.cross_entropy(logits.float(), target, weight=batch.get("class_weights"), label_smoothing=smoothing)
    if not args.get("distill_model"):
        return loss, loss.detach().view(1)
    teacher = batch.get("teacher")
    dis = loss.new_zeros(()) if teacher is None else distillation_loss(follower, teacher, str(args["distill_type"]))
    return loss + float(args["dis"]) * dis, torch.stack([loss, dis]).detach()


def distillation_loss(logits: Tensor, teacher: Tensor, kind: str = "hard") -> Tensor:
    """Distance of logits (B, nc) from the teacher's.

    "hard" is the cross-entropy with the teacher's choice; "soft" the divergence of the probabilities at `TEMPERATURE`,
    times its square (both as in DeiT, arXiv 2012.12877, section 3).
    """
    if kind == "hard":
        return F.cross_entropy(logits.float(), teacher.argmax(1))
    own, other = (F.log_softmax(x.float() / TEMPERATURE, 1) for x in (logits, teacher))
    return F.kl_div(own, other, reduction="batchmean", log_target=True) * TEMPERATURE**2


def class_weights(counts: Iterable[int], power: float) -> Tensor | None:
    """Weight of each class, (count ** -power) with mean 1 over the images; None for power 0.

    >>> class_weights([1, 3], 1.0).tolist()
    [2.0, 0.6666666865348816]
    """
    if not power:
        return None
    number = torch.tensor(list(counts), dtype=torch.float64)
    weights = number.clamp(min=1) ** -power
    return (weights * number.sum() / (weights * number).sum()).float()


# ------------------------------------------------------------------------------------------------- official weights
def official_prefixes(layers: Iterable[nn.Module]) -> dict[str, str]:
    """Key prefixes of an official SHViT file, each with the prefix that its tensors have in rows of ours.

    `layers` are the rows, in order. Rows of other classes take nothing.
    """
    table: dict[str, str] = {}
    stage = 0
    for i, layer in enumerate(layers):
        if isinstance(layer, SHViTStem):
            table |= {f"patch_embed.{k}.": f"model.{i}.layers.{k}." for k in (0, 2, 4)}
        elif isinstance(layer, SHViTStage):
            stage += 1
            down = ["patch_embed.6."] if stage == 1 else [f"blocks{stage}.{k}." for k in range(SUBSAMPLE)]
            table |= {source: f"model.{i}.down.{k}." for k, source in enumerate(down)}
            first = 0 if stage == 1 else SUBSAMPLE
            table |= {f"blocks{stage}.{first + k}.": f"model.{i}.blocks.{k}." for k in range(len(layer.blocks))}
        elif isinstance(layer, SHViTHead):
            heads = ("head", "head_dist") if layer.distillation else ("head",)
            table |= {f"{name}.": f"model.{i}.{name}." for name in heads}
    return table


def is_official(state: Mapping[str, Any]) -> bool:
    """Whether a state dict has the keys of the official SHViT."""
    return any(key.startswith("patch_embed.") for key in state)


def from_official(state: Mapping[str, Tensor], layers: Iterable[nn.Module]) -> dict[str, Tensor]:
    """Give the tensors of an official SHViT state dict the keys of our rows; keys without a place stay as they are."""
    table = official_prefixes(layers)

    def renamed(key: str) -> str:
        parts = key.split(".")
        for n in (2, 1):
            prefix = ".".join(parts[:n]) + "."
            if prefix in table:
                return table[prefix] + ".".join(parts[n:])
        return key

    return {renamed(key): value for key, value in state.items()}


def to_official(state: Mapping[str, Tensor], layers: Iterable[nn.Module]) -> dict[str, Tensor]:
    """The inverse of `from_official`, for weights that other SHViT code is to read; raises CheckpointError."""
    table = {ours: theirs for theirs, ours in official_prefixes(layers).items()}
    result: dict[str, Tensor] = {}
    for key, value in state.items():
        prefix = next((p for p in table if key.startswith(p)), None)
        if prefix is None:
            raise CheckpointError(f"the official SHViT has no place for '{key}'", "its rows are stem, stages and head")
        result[table[prefix] + key[len(prefix) :]] = value
    return result


# ------------------------------------------------------------------------------------------------------------ network
class ClassificationModel(YamlModel):
    """An image classifier whose last row gives logits (B, nc), such as SHViT (CVPR 2024, arXiv 2401.16456).

    Images are normalised by the caller. Batch norms keep torch's epsilon of 1e-5, which official weights have.
    """

    task = "classify"
    checkpoint_name = "ClassificationModel"

    def __init__(
        self,
        cfg: str | Path | Mapping[str, Any] = "shvit_s1.yaml",
        ch: int = 3,
        nc: int | None = None,
        verbose: bool = True,
        scale: str | None = None,
    ) -> None:
        super().__init__(cfg, ch, nc, verbose, scale)
        set_batch_norm([self], eps=1e-5, momentum=0.1)
        self.stride = torch.tensor([32.0], device="cpu")  # nothing is joined, so that the network takes any size

    def check_last_row(self, spec: ModelSpec, last: PlannedLayer) -> None:
        """Demand logits for the YAML's classes at the end."""
        output = last.output[0] if isinstance(last.output, tuple) else last.output
        if not isinstance(output, Tensor) or output.dim() != 2 or output.shape[1] != spec.nc:
            raise spec.error(spec.layers[-1], f"the last row must give {spec.nc} logits", "such as SHViTHead, [nc]")

    def loss(self, batch: dict[str, Any], preds: Any = None, *, partial: bool = False) -> tuple[Tensor, Tensor]:
        """Return the loss of a batch, see `classification_loss`; `preds` are its logits, None: the model is run."""
        preds = self.predict(batch["img"]) if preds is None else preds
        return classification_loss(preds, batch, self.args if isinstance(self.args, Mapping) else vars(self.args))

    def load(self, weights: str | Path | Mapping[str, Any] | nn.Module, verbose: bool = True) -> TransferReport:
        """Copy every tensor whose key and shape agree, from any source of weights or an official SHViT file."""
        source = weights_of(weights)
        official = is_official(source.state)
        report = copy_matching(self, from_official(source.state, self.model) if official else source.state)
        if report.copied and (source.eps or official):
            set_batch_norm([self], eps=source.eps or 1e-5, momentum=0.1)
        if not report.fresh and source.names:
            self.names = dict(source.names)
        if verbose:
            for line in report.lines():
                LOGGER.info(line)
        return report


SHVIT_FAMILY = register_family(
    Family(
        name="shvit",
        head=SHViTHead,
        network=ClassificationModel,
        task="classify",
        package="ultralytics.models.shvit",
    )
)
