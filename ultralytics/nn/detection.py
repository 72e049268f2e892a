"""Detectors: a YAML whose last row is a head, with the criterion of the head's family.

Shapes: B batch, C channels, H x W image, Q queries, N targets of the whole batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, SupportsIndex, cast

import torch
from torch import Tensor, nn

from ultralytics.models.utils.loss import RTDETRDetectionLoss
from ultralytics.models.utils.targets import batch_targets
from ultralytics.nn.build.builder import set_batch_norm
from ultralytics.nn.build.plans import PlannedLayer
from ultralytics.nn.build.spec import ModelSpec
from ultralytics.nn.checkpoint.detr_names import regrouped_state
from ultralytics.nn.checkpoint.remap import without_padding_class
from ultralytics.nn.classify import from_official, is_official
from ultralytics.nn.families import Criterion, Family, Scored, family_of, family_of_yaml, register_family
from ultralytics.nn.modules.head import DecoderOutput, RTDETRDecoder
from ultralytics.nn.registry import REGISTRY
from ultralytics.nn.transfer import TransferReport, is_class, transfer
from ultralytics.nn.yaml_model import Weights, YamlModel, weights_of
from ultralytics.utils.errors import CheckpointError, ModelYAMLError
from ultralytics.utils.log import LOGGER


@lru_cache(maxsize=64)
def _of_family(cls: type[Any], network: type[Any]) -> type[DetectionModel]:
    """Return `cls` with the network class of a family as its further base: what `cls` replaces is called first."""

    def reduce(self: DetectionModel, protocol: SupportsIndex) -> tuple[Any, ...]:
        return _new_of_family, (cls, network), *object.__reduce_ex__(self, protocol)[2:]

    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    made: type[DetectionModel] = type(cls.__name__, (cls, network), {**names, "__reduce_ex__": reduce})
    return made


def _new_of_family(cls: type[DetectionModel], network: type[YamlModel]) -> DetectionModel:
    made = _of_family(cls, network)  # type: ignore[arg-type]  # the stubs of torch hide the hash of classes
    return made.__new__(made)


class DetectionModel(YamlModel):
    """A detector from a YAML file or mapping; its family is found by its head.

    Made by this name, the network is of the class of that family; a subclass of this class takes over the methods of
    that class as well. The criterion is made at the first loss, from `args`. Arguments and errors are those of
    `YamlModel`.
    """

    task = "detect"
    checkpoint_name = "DetectionModel"
    default_family: ClassVar[str | None] = None
    """Family of a head that no family owns; None: such a head cannot be trained."""
    partial_layers: ClassVar[bool] = False
    """Whether `load` takes the fitting parts of a layer whose shapes differ."""
    frozen_parts: tuple[str, ...] = ()
    """Parts of the names of parameters that are constants, which no run trains."""
    criterion: Any

    def __new__(cls, cfg: str | Path | Mapping[str, Any] | None = None, *_: object, **options: Any) -> DetectionModel:
        """Choose the class by the head of the YAML; copies and networks of a family are what they are."""
        cfg = options.get("cfg", cfg)
        generic = cls.checkpoint_name == DetectionModel.checkpoint_name
        family = family_of_yaml(cfg, options.get("scale")) if generic and cfg is not None else None
        if family is None or issubclass(cls, family.network):
            return super().__new__(cls)
        if issubclass(family.network, cls):
            return super().__new__(family.network)
        return _new_of_family(cls, family.network)

    def __init__(
        self,
        cfg: str | Path | Mapping[str, Any] = "rtdetr-l.yaml",
        ch: int = 3,
        nc: int | None = None,
        verbose: bool = True,
        scale: str | None = None,
    ) -> None:
        super().__init__(cfg, ch, nc, verbose, scale)

    @property
    def family(self) -> Family:
        """The family of the head."""
        return family_of(self, self.default_family)

    def check_last_row(self, spec: ModelSpec, last: PlannedLayer) -> None:
        """Demand a detection head at the end."""
        if not last.entry.is_head:
            heads = [name for name in REGISTRY if (entry := REGISTRY.get(name)) is not None and entry.is_head]
            hint = "a classifier is trained by: yolo classify train" if spec.data.get("task") == "classify" else ""
            more = [line for line in (f"heads: {', '.join(heads)}", hint) if line]
            raise spec.error(spec.layers[-1], "the last row must be a head", *more)

    def init_criterion(self) -> Criterion:
        """Return the criterion of the family, for this network and its `args`."""
        make = self.family.criterion
        if make is None:
            raise NotImplementedError(f"family '{self.family.name}' has no criterion: give Family(criterion=...)")
        return make(self)

    def ensure_criterion(self) -> Any:
        """Return `criterion`, which the first call makes."""
        if not hasattr(self, "criterion"):
            self.criterion = self.init_criterion()
        return self.criterion

    def loss(self, batch: dict[str, Any], preds: Any = None, *, partial: bool = False) -> tuple[Tensor, Tensor]:
        """Return the total loss of a batch and its detached parts, `Family.loss_names`.

        Args:
            batch: `img` (B, C, H, W), `cls` (N,) or (N, 1), `bboxes` (N, 4) as cx, cy, w, h in 0..1, `batch_idx` (N,).
            preds: What the network gave for it; None: it is run.
            partial: Whether other batches belong to the same optimizer step.
        """
        img = batch["img"]
        preds = self.predict(img) if preds is None else preds
        return self.ensure_criterion()(preds, batch_targets(batch, len(img), img.device))

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Let the criterion know that epoch `epoch` (from 0) of `epochs` begins, if it has a method `start_epoch`."""
        criterion = self.ensure_criterion()
        if hasattr(criterion, "start_epoch"):
            criterion.start_epoch(epoch, epochs)

    def prepare_for(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Make ready to take over a state dict; return it, or a changed copy. Families have rules of their own here."""
        return state

    def load(self, weights: str | Path | Mapping[str, Any] | nn.Module, verbose: bool = True) -> TransferReport:
        """Take over every layer that fits, from a file, a checkpoint dict, a state dict or a model; return a report.

        Layers are aligned by type and shapes, so rows may have been put in or taken out. Class rows of the head are
        matched by class name. The batch-norm epsilon comes along with the tensors.
        """
        source = weights_of(weights)
        if is_official(source.state):  # an SHViT classifier, as a backbone
            source = source._replace(state=from_official(source.state, self.model), eps=source.eps or 1e-5)
        if source.fused and not self.is_fused():
            raise CheckpointError("fused weights do not fit an unfused model", "load the weights from before fuse()")
        source = self._in_own_rows(source)
        state = self.prepare_for(source.state)
        report = transfer(self, state, self.names, source.names, self.yaml, source.yaml, self.partial_layers)
        if report.copied and source.eps:
            set_batch_norm([self], eps=source.eps)
        self._adopt_names(report, source.names)
        if not report.copied and not report.rows:
            LOGGER.warning("nothing was taken from these weights: no layer fits, the network stays as it is")
        if verbose:
            for line in report.lines():
                LOGGER.info(line)
        return report

    def _in_own_rows(self, source: Weights) -> Weights:
        """Return weights of the same published network, whose YAML has other rows, as those of this YAML."""
        keys = self.state_dict().keys()
        if not source.yaml or source.fused or source.state.keys() == keys:
            return source
        try:
            state = regrouped_state(source.state, source.yaml, self.yaml, keys)
        except ModelYAMLError:  # of a class of the user that is not registered here: the tensors may still fit
            return source
        return source if state is None else source._replace(state=state, yaml=self.yaml)

    def _adopt_names(self, report: TransferReport, names: Mapping[int, str]) -> None:
        """Take over the class names of a source if there are none yet and all class tensors were copied."""
        placeholders = all(n == str(i) for i, n in self.names.items())
        whole = report.copied and not any(is_class(key) for key in report.fresh)
        if placeholders and names and whole:
            self.names = dict(names)


class LossOptions(NamedTuple):
    """What a user chooses of the set loss: classification and box losses, and further groups of queries in training."""

    loss: str = "vfl"
    box_loss: str = "giou"
    aux_groups: int = 0
    nwd_weight: float = 0.0

    @classmethod
    def from_args(cls, args: object) -> LossOptions:
        """Take the options from the arguments of a run (mapping or namespace); what is missing has its default."""
        values: Mapping[str, Any] = args if isinstance(args, Mapping) else vars(args)
        return cls(*(values.get(name) or default for name, default in cls._field_defaults.items()))


class RTDETRDetectionModel(DetectionModel):
    """RT-DETR (Zhao et al., CVPR 2024): backbone, hybrid encoder, transformer decoder, and a set-prediction loss."""

    checkpoint_name = "RTDETRDetectionModel"
    default_family = "rtdetr"

    def _call(self, layer: nn.Module, x: object, batch: Mapping[str, Any] | None) -> object:
        if layer is not self.model[-1]:
            return layer(x)
        groups = LossOptions.from_args(self.args).aux_groups if self.training else 0
        return layer(x, batch, aux_groups=groups) if groups else layer(x, batch)

    def prepare_for(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Fit a source's state dict to this network: its embedding has no row for padding."""
        return without_padding_class(state)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Take tensors by key as `nn.Module` does, from forks' detectors too (`without_padding_class`)."""
        return super().load_state_dict(without_padding_class(state_dict), strict, assign)

    def init_criterion(self) -> RTDETRDetectionLoss:
        """Return the loss for this model's classes, as `args.loss`, `args.box_loss` and `args.nwd_weight` choose it."""
        loss, box_loss, _, nwd = LossOptions.from_args(self.args)
        return RTDETRDetectionLoss(nc=self.nc, use_vfl=True, loss=loss, box_loss=box_loss, nwd_weight=nwd)

    def loss(self, batch: dict[str, Any], preds: Any = None, *, partial: bool = False) -> tuple[Tensor, Tensor]:
        """Return the total loss of a batch and the detached [GIoU, classification, L1] of the last decoder layer.

        Args:
            batch: As for `DetectionModel.loss`.
            preds: What the network gave for it, in training or evaluation form; None: it is run.
            partial: Other batches belong to the same optimizer step: one without targets then counts like the others.
        """
        img = batch["img"]
        targets = batch_targets(batch, len(img), img.device)
        preds = self.predict(img, batch=targets) if preds is None else preds
        boxes, scores, enc_boxes, enc_scores, dn_meta = preds[1] if len(preds) == 2 else preds
        dn_boxes = dn_scores = None
        if dn_meta is not None:
            dn_boxes, boxes = torch.split(boxes, dn_meta["dn_num_split"], dim=2)
            dn_scores, scores = torch.split(scores, dn_meta["dn_num_split"], dim=2)
        boxes = torch.cat([enc_boxes.unsqueeze(0), boxes])  # (1 + layers, B, Q, 4)
        scores = torch.cat([enc_scores.unsqueeze(0), scores])  # (1 + layers, B, Q, nc)
        denoising = {"dn_bboxes": dn_boxes, "dn_scores": dn_scores, "dn_meta": dn_meta}
        group = int(getattr(self.model[-1], "num_queries", 0))
        more = {"partial": True} if partial else {}  # a loss in user code need not know it
        terms = self.ensure_criterion()((boxes, scores), targets, **denoising, group=group, **more)
        items = torch.stack([terms[k].detach() for k in ("loss_giou", "loss_class", "loss_bbox")])
        return torch.stack(list(terms.values())).sum(), items


def decoder_places(head: nn.Module, output: Sequence[object], size: tuple[int, int]) -> Scored:
    """Return what the last decoder layer of an RT-DETR head says of the queries of one image."""
    raw = cast("DecoderOutput", output[1])
    return Scored(raw.dec_scores[-1, 0], raw.dec_bboxes[-1, 0])


RTDETR_FAMILY = register_family(
    Family(
        name="rtdetr",
        head=RTDETRDecoder,
        network=RTDETRDetectionModel,
        loss_names=("giou_loss", "cls_loss", "l1_loss"),
        places=decoder_places,
        package="ultralytics.models.rtdetr",
    )
)
