"""Networks with a Detect head (YOLO v3 to 26): strides, loss, test-time augmentation, and taking over weights.

Shapes: B batch, C channels, H x W image, A anchors (cells of all levels), L levels, nc classes, N targets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms

from ultralytics.cfg.keys import Trait
from ultralytics.nn import detection
from ultralytics.nn.build.plans import PlannedLayer
from ultralytics.nn.build.spec import ModelSpec
from ultralytics.nn.families import Family, PostOptions, Scored, register_family
from ultralytics.nn.modules.utils import at_least_float32
from ultralytics.nn.modules.yolo.detect import Detect, v10Detect
from ultralytics.utils.interface.networks import scale_img
from ultralytics.utils.log import LOGGER
from ultralytics.utils.losses.yolo import E2ELoss, class_frequency_weights, v8DetectionLoss
from ultralytics.utils.nms import non_max_suppression
from ultralytics.utils.ops import xywh2xyxy, xyxy2xywh

TTA_SCALES = (1.0, 0.83, 0.67)
TTA_MIRRORED = 1  # the view that is mirrored left to right
PLACES, PLACES_IOU = 300, 0.7  # places of an image that are explained, and their largest overlap
FIRST_KERNEL = "model.0.conv.weight"


class DetectionModel(detection.DetectionModel):
    """A YOLO detector from a YAML file or mapping; parameters as those of its base.

    Its name is the one by which scripts of the interface know such a network; here it is imported as
    `YOLODetectionModel`.

    Predictions are what its head gives (see `Detect.forward`). A dual network answers with its one-to-many branch, for
    NMS, until `end2end` is switched on.
    """

    checkpoint_name = "YOLODetectionModel"
    partial_layers = True
    frozen_parts = (".dfl.",)

    class_weights: Tensor | None = None
    """Factors (nc,) of the class term of the loss; None: all 1."""

    def __init__(
        self,
        cfg: str | Path | Mapping[str, Any] = "yolo26n.yaml",
        ch: int = 3,
        nc: int | None = None,
        verbose: bool = True,
        scale: str | None = None,
    ) -> None:
        super().__init__(cfg, ch, nc, verbose, scale)
        head = self.head
        head.stride = torch.tensor(self._level_strides, device="cpu")
        self.stride = head.stride.clone()  # stays on the CPU: read by the host
        head.bias_init()

    def check_last_row(self, spec: ModelSpec, last: PlannedLayer) -> None:
        """Demand a Detect head; note the strides of its levels, from the heights that the probe image gave."""
        super().check_last_row(spec, last)
        if not issubclass(last.entry.cls, Detect):
            raise spec.error(spec.layers[-1], "the last row must be a Detect head", "Detect, [nc] or v10Detect, [nc]")
        raw = cast("tuple[Tensor, dict[str, Any]]", last.output)[1]
        feats = (raw["one2many"] if "one2many" in raw else raw)["feats"]
        self._level_strides = [last.probe / f.shape[2] for f in feats]

    @property
    def head(self) -> Detect:
        """The last layer."""
        return cast("Detect", self.model[-1])

    @property
    def end2end(self) -> bool:
        """Whether the network answers with NMS-free rows; settable where its head has a one-to-one branch."""
        return self.head.end2end

    @end2end.setter
    def end2end(self, value: bool) -> None:
        self.head.end2end = value

    def forward(self, x: Tensor | dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Predict for an image tensor (B, C, H, W); for a batch dict the sum of the loss and its detached parts (3,).

        `loss` gives the same in the form of the upstream interface.
        """
        if not isinstance(x, dict):
            return self.predict(x, *args, **kwargs)
        terms, items = self.loss(x, *args, **kwargs)
        return terms.sum(), torch.stack(list(items.values()))

    # ------------------------------------------------------------------------------------------------------ predict
    def predict(
        self,
        x: Tensor,
        profile: bool = False,
        batch: Mapping[str, Any] | bool | None = None,
        augment: bool = False,
        embed: Sequence[int] | None = None,
    ) -> Any:
        """Run the network on an image batch (B, C, H, W); with `augment` on several views, as `augmented` does.

        Views of a dual network that answers without NMS cannot be put together: a warning says so, one pass is run.
        A switch in the place of `batch` is `augment`.
        """
        if isinstance(batch, bool):
            augment, batch = augment or batch, None
        if not augment:
            return super().predict(x, profile, batch, embed=embed)
        if self.end2end:
            LOGGER.warning("augment=True has no effect with NMS-free rows; switch end2end off for it")
            return super().predict(x, profile, batch, embed=embed)
        return self.augmented(x), None

    def augmented(self, x: Tensor) -> Tensor:
        """Anchors (B, 4 + nc, A) of three views, smaller ones and a mirrored one among them, in pixels of `x`.

        The coarsest level of the full view and the finest of the smallest are left out: they see such objects badly.
        """
        width, step = x.shape[3], int(self.stride.max())
        views = []
        for i, scale in enumerate(TTA_SCALES):
            image = x.flip(3) if i == TTA_MIRRORED else x
            y = super().predict(scale_img(image, scale, gs=step))
            y = y if isinstance(y, Tensor) else y[0]
            box, scores = y[:, :4] / scale, y[:, 4:]
            if i == TTA_MIRRORED:
                box = torch.cat((width - box[:, :1], box[:, 1:]), 1)
            views.append(torch.cat((box, scores), 1))
        levels = self.head.nl
        cells = sum(4**i for i in range(levels))
        coarse = views[0].shape[2] // cells
        fine = views[-1].shape[2] // cells * 4 ** (levels - 1)
        views[0], views[-1] = views[0][..., :-coarse] if coarse else views[0], views[-1][..., fine:]
        return torch.cat(views, 2)

    # --------------------------------------------------------------------------------------------------------- loss
    def init_criterion(self) -> v8DetectionLoss | E2ELoss:  # type: ignore[override]
        """Return the loss for this head and the present `args`."""
        return E2ELoss(self) if self.head.is_dual else v8DetectionLoss(self)

    @property
    def loss_names(self) -> tuple[str, str, str]:
        """Names of the three terms."""
        return "box_loss", "cls_loss", "dfl_loss" if self.head.reg_max > 1 else "l1_loss"

    def weigh_classes(self, counts: Tensor, power: float) -> None:
        """Weigh the class term by (1 / count) ** `power`, from the number of boxes of each class (nc,); 0: not at all.

        Acts on the loss that is made next.
        """
        self.class_weights = class_frequency_weights(counts, power) if power else None

    def loss(  # type: ignore[override]
        self, batch: dict[str, Any], preds: Any = None, *, partial: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the three terms (3,) of a batch times its size, and them detached by name, not multiplied.

        `batch` holds `img` (B, C, H, W), `batch_idx` (N,), `cls` (N,) or (N, 1) and `bboxes` (N, 4) as cx, cy, w, h in
        0..1, in any order. `preds` is what the model gave for it (train or eval form); None: the model is run.
        """
        preds = self.predict(batch["img"]) if preds is None else preds
        terms, items = self.ensure_criterion()(preds, batch)
        return terms, items

    # ----------------------------------------------------------------------------------------------------- transfer
    def prepare_for(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Fit this network and a source's state dict to each other before layers are taken over.

        Class towers, whose width depends on the class count, are rebuilt at the source's width, so that all but their
        last layers can be taken. Filters of the first convolution are summed for one input channel, else as many as
        both have are taken.
        """
        last = len(self.model) - 1
        if not self.is_fused() and self.head.match_class_towers({**_below(state, f"model.{last}.")}):
            self.head.bias_init()
        own = self.state_dict().get(FIRST_KERNEL)
        kernel = state.get(FIRST_KERNEL)
        if own is None or kernel is None or own.dim() != 4 or kernel.dim() != 4:
            return state
        fits = own.shape[0] == kernel.shape[0] and own.shape[2:] == kernel.shape[2:]
        if not fits or own.shape[1] == kernel.shape[1]:
            return state
        return {**state, FIRST_KERNEL: _fit_filters(own, kernel)}


YOLODetectionModel = DetectionModel


def choose_branch(network: nn.Module, nms: bool | None) -> None:
    """Let a dual network answer with the branch for NMS (true) or with NMS-free rows (false); None leaves it."""
    if nms is not None and isinstance(network, YOLODetectionModel):
        network.end2end = not nms


@contextmanager
def head_options(model: object, max_det: int, agnostic: bool, conf: float | None = None) -> Iterator[None]:
    """Give an NMS-free head its bound on rows and whether an anchor gives one class alone, until the block ends.

    `model` is a network or what runs one. The bound is never lowered: rows are cut after the class filter. With `conf`
    a head for NMS decodes what scores above it; not one with hooks, which shall see all, nor one of a user's class.
    """
    network = getattr(model, "model", model)
    with ExitStack() as options:
        for module in _heads(network if isinstance(network, nn.Module) else model):
            if isinstance(module, Detect):
                options.enter_context(module.selecting(max_det, agnostic))
                if type(module) in {Detect, v10Detect} and not module._forward_hooks:
                    options.enter_context(module.scoring_above(conf))
        yield


def _heads(model: object) -> Iterable[nn.Module]:
    """The head of a network of this family; else every module of what runs a network, as far as it has any."""
    if isinstance(model, YOLODetectionModel):
        return [model.head]
    return model.modules() if isinstance(model, nn.Module) else ()


def _below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _fit_filters(own: Tensor, kernel: Tensor) -> Tensor:
    """A kernel (O, I, k, k) of a source for another count of input channels; what it lacks stays as it was."""
    if own.shape[1] == 1:
        return kernel.sum(1, keepdim=True)
    shared = min(own.shape[1], kernel.shape[1])
    fitted = own.clone()
    fitted[:, :shared] = kernel[:, :shared].to(own)
    return fitted


def detect_rows(output: Any, size: tuple[int, int], options: PostOptions) -> list[Tensor]:
    """Turn the output of a Detect head in evaluation or export into rows (N, 6) of each image, best score first.

    A row is cx, cy, w, h in 0..1 of the network input of `size` (height, width), score, class. Anchors pass NMS, each
    under its best class of those that are wanted; rows of an NMS-free head are only filtered.
    """
    y, raw = output if isinstance(output, (tuple, list)) else (output, {})
    one = raw.get("one2one") if isinstance(raw, Mapping) else None
    end2end = one is not None and bool(one) and y.shape[-1] == 6 and y.shape[1] != 4 + one["scores"].shape[1]
    classes = options.classes
    if classes is not None and not end2end and y.shape[-1] != 6:
        wanted = torch.zeros(y.shape[1] - 4, dtype=torch.bool)
        wanted[list(classes)] = True
        y, classes = torch.cat((y[:, :4], y[:, 4:] * wanted.to(y.device)[:, None]), 1), None
    conf, max_det, _, iou, agnostic, multi_label = options
    found = non_max_suppression(y, conf, iou, classes, agnostic, multi_label, max_det=max_det, end2end=end2end)
    height, width = size
    scale = y.new_tensor([width, height, width, height])
    return [torch.cat((xyxy2xywh(rows[:, :4]) / scale, rows[:, 4:6]), 1) for rows in cast("list[Tensor]", found)]


def kept_places(head: nn.Module, output: Sequence[object], size: tuple[int, int]) -> Scored:
    """Return the anchors of one image that remain after suppression, best first; of an NMS-free branch all of them."""
    head, raw = cast("Detect", head), cast("dict[str, Any]", output[1])
    branch = raw if "scores" in raw else raw["one2one" if head.end2end else "one2many"]
    boxes = head.decode(branch)[0].t()  # (A, 4)
    logits = branch["scores"][0].t()  # (A, nc)
    if not head.end2end:
        best, label = at_least_float32(logits.detach()).max(1)
        kept = batched_nms(xywh2xyxy(boxes.detach()), best, label, PLACES_IOU)[:PLACES]
        boxes, logits = boxes[kept], logits[kept]
    height, width = size
    return Scored(logits, boxes / boxes.new_tensor([width, height, width, height]))


YOLO_FAMILY = register_family(
    Family(
        name="yolo",
        head=Detect,
        network=YOLODetectionModel,
        loss_names=("box_loss", "cls_loss", "dfl_loss"),
        postprocess=detect_rows,
        places=kept_places,
        geometry="letterbox",
        package="ultralytics.models.yolo.detect",
        defaults={"clip_norm": 10.0},
        arguments=Trait.SUPPRESSION | Trait.GAIN | Trait.SHAPE,
    )
)
