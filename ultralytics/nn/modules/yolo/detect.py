"""The anchor-free detection heads of the YOLO family: Detect and v10Detect, with or without a second, NMS-free branch.

One branch has two towers a level: distances to the four sides of a box, as distributions over R bins (R = 1: plain
numbers), and class logits. Dual heads (YOLOv10, arXiv 2405.14458, section 3.1) have a one-to-one branch beside it,
which is trained to give one row an object. Shapes: B batch, C channels, H x W map, L levels, A anchors (cells of
all levels), R bins, nc classes, K rows.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from ultralytics.nn.modules.conv import Conv, DWConv, fuse_children
from ultralytics.nn.modules.utils import at_least_float32, is_capturing_graph
from ultralytics.nn.registry import Plan, RowContext, register
from ultralytics.utils.log import LOGGER
from ultralytics.utils.losses.yolo import RawBranch
from ultralytics.utils.nms import nms_free_rows
from ultralytics.utils.tal import dist2bbox, make_anchors

LIGHT_MARKS = frozenset({"C3k2", "A2C2f", "C2fCIB"})
"""Blocks whose presence in a YAML selects the light class towers, as upstream's parser does."""

LEAST_ANCHORS = 16
"""Anchors that are decoded where fewer are asked for: columns that six rows of an NMS-free head cannot be taken for."""


class DFL(nn.Module):
    """Expectation of a distribution over bins 0..c1-1 (Distribution Focal Loss, arXiv 2006.04388, section 3.2)."""

    def __init__(self, c1: int = 16) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c1, 1, 1, bias=False)
        self.c1 = c1
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Write the fixed bins, which are never trained."""
        self.conv.weight.copy_(torch.arange(self.c1, dtype=torch.float32).view(1, -1, 1, 1))
        self.conv.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 4R, A) -> distances (B, 4, A) in bins."""
        bins = x.unflatten(1, (4, self.c1)).transpose(1, 2).softmax(1)  # (B, R, 4, A)
        weight = self.conv.weight.to(bins.dtype)
        return nn.functional.conv2d(bins, weight).squeeze(1)


class _Grid(NamedTuple):
    """Anchor points (2, A) in cells and strides (1, A) in pixels, made for these sizes, steps and this place."""

    key: tuple[Any, ...]
    points: Tensor
    strides: Tensor


def _detect_rule(row: RowContext) -> Plan:
    """`[nc, reg_max, end2end]` -> (nc, reg_max, end2end, [c1, ...], legacy); defaults are the YAML's top-level keys."""
    nc, *rest = row.args or (row.nc,)
    reg_max = rest[0] if rest else row.options.get("reg_max") or 16
    end2end = rest[1] if len(rest) > 1 else bool(row.options.get("end2end"))
    return Plan((nc, reg_max, end2end, list(row.in_channels), not LIGHT_MARKS & set(row.above)), 0)


@register(_detect_rule, is_head=True, row="nc, reg_max, end2end")
class Detect(nn.Module):
    """Anchor-free head for any number of levels.

    Args:
        nc: Classes.
        reg_max: Bins of each side's distribution; 1 predicts plain distances.
        end2end: Add a one-to-one branch, which answers without NMS once `end2end` is switched on.
        ch: Channels of each level.
        legacy: Class towers of full 3x3 convolutions (v3 to v9), not of depth-wise and 1x1 ones; None: the class's own
            default, which is false.

    Until `bias_init` and `stride` are set by the network the head gives raw outputs only in cells of its own levels.
    """

    legacy = False

    def __init__(
        self,
        nc: int = 80,
        reg_max: int = 16,
        end2end: bool = False,
        ch: Sequence[int] = (),
        legacy: bool | None = None,
    ) -> None:
        super().__init__()
        self.nc, self.nl, self.reg_max = nc, len(ch), reg_max
        self.no = nc + 4 * reg_max
        self.inplace = True
        self.stride: Tensor
        self.register_buffer("stride", torch.zeros(self.nl), persistent=False)
        self.export, self.format, self.dynamic = False, None, False
        self.max_det, self.agnostic_nms, self.xyxy = 300, False, False
        self._classes: Sequence[int] | None = None
        self._least_score: float | None = None
        self._grid: _Grid | None = None
        legacy = self.legacy if legacy is None else legacy
        c2 = max(16, ch[0] // 4, 4 * reg_max) if ch else 16
        c3 = max(ch[0], min(nc, 100)) if ch else 16
        self.cv2: nn.ModuleList | None = nn.ModuleList(self._box_tower(c, c2) for c in ch)
        tower = self._full_tower if legacy else self._light_tower
        self.cv3: nn.ModuleList | None = nn.ModuleList(tower(c, c3) for c in ch)
        self.dfl = DFL(reg_max) if reg_max > 1 else nn.Identity()
        if end2end:
            self.one2one_cv2: nn.ModuleList | None = copy.deepcopy(self.cv2)
            self.one2one_cv3: nn.ModuleList | None = copy.deepcopy(self.cv3)

    def _box_tower(self, c1: int, hidden: int) -> nn.Sequential:
        return nn.Sequential(Conv(c1, hidden, 3), Conv(hidden, hidden, 3), nn.Conv2d(hidden, 4 * self.reg_max, 1))

    def _full_tower(self, c1: int, hidden: int) -> nn.Sequential:
        return nn.Sequential(Conv(c1, hidden, 3), Conv(hidden, hidden, 3), nn.Conv2d(hidden, self.nc, 1))

    def _light_tower(self, c1: int, hidden: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Sequential(DWConv(c1, c1, 3), Conv(c1, hidden, 1)),
            nn.Sequential(DWConv(hidden, hidden, 3), Conv(hidden, hidden, 1)),
            nn.Conv2d(hidden, self.nc, 1),
        )

    # ------------------------------------------------------------------------------------------------ which branch
    @property
    def is_dual(self) -> bool:
        """Whether a one-to-one branch exists."""
        return getattr(self, "one2one_cv2", None) is not None

    @property
    def end2end(self) -> bool:
        """Whether the head answers with NMS-free rows; a dual head does so only once it is switched on."""
        return self.is_dual and (self.cv2 is None or getattr(self, "_end2end", False))

    @end2end.setter
    def end2end(self, value: bool) -> None:
        if value and not self.is_dual:
            LOGGER.warning(
                "end2end=True has no effect: the head has no one-to-one branch (none was built, or fuse() took it)"
            )
        elif not value and self.cv2 is None:
            LOGGER.warning("end2end=False has no effect: fuse() kept the one-to-one branch only")
        else:
            self._end2end = bool(value)

    @property
    def classes(self) -> Sequence[int] | None:
        """The class indices that NMS-free rows can have, None for all; see `restricted_to`."""
        return self._classes

    @contextmanager
    def restricted_to(self, classes: Sequence[int] | None, one_class: bool = False) -> Iterator[None]:
        """Give NMS-free rows of these classes alone until the block ends; with `one_class` one of an anchor."""
        before = self._classes, self.agnostic_nms
        self._classes, self.agnostic_nms = classes, one_class or self.agnostic_nms
        try:
            yield
        finally:
            self._classes, self.agnostic_nms = before

    @contextmanager
    def selecting(self, max_det: int, agnostic: bool) -> Iterator[None]:
        """Give up to `max_det` NMS-free rows, if that is more, and with `agnostic` one of an anchor, until the end."""
        before = self.max_det, self.agnostic_nms
        self.max_det, self.agnostic_nms = max(max_det, self.max_det), agnostic or self.agnostic_nms
        try:
            yield
        finally:
            self.max_det, self.agnostic_nms = before

    @contextmanager
    def scoring_above(self, conf: float | None) -> Iterator[None]:
        """In evaluation decode only anchors that score above `conf` in an image of the batch, until the block ends.

        The output (B, 4 + nc, K) then holds at least these, in their order, and no raw branch comes with it. None, a
        head that answers with NMS-free rows, and a graph that is captured: all are decoded, as always.
        """
        before, self._least_score = self._least_score, conf
        try:
            yield
        finally:
            self._least_score = before

    def branches(self) -> list[tuple[nn.ModuleList, nn.ModuleList]]:
        """Box and class towers of each branch that exists."""
        pairs = [(self.cv2, self.cv3)]
        if self.is_dual:
            pairs.append((self.one2one_cv2, self.one2one_cv3))
        return [(boxes, scores) for boxes, scores in pairs if boxes is not None and scores is not None]

    # ----------------------------------------------------------------------------------------------------- forward
    def forward(self, x: Sequence[Tensor]) -> Any:
        """Maps [(B, C_l, H_l, W_l), ...], fine to coarse, to predictions.

        Training: the raw branch dict, or {"one2many", "one2one"} of them; the one-to-one branch sends no gradient to
        the maps. Otherwise (y, raw), in export y alone: y is (B, 4 + nc, A) with cx, cy, w, h in input pixels (corners
        with `xyxy`) and scores in 0..1, or with `end2end` rows (B, K, 6).
        """
        x = list(x)
        if self._decodes_few():
            return self._best_anchors(x, cast("float", self._least_score)), {}
        if not self.is_dual:
            raw = self._branch(x, self.cv2, self.cv3)
            if self.training:
                return raw
            y = self._decoded(raw)
            return y if self.export else (y, raw)
        detached = [t.detach() for t in x] if self.training else x
        pair = {
            "one2many": self._branch(x, self.cv2, self.cv3),
            "one2one": self._branch(detached, self.one2one_cv2, self.one2one_cv3),
        }
        if self.training:
            return pair
        y = self.rows(pair["one2one"], self._classes) if self.end2end else self._decoded(pair["one2many"])
        return y if self.export else (y, pair)

    @staticmethod
    def _branch(x: list[Tensor], cv2: nn.ModuleList | None, cv3: nn.ModuleList | None) -> RawBranch:
        """Run the towers of one branch on all levels; an absent branch gives an empty dict."""
        if cv2 is None or cv3 is None:
            return {}
        boxes = torch.cat([tower(t).flatten(2) for tower, t in zip(cv2, x, strict=True)], 2)  # (B, 4R, A)
        scores = torch.cat([tower(t).flatten(2) for tower, t in zip(cv3, x, strict=True)], 2)  # (B, nc, A)
        return {"boxes": boxes, "scores": scores, "feats": x}

    def _decodes_few(self) -> bool:
        """Whether `scoring_above` holds for this call."""
        open_head = not (self.is_dual or self.training or self.export)
        return self._least_score is not None and open_head and not is_capturing_graph()

    def _best_anchors(self, x: list[Tensor], conf: float) -> Tensor:
        """Boxes and scores (B, 4 + nc, K) of the anchors that score above `conf` in any image, and of a few more."""
        assert self.cv2 is not None and self.cv3 is not None
        boxes = torch.cat([_anchor_rows(tower(t)) for tower, t in zip(self.cv2, x, strict=True)], 1)  # (B, A, 4R)
        scores = torch.cat([_anchor_rows(tower(t)) for tower, t in zip(self.cv3, x, strict=True)], 1)  # (B, A, nc)
        best = at_least_float32(scores.amax((0, 2))).sigmoid()  # (A,)
        near = int((best > conf * (1 - 1e-4)).sum())  # rounding may differ: the caller compares again
        index = best.topk(min(max(near, LEAST_ANCHORS), len(best))).indices.sort().values  # (K,)
        few = {"boxes": boxes[:, index].transpose(1, 2), "scores": scores[:, index].transpose(1, 2), "feats": x}
        return self._decoded(few, index)

    def _decoded(self, raw: RawBranch, anchors: Tensor | None = None) -> Tensor:
        """Boxes and scores (B, 4 + nc, A) of a branch; `anchors`: see `decode`."""
        boxes = self.decode(raw, not self.xyxy, anchors)
        return torch.cat((boxes, at_least_float32(raw["scores"]).sigmoid()), 1)

    def decode(self, raw: RawBranch, xywh: bool = True, anchors: Tensor | None = None) -> Tensor:
        """Boxes (B, 4, A) of a branch in input pixels, computed in float32: centre and size, or corners.

        `anchors`: indices (A,) of those that the branch's boxes are of; None: all.
        """
        distances = self.dfl(at_least_float32(raw["boxes"]))
        grid = self._anchors(raw["feats"], distances)
        points, strides = (t if anchors is None else t[:, anchors] for t in (grid.points, grid.strides))
        return dist2bbox(distances, points, xywh=xywh, dim=1) * strides

    def rows(self, raw: RawBranch, classes: Sequence[int] | None = None) -> Tensor:
        """NMS-free rows (B, K, 6) of a branch: x1, y1, x2, y2 in input pixels, score, class, best first.

        `classes` are the only ones that may be picked; None: all.
        """
        boxes = self.decode(raw, xywh=False).transpose(1, 2)  # (B, A, 4)
        scores = at_least_float32(raw["scores"]).sigmoid().transpose(1, 2)  # (B, A, nc)
        return nms_free_rows(boxes, scores, self.max_det, self.agnostic_nms, classes)

    def _anchors(self, feats: Sequence[Tensor], like: Tensor) -> _Grid:
        """Anchor points and strides of maps; kept from call to call, but in a graph that is captured."""
        if is_capturing_graph():
            return self._make_grid((), feats, like)
        key = (tuple(tuple(f.shape[2:]) for f in feats), like.device, like.dtype, self.stride.data_ptr())
        kept = self._grid
        usable = kept is not None and kept.key == key
        if not usable or (kept.points.is_inference() and not torch.is_inference_mode_enabled()):  # type: ignore[union-attr]
            self._grid = kept = self._make_grid(key, feats, like)
        assert kept is not None
        return kept

    def _make_grid(self, key: tuple[Any, ...], feats: Sequence[Tensor], like: Tensor) -> _Grid:
        points, strides = make_anchors([at_least_float32(f) for f in feats], self.stride)
        return _Grid(key, points.t().to(like), strides.t().to(like))

    # ------------------------------------------------------------------------------------------------ construction
    @torch.no_grad()
    def bias_init(self) -> None:
        """Start the last biases: boxes of 2 bins a side, and about 5 objects in a 640 px image. Needs `stride`."""
        for boxes, scores in self.branches():
            for box, score, stride in zip(boxes, scores, self.stride.tolist(), strict=True):
                _last_bias(box).fill_(2.0)
                _last_bias(score)[: self.nc] = math.log(5 / self.nc / (640 / stride) ** 2)

    def match_class_towers(self, state: Mapping[str, Tensor]) -> bool:
        """Rebuild the class towers at the width of another head's state dict, if only that differs; say whether.

        Both heads must have box towers of the same input channels and class towers of the same form.
        """
        own = self.state_dict()
        names = [f"cv3.{level}{tail}" for level in range(self.nl) for tail in self._class_keys]
        inputs = [f"cv2.{level}.0.conv.weight" for level in range(self.nl)]
        same = all(k in own and k in state and own[k].shape[1] == state[k].shape[1] for k in inputs)
        if not same or not all(name in state for name in names):
            return False
        width, present = (s[f"cv3.0{self._class_keys[-1]}"].shape[1] for s in (state, own))
        if width == present:
            return False
        tower = self._full_tower if self._is_legacy else self._light_tower
        device, dtype = own[inputs[0]].device, own[inputs[0]].dtype
        built = nn.ModuleList(tower(own[k].shape[1], width) for k in inputs).to(device, dtype).train(self.training)
        for norm, old in zip(_norms(built), _norms(self), strict=False):
            norm.eps, norm.momentum = old.eps, old.momentum
        self.cv3 = built
        if self.is_dual:
            self.one2one_cv3 = copy.deepcopy(built)
        return True

    @property
    def _is_legacy(self) -> bool:
        """Whether the class towers are of full convolutions."""
        return self.cv3 is not None and isinstance(cast("nn.Sequential", self.cv3[0])[0], Conv)

    @property
    def _class_keys(self) -> tuple[str, str]:
        """Tails of the first and last kernel of a class tower."""
        return (".0.conv.weight" if self._is_legacy else ".0.0.conv.weight"), ".2.weight"

    def reset_parameters(self) -> None:
        """Draw all towers again and restore the fixed bins and start biases."""
        for boxes, scores in self.branches():
            for module in (*boxes.modules(), *scores.modules()):
                if isinstance(module, (nn.Conv2d, nn.BatchNorm2d)):
                    module.reset_parameters()
        if isinstance(self.dfl, DFL):
            self.dfl.reset_parameters()
        if bool((self.stride > 0).all()):
            self.bias_init()

    def fuse(self) -> Detect:
        """Drop the branch that is not switched on, in place, and fold the batch norms of the other; irreversible."""
        if self.end2end:
            self.cv2 = self.cv3 = None
        elif self.is_dual:
            self.one2one_cv2 = self.one2one_cv3 = None
        fuse_children(self)
        return self


def _last_bias(tower: nn.Module) -> Tensor:
    """Bias of the last layer of a tower."""
    return cast("Tensor", cast("nn.Sequential", tower)[-1].bias)


def _anchor_rows(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H * W, C), without a copy of a map that lies channels last."""
    return x.flatten(2).transpose(1, 2)  # (B, H * W, C)


def _norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]


def _v10_rule(row: RowContext) -> Plan:
    """`[nc]` -> (nc, [c1, ...])."""
    return Plan((row.args[0] if row.args else row.nc, list(row.in_channels)), 0)


@register(_v10_rule, is_head=True, row="nc")
class v10Detect(Detect):
    """Dual head of YOLOv10: 16 bins, light class towers."""

    def __init__(self, nc: int = 80, ch: Sequence[int] = ()) -> None:
        super().__init__(nc, 16, True, ch, legacy=False)
