"""Models built from a YAML, run layer by layer, trained by their own loss, fused, saved and loaded.

Channel inference, for whoever adds a module: each block declares its rule beside itself (`@register(rule)`, see
`registry.py`), `builder.py` applies the rules row by row and checks every row with a dry run, and `DetectionModel`
below only asks for the result. SHSA in `modules/shsa.py` is the worked example.

Shape legend: B batch, C channels, H x W image, K rows of the output, T targets of the whole batch.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.models.utils.loss import RTDETRDetectionLoss
from ultralytics.nn.activation_checkpointing import run_again_in_backward
from ultralytics.nn.build.builder import (
    PlannedLayer,
    build_model,
    feature_stride,
    log_layers,
    parse_model,
    plan_model,
    set_batch_norm,
)
from ultralytics.nn.build.spec import ModelSpec, load_model_yaml
from ultralytics.nn.build.user_blocks import check_user_modules
from ultralytics.nn.checkpoint.format import pack_model, plain, read_checkpoint, save_checkpoint
from ultralytics.nn.checkpoint.remap import adapt
from ultralytics.nn.checkpoint.validate import ConstructionBudget
from ultralytics.nn.classify import LoadReport, classification_loss, from_official, is_official, load_matching
from ultralytics.nn.modules.conv import fuse_children
from ultralytics.nn.modules.head import RTDETRDecoder
from ultralytics.nn.profile.graph import draw_graph
from ultralytics.nn.profile.summary import (
    LayerFacts,
    Totals,
    compare_rows,
    layer_facts,
    layer_table,
    model_title,
    model_totals,
    summary_line,
    totals_line,
    wide_lines,
)
from ultralytics.nn.registry import REGISTRY
from ultralytics.nn.transfer import TransferReport, is_class, transfer
from ultralytics.utils.checks import check_imgsz
from ultralytics.utils.errors import CheckpointError, ConfigError, ModelYAMLError
from ultralytics.utils.log import LOGGER
from ultralytics.utils.torch_utils import get_flops, get_num_gradients, get_num_params

__all__ = [
    "BaseModel",
    "ClassificationModel",
    "DetectionModel",
    "RTDETRDetectionModel",
    "attempt_load_weights",
    "guess_model_task",
    "load_checkpoint",
    "pack_model",
    "parse_model",
    "save_checkpoint",
    "unpack_model",
    "yaml_model_load",
]

ImageSize = int | Sequence[int]  # px: a side, or height and width
LAYER_FACTS = ("i", "f", "type", "np")  # what the builder writes on each layer


class BaseModel(nn.Module):
    """Layers of a YAML with routing between them; subclasses add the construction and the loss."""

    model: nn.Sequential
    save: list[int]
    yaml: dict[str, Any]
    names: dict[int, str]
    nc: int
    stride: Tensor
    task: str
    args: Any
    activation_checkpointing: bool = False

    def forward(self, x: Tensor | dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Loss of a batch dict, or prediction for an image tensor (B, C, H, W)."""
        if isinstance(x, dict):
            return self.loss(x, *args, **kwargs)
        return self.predict(x, *args, **kwargs)

    def predict(
        self,
        x: Tensor,
        profile: bool = False,
        batch: Mapping[str, Any] | None = None,
        augment: bool = False,
        embed: Sequence[int] | None = None,
    ) -> Any:
        """Run the layers on an image batch (B, C, H, W).

        `batch` are training targets, handed to the head. `profile` logs the time of each layer. With `embed`, a list of
        layer indices, return one vector for each image instead: the pooled outputs of those layers, concatenated.
        Raises ConfigError for `augment=True`, which no model here supports.
        """
        if augment:
            raise ConfigError("augment=True: these models have no test-time augmentation\nleave augment out")
        if embed and not all(0 <= i < len(self.model) - 1 for i in embed):
            raise ConfigError(f"embed={list(embed)}: layers 0 to {len(self.model) - 2} can be embedded")
        if profile or embed:
            return self._predict_looking(x, profile, batch, frozenset(embed or ()))
        return self._call(self.model[-1], self.features(x), batch)

    def features(self, x: Tensor) -> Any:
        """Return what the last layer gets for an image batch (B, C, H, W)."""
        kept: list[Any] = []
        again = self.activation_checkpointing and self.training and torch.is_grad_enabled()
        for layer in list(self.model)[:-1]:
            x = self._gather(layer, x, kept)
            x = run_again_in_backward(layer, x) if again else self._call(layer, x, None)
            kept.append(x if layer.i in self.save else None)
        return self._gather(self.model[-1], x, kept)

    def _predict_looking(self, x: Any, profile: bool, batch: Mapping[str, Any] | None, embed: frozenset[int]) -> Any:
        """`predict` that times each layer or collects vectors on the way."""
        kept: list[Any] = []
        vectors: list[Tensor] = []
        for layer in self.model:
            x = self._gather(layer, x, kept)
            start = time.perf_counter()
            x = self._call(layer, x, batch)
            if profile:
                LOGGER.info(f"{(time.perf_counter() - start) * 1e3:10.2f} ms  {layer.i:>3} {layer.type}")
            kept.append(x if layer.i in self.save else None)
            if layer.i in embed:
                vectors.append(F.adaptive_avg_pool2d(x, 1).flatten(1))  # (B, C)
                if len(vectors) == len(embed):
                    return torch.cat(vectors, 1).unbind(0)
        return x

    @staticmethod
    def _gather(layer: nn.Module, x: Any, kept: list[Any]) -> Any:
        """The input of a layer: the previous output, a kept one, or a list of them."""
        f = cast("int | list[int]", layer.f)
        if isinstance(f, int):
            return x if f == -1 else kept[f]
        return [x if j == -1 else kept[j] for j in f]

    def _call(self, layer: nn.Module, x: Any, batch: Mapping[str, Any] | None) -> Any:
        return layer(x)

    def loss(self, batch: dict[str, Any], preds: Any = None) -> tuple[Tensor, Tensor]:
        """Total loss and its detached parts."""
        raise NotImplementedError(f"{type(self).__name__} has no loss")

    def is_fused(self) -> bool:
        """Whether no batch norm is left to fold."""
        return not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in self.model.modules())

    def fuse(self, verbose: bool = True, imgsz: ImageSize = 640) -> BaseModel:
        """Fold batch norms and re-parameterised branches, in place, for inference; return self."""
        if not self.is_fused():
            facts = [{name: getattr(layer, name) for name in LAYER_FACTS} for layer in self.model]
            fuse_children(self.model)
            for layer, values in zip(self.model, facts, strict=True):
                for name, value in values.items():
                    setattr(layer, name, value)
            self.info(verbose=verbose, imgsz=imgsz)
        return self

    def info(
        self, detailed: bool = False, verbose: bool = True, imgsz: ImageSize = 640
    ) -> tuple[int, int, int, float] | None:
        """Return (layers, parameters, gradients, GFLOPs at `imgsz`) and log them; None when not `verbose`.

        Layers are modules without children. `detailed` logs a row for each YAML layer first, with its output shape,
        parameters and GFLOPs, and afterwards the fused counts and the estimated peak memory of activations.
        """
        if not verbose:
            return None
        imgsz = self._whole_size(imgsz)
        leaves = sum(not list(m.children()) for m in self.model.modules())  # without those of the loss
        facts = (leaves, get_num_params(self), get_num_gradients(self), get_flops(self, imgsz))
        totals = self.totals(imgsz) if detailed else None
        if totals is not None:
            for line in layer_table(self.layers(imgsz), totals.wide):
                LOGGER.info(line)
        LOGGER.info(summary_line(model_title(self.yaml), self.is_fused(), facts))
        if totals is not None:
            LOGGER.info(totals_line(totals, imgsz))
            for line in wide_lines(totals.wide):
                LOGGER.warning(line)
        return facts

    def _whole_size(self, imgsz: ImageSize) -> ImageSize:
        """The size that this model can run at: of a detector, whose maps are joined, a multiple of the stride."""
        return imgsz if self.task == "classify" else check_imgsz(imgsz, int(self.stride.max()))

    def totals(self, imgsz: ImageSize = 640) -> Totals:
        """Counts of the whole model at an image size, unfused and fused, with the estimated peak memory."""
        return model_totals(self, self._whole_size(imgsz))

    @staticmethod
    def comparison(totals: Sequence[Totals]) -> list[tuple[str, ...]]:
        """Cells of a table: a header, then a row for each model with its differences to the first."""
        return compare_rows(totals)

    def draw(self, path: str | Path, imgsz: ImageSize = 640) -> Path:
        """Draw the layer graph with output shapes to a `.svg`, `.png` or `.pdf` file; return its path."""
        imgsz = self._whole_size(imgsz)
        height, width = (imgsz, imgsz) if isinstance(imgsz, int) else imgsz
        title = f"{model_title(self.yaml)}   {height}\u00d7{width}"
        return draw_graph(self.model, self.layers(imgsz), title, path, height)

    def layers(self, imgsz: ImageSize = 640) -> list[LayerFacts]:
        """Facts of each layer at an image size: from, module, output shape, parameters, GFLOPs."""
        return layer_facts(self, self._whole_size(imgsz))


class DetectionModel(BaseModel):
    """A detection model from a YAML file or mapping.

    `ch` are image channels, `nc` replaces the YAML's class count, `scale` picks a letter of its `scales`.
    Raises ModelYAMLError when the YAML cannot be built.
    """

    def __init__(
        self,
        cfg: str | Path | Mapping[str, Any] = "rtdetr-l.yaml",
        ch: int = 3,
        nc: int | None = None,
        verbose: bool = True,
        scale: str | None = None,
    ) -> None:
        super().__init__()
        spec = load_model_yaml(cfg, scale=scale, nc=nc)
        spec.warn_unused()
        plans = plan_model(spec, ch)
        self._check_last_row(spec, plans[-1])
        self.model, self.save = build_model(spec, ch, plans)
        self.yaml = {**copy.deepcopy(dict(spec.data)), "channels": ch}
        self.nc = spec.nc
        self.names = {i: str(i) for i in range(spec.nc)}
        self.inplace = bool(spec.data.get("inplace", True))
        self.stride = torch.tensor([float(max(feature_stride(plans), 32))], device="cpu")  # read by the host
        self.task = "detect"
        self.args = {}
        self.pt_path: str | None = None
        self.criterion: nn.Module | None = None  # made at the first loss, when `args` are known
        if verbose:
            log_layers(self.model, plans)
            self.info()

    def _check_last_row(self, spec: ModelSpec, last: PlannedLayer) -> None:
        """Demand a detection head at the end."""
        if not last.entry.is_head:
            heads = [name for name in REGISTRY if (entry := REGISTRY.get(name)) is not None and entry.is_head]
            hint = "a classifier is trained by: yolo classify train" if spec.data.get("task") == "classify" else ""
            more = [line for line in (f"heads: {', '.join(heads)}", hint) if line]
            raise spec.error(spec.layers[-1], "the last row must be a head", *more)

    def load(self, weights: str | Path | Mapping[str, Any] | nn.Module, verbose: bool = True) -> TransferReport:
        """Take over every layer that fits, from a file, a checkpoint dict, a state dict or a model; return a report.

        Layers are aligned by type and shapes, so rows may have been put in or taken out. Class rows of the head are
        matched by class name. The batch-norm epsilon comes along with the tensors.
        """
        source = _weights_of(weights)
        if is_official(source.state):  # an SHViT classifier, as a backbone
            source = source._replace(state=from_official(source.state, self.model), eps=source.eps or 1e-5)
        if source.fused and not self.is_fused():
            raise CheckpointError("fused weights fit no unfused model", "load the weights from before fuse()")
        report = transfer(self, source.state, self.names, source.names, self.yaml, source.yaml)
        if report.copied and source.eps:
            set_batch_norm([self], eps=source.eps)
        placeholders = all(n == str(i) for i, n in self.names.items())
        whole = report.copied and not any(is_class(key) for key in report.fresh)
        if placeholders and source.names and whole:
            self.names = dict(source.names)
        if verbose:
            for line in report.lines():
                LOGGER.info(line)
        return report


class RTDETRDetectionModel(DetectionModel):
    """RT-DETR (Zhao et al., CVPR 2024): backbone, hybrid encoder, transformer decoder, and a set-prediction loss."""

    def _call(self, layer: nn.Module, x: Any, batch: Mapping[str, Any] | None) -> Any:
        return layer(x, batch) if layer is self.model[-1] else layer(x)

    def init_criterion(self) -> RTDETRDetectionLoss:
        """Return the loss for this model's classes, as `args.loss` and `args.box_loss` choose it.

        `args.aux_groups` becomes the head's number of further groups of queries.
        """
        args = self.args if isinstance(self.args, Mapping) else vars(self.args)
        cast("RTDETRDecoder", self.model[-1]).aux_groups = int(args.get("aux_groups") or 0)
        loss, box_loss = args.get("loss") or "vfl", args.get("box_loss") or "giou"
        return RTDETRDetectionLoss(nc=self.nc, use_vfl=True, loss=loss, box_loss=box_loss)

    def loss(self, batch: dict[str, Any], preds: Any = None) -> tuple[Tensor, Tensor]:
        """Loss of a batch.

        `batch` holds `img` (B, C, H, W), `cls` (T,) or (T, 1), `bboxes` (T, 4) as cx, cy, w, h in 0..1, `batch_idx`
        (T,). `preds` is what the model gave for it (train or eval form); None: the model is run. Returns the total, and
        detached [GIoU, classification, L1] of the last decoder layer.
        """
        if self.criterion is None:
            self.criterion = self.init_criterion()
        img = batch["img"]
        targets = _targets(batch, len(img), img.device)
        preds = self.predict(img, batch=targets) if preds is None else preds
        boxes, scores, enc_boxes, enc_scores, dn_meta = preds[1] if len(preds) == 2 else preds
        dn_boxes = dn_scores = None
        if dn_meta is not None:
            dn_boxes, boxes = torch.split(boxes, dn_meta["dn_num_split"], dim=2)
            dn_scores, scores = torch.split(scores, dn_meta["dn_num_split"], dim=2)
        boxes = torch.cat([enc_boxes.unsqueeze(0), boxes])  # (1 + layers, B, queries, 4)
        scores = torch.cat([enc_scores.unsqueeze(0), scores])  # (1 + layers, B, queries, nc)
        denoising = {"dn_bboxes": dn_boxes, "dn_scores": dn_scores, "dn_meta": dn_meta}
        group = int(getattr(self.model[-1], "num_queries", 0))
        terms = self.criterion((boxes, scores), targets, **denoising, group=group)
        items = torch.stack([terms[k].detach() for k in ("loss_giou", "loss_class", "loss_bbox")])
        return torch.stack(list(terms.values())).sum(), items


class ClassificationModel(DetectionModel):
    """An image classifier whose last row gives logits (B, nc), such as SHViT (CVPR 2024, arXiv 2401.16456).

    Images are normalised by the caller. Batch norms keep torch's epsilon of 1e-5, which official weights have.
    """

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
        self.task = "classify"

    def _check_last_row(self, spec: ModelSpec, last: PlannedLayer) -> None:
        """Demand logits for the YAML's classes at the end."""
        output = last.output[0] if isinstance(last.output, tuple) else last.output
        if not isinstance(output, Tensor) or output.dim() != 2 or output.shape[1] != spec.nc:
            raise spec.error(spec.layers[-1], f"the last row must give {spec.nc} logits", "such as SHViTHead, [nc]")

    def loss(self, batch: dict[str, Any], preds: Any = None) -> tuple[Tensor, Tensor]:
        """Loss of a batch, see `classification_loss`; `preds` are its logits, None: the model is run."""
        preds = self.predict(batch["img"]) if preds is None else preds
        return classification_loss(preds, batch, self.args if isinstance(self.args, Mapping) else vars(self.args))

    def load(  # type: ignore[override]  # no structure to align: keys match, or the file is an official one
        self, weights: str | Path | Mapping[str, Any] | nn.Module, verbose: bool = True
    ) -> LoadReport:
        """Take over every tensor that fits, from what `DetectionModel.load` takes or an official SHViT file."""
        state, names, eps, *_ = _weights_of(weights)
        official = is_official(state)
        report = load_matching(self, from_official(state, self.model) if official else state)
        if report.matched and (eps or official):
            set_batch_norm([self], eps=eps or 1e-5, momentum=0.1)
        if not (report.missing or report.mismatched) and names:
            self.names = dict(names)
        if verbose:
            for line in report.lines():
                LOGGER.info(line)
        return report


def _targets(batch: Mapping[str, Any], images: int, device: torch.device) -> dict[str, Any]:
    """Targets in the head's form, in the order of their images, with the count of each image."""
    index = batch["batch_idx"].view(-1).long()
    groups = torch.bincount(index, minlength=images).tolist()
    cls, boxes = batch["cls"].view(-1).long(), batch["bboxes"]
    if len(index) > 1 and bool((index[1:] < index[:-1]).any()):
        order = index.argsort(stable=True)
        index, cls, boxes = index[order], cls[order.to(cls.device)], boxes[order.to(boxes.device)]
    return {
        "cls": cls.to(device, non_blocking=True),
        "bboxes": boxes.to(device, non_blocking=True),
        "batch_idx": index.to(device, non_blocking=True),
        "gt_groups": groups,
        "partial": bool(batch.get("partial")),
    }


MODELS: Mapping[str, type[DetectionModel]] = {
    "RTDETRDetectionModel": RTDETRDetectionModel,
    "ClassificationModel": ClassificationModel,
}


class _Weights(NamedTuple):
    """A source of weights: what it holds beside the tensors is empty where it is unknown."""

    state: dict[str, Tensor]
    names: dict[int, str]
    eps: float
    yaml: Mapping[str, Any]
    fused: bool


def _weights_of(weights: str | Path | Mapping[str, Any] | nn.Module) -> _Weights:
    """State dict, class names, batch-norm epsilon and YAML of a source of weights."""
    if isinstance(weights, nn.Module):
        packed = isinstance(weights, BaseModel)
        record: Mapping[str, Any] = pack_model(weights) if packed else {"state_dict": weights.state_dict()}
    else:
        record = adapt(weights) if isinstance(weights, Mapping) else read_checkpoint(weights)
        for key in ("ema", "model"):
            if isinstance(record.get(key), (Mapping, nn.Module)):
                return _weights_of(record[key])
    state = record.get("state_dict", record)
    tensors = {k: v.float() if v.is_floating_point() else v for k, v in state.items() if isinstance(v, Tensor)}
    if not tensors:
        raise CheckpointError(f"no tensors to load; found the keys {', '.join(map(str, list(record)[:8]))}")
    return _Weights(
        state=tensors,
        names=dict(record.get("names") or {}),
        eps=float(record.get("bn_eps") or 0.0),
        yaml=record.get("yaml") or {},
        fused=bool(record.get("fused")),
    )


def unpack_model(record: Mapping[str, Any], device: str | torch.device = "cpu") -> DetectionModel:
    """Build the model of a checkpoint's record and fill it; fp32, in eval mode. Raises CheckpointError."""
    cls = MODELS.get(str(record.get("class")))
    if cls is None:
        raise CheckpointError(
            f"holds a {record.get('class')!r:.60}, which is not built here; known: {', '.join(MODELS)}\n"
            "its tensors can be a source for load() of a model built from a YAML"
        )
    try:
        with ConstructionBudget(record["state_dict"]):
            model = cls(record["yaml"], ch=record.get("ch", 3), nc=record["nc"], verbose=False)
        if record.get("fused"):
            model.fuse(verbose=False)
        model.load_state_dict(record["state_dict"])
    except KeyError as e:
        raise CheckpointError(f"the checkpoint's model record lacks the key {e}") from None
    except ModelYAMLError as e:
        raise CheckpointError(f"the model in the checkpoint cannot be built\n{e}") from None
    except RuntimeError as e:
        detail = str(e).splitlines()[-1].strip()[:200]
        raise CheckpointError(f"the checkpoint's tensors do not fit its own YAML\n{detail}") from None
    if record.get("bn_eps"):
        set_batch_norm([model], eps=record["bn_eps"])
    model.names = {int(k): str(v) for k, v in (record.get("names") or model.names).items()}
    model.args = dict(record.get("args") or {})
    return model.to(device).eval()


def load_checkpoint(path: str | Path, device: str | torch.device = "cpu") -> tuple[DetectionModel, dict[str, Any]]:
    """Read a checkpoint file; return its model (EMA weights preferred; fp32, eval mode) and the whole dict."""
    ckpt = read_checkpoint(path)
    check_user_modules(ckpt.get("modules") or (), path)
    record = ckpt.get("ema") or ckpt.get("model")
    if not isinstance(record, Mapping):
        raise CheckpointError(
            f"{path}: holds weights without a model description\nbuild the model from its YAML and use load()"
        )
    try:
        model = unpack_model(record, device)
    except CheckpointError as e:
        raise CheckpointError("\n".join(f"{path}: {e}".splitlines()[:3])) from None
    model.args = {**plain(ckpt.get("train_args") or {}), **model.args}
    model.pt_path = str(path)
    return model, ckpt


def attempt_load_weights(weights: str | Path, device: str | torch.device = "cpu") -> DetectionModel:
    """The model of a checkpoint file, fp32 in eval mode."""
    return load_checkpoint(weights, device)[0]


def yaml_model_load(path: str | Path) -> dict[str, Any]:
    """A model YAML as a dict, with `nc`, `scale` and `yaml_file` filled in."""
    return dict(load_model_yaml(path).data)


def guess_model_task(model: Any) -> str:
    """The task of a model, YAML mapping or model YAML file: what its key `task` says, else detect."""
    if isinstance(model, (str, Path)) and str(model).endswith((".yaml", ".yml")):
        model = load_model_yaml(model).data
    task = model.get("task") if isinstance(model, Mapping) else getattr(model, "task", None)
    return task if isinstance(task, str) else "detect"
