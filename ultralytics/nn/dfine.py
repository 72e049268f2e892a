"""Detectors with the heads of RT-DETRv2, D-FINE, DEIM and DEIMv2.

Shapes: B batch, C channels, H x W image, Q queries, N targets of the whole batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from ultralytics.models.utils.fine_criterion import FineCriterion, FinePredictions, MatcherPlan, check_class_range
from ultralytics.models.utils.fine_grained_loss import FineGrainedLoss
from ultralytics.models.utils.ops import HungarianMatcher
from ultralytics.models.utils.targets import batch_targets
from ultralytics.nn.build.builder import set_batch_norm
from ultralytics.nn.checkpoint.class_names import names_beside
from ultralytics.nn.checkpoint.detr_files import published_record, published_state
from ultralytics.nn.checkpoint.format import as_checkpoint, foreign_tensors, read_content
from ultralytics.nn.detection import DetectionModel, LossOptions, decoder_places
from ultralytics.nn.families import Family, Scored, register_family
from ultralytics.nn.modules.detr.dfine_head import DFINEDecoder, FineOutput
from ultralytics.nn.modules.detr.rtdetrv2_decoder import RTDETRDecoderv2
from ultralytics.nn.modules.head import DecoderOutput
from ultralytics.nn.transfer import TransferReport
from ultralytics.utils.errors import ConfigError, ModelYAMLError
from ultralytics.utils.files import user_path
from ultralytics.utils.log import LOGGER
from ultralytics.utils.loss import ClassificationLoss, FocalLoss, MatchabilityAwareLoss, VarifocalLoss

__all__ = ("CriterionOptions", "DFINEDetectionModel")


class CriterionOptions(NamedTuple):
    """The key `criterion` of a model YAML: what published models of a family were trained with.

    Fields: classification loss; one set of pairs for the boxes of all outputs; the losses on edge distributions; and
    the epoch, counted from 0, from which pairs are matched by score and overlap alone (None: never).
    """

    loss: str = "vfl"
    union: bool = True
    local: bool = True
    change_epoch: int | None = None

    @classmethod
    def from_yaml(cls, data: Mapping[str, Any]) -> CriterionOptions:
        """Take the options from a model YAML; ModelYAMLError for one that does not exist."""
        given = dict(data.get("criterion") or {})
        if unknown := set(given) - set(cls._fields):
            raise ModelYAMLError(f"criterion: unknown {sorted(unknown)}; there are {', '.join(cls._fields)}")
        return cls(**given)


class DFINEDetectionModel(DetectionModel):
    """RT-DETRv2, D-FINE (arXiv 2410.13842), DEIM or DEIMv2: which one follows from the head and the YAML.

    Batch norms keep torch's epsilon of 1e-5 and momentum of 0.1, which published weights have.
    """

    checkpoint_name = "DFINEDetectionModel"
    default_family = "dfine"
    epoch = 0
    """Epoch of the run, from 0, which decides the matching of DEIMv2."""

    def __init__(
        self,
        cfg: str | Path | Mapping[str, Any] = "dfine-s.yaml",
        ch: int = 3,
        nc: int | None = None,
        verbose: bool = True,
        scale: str | None = None,
    ) -> None:
        super().__init__(cfg, ch, nc, verbose, scale)
        set_batch_norm([self], eps=1e-5, momentum=0.1)
        if isinstance(self.model[-1], DFINEDecoder):  # constants of the bins, which the loss reads too
            last = f"model.{len(self.model) - 1}"
            self.frozen_parts = (f"{last}.up", f"{last}.reg_scale")

    def _call(self, layer: nn.Module, x: Any, batch: Mapping[str, Any] | None) -> Any:
        return layer(x, batch) if layer is self.model[-1] else layer(x)

    def load(self, weights: str | Path | Mapping[str, Any] | nn.Module, verbose: bool = True) -> TransferReport:
        """Take over what fits, as every detector does.

        Tensors under the names of a family's own project are named by the rows of this network, whose YAML may have
        further rows.
        """
        content = read_content(weights) if isinstance(weights, (str, Path)) else None
        published = _published(weights) if content is None else published_state(foreign_tensors(content) or {})
        if published is None:
            return super().load(weights if content is None else as_checkpoint(content, user_path(weights)), verbose)
        record = published_record(published, self.yaml)
        if isinstance(weights, (str, Path)):
            record["names"] = names_beside(user_path(weights), len(published["decoder.dec_score_head.0.bias"]))
        return super().load(record, verbose)

    def init_criterion(self) -> FineCriterion:
        """Return the loss for this model's classes, as the YAML's `criterion` and `args.loss` choose it."""
        chosen = CriterionOptions.from_yaml(self.yaml)
        user = LossOptions.from_args(self.args)
        unused = (
            ("box_loss", user.box_loss, "giou"),
            ("aux_groups", user.aux_groups, 0),
            ("nwd_weight", user.nwd_weight, 0.0),
        )
        for name, value, plain in unused:
            if value != plain:
                LOGGER.warning(f"{name}={value} has no effect here: {self.family.name} models do not have it")
        name = chosen.loss if user.loss == "vfl" else user.loss  # vfl is the default of the argument
        head = self.model[-1]
        local = None
        if isinstance(head, DFINEDecoder) and chosen.local:
            local = FineGrainedLoss(head.reg_max, float(head.reg_scale.detach()), float(head.up.detach()))
        gains = {"class": 2.0, "bbox": 5.0, "giou": 2.0}
        late = None if chosen.change_epoch is None else HungarianMatcher(gains, iou_power=4.0)
        plan = MatcherPlan(HungarianMatcher(gains), late, chosen.change_epoch or 0)
        union = chosen.union and isinstance(head, DFINEDecoder)
        return FineCriterion(self.nc, _classification(name), "class", plan, None, local, union)

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Note the epoch (from 0) for the matching."""
        super().start_epoch(epoch, epochs)
        self.epoch = epoch

    def loss(
        self, batch: dict[str, Any], preds: Any = None, *, partial: bool = False, epoch: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the total loss of a batch and the detached [GIoU, classification, L1] of the last decoder layer.

        Args:
            batch: As for `DetectionModel.loss`.
            preds: What the network gave for it, in training or evaluation form; None: it is run.
            partial: Has no effect: a batch without targets has the same loss here as others.
            epoch: Epoch, from 0: the matching of DEIMv2 changes late. None: that of the run.
        """
        img = batch["img"]
        check_class_range(batch["cls"], self.nc)  # where the loader put them: on the GPU it would be a wait
        targets = batch_targets(batch, len(img), img.device)
        preds = self.predict(img, batch=targets) if preds is None else preds
        raw = preds if isinstance(preds, (FineOutput, DecoderOutput)) else preds[1]
        ordinary, noised = split_predictions(raw)
        terms = self.ensure_criterion()(ordinary, targets, noised, raw.dn_meta, self.epoch if epoch is None else epoch)
        items = torch.stack([terms[f"loss_{k}"].detach() for k in ("giou", "class", "bbox")])
        return torch.stack(list(terms.values())).sum(), items


def _published(weights: object) -> dict[str, Tensor] | None:
    """Return tensors under the names of a family's own project, None for other sources."""
    if not isinstance(weights, Mapping):
        return None
    inner = weights.get("state_dict", weights)
    return published_state(inner) if isinstance(inner, Mapping) else None


def _classification(name: str) -> ClassificationLoss:
    """Return a classification loss by name, with the constants of the published models."""
    losses: dict[str, ClassificationLoss] = {
        "vfl": VarifocalLoss(2.0, 0.75, detached=True),
        "mal": MatchabilityAwareLoss(1.5, detached=True),
        "focal": FocalLoss(2.0, 0.25),
    }
    if name not in losses:
        raise ConfigError(f"loss={name!r} is not known; choose {', '.join(losses)}")
    return losses[name]


def split_predictions(raw: FineOutput | DecoderOutput) -> tuple[FinePredictions, FinePredictions | None]:
    """Return the predictions of the ordinary queries, and those of the denoising queries that come before them."""
    if isinstance(raw, FineOutput):
        whole = FinePredictions(raw.logits, raw.boxes, raw.corners, raw.refs, raw.pre_logits, raw.pre_boxes)
        encoder = {"enc_logits": raw.enc_logits, "enc_boxes": raw.enc_boxes}
    else:
        whole = FinePredictions(raw.dec_scores, raw.dec_bboxes)
        encoder = {"enc_logits": raw.enc_scores, "enc_boxes": raw.enc_bboxes}
    if raw.dn_meta is None:
        return whole._replace(**encoder), None
    sizes = raw.dn_meta["dn_num_split"]
    parts = [None if part is None else part.split(sizes, part.dim() - 2) for part in whole]
    noised, ordinary = (FinePredictions(*(None if p is None else p[k] for p in parts)) for k in (0, 1))  # type: ignore[arg-type]
    return ordinary._replace(**encoder), noised


def fine_places(head: nn.Module, output: Sequence[object], size: tuple[int, int]) -> Scored:
    """Return what the last decoder layer of a head of D-FINE says of the queries of one image."""
    raw = cast("FineOutput", output[1])
    return Scored(raw.logits[-1, 0], raw.boxes[-1, 0])


DFINE_FAMILY = register_family(
    Family(
        name="dfine",
        head=DFINEDecoder,
        network=DFINEDetectionModel,
        loss_names=("giou_loss", "cls_loss", "l1_loss"),
        places=fine_places,
        package="ultralytics.models.rtdetr",
    )
)
RTDETRV2_FAMILY = register_family(
    Family(
        name="rtdetrv2",
        head=RTDETRDecoderv2,
        network=DFINEDetectionModel,
        loss_names=("giou_loss", "cls_loss", "l1_loss"),
        places=decoder_places,
        package="ultralytics.models.rtdetr",
    )
)
