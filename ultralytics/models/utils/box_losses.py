"""Box regression losses by name: the IoU family, its inner, focaler and wise forms, and two distances of Gaussians.

Shapes: pairs of boxes (..., 4) as cx, cy, w, h give losses (...). Symbols of the formulas: A area of the enclosing box,
whose sides are `hull_w` and `hull_h`; rho distance of the centres; eps = 1e-7. Half precision is computed in float32.

Sources: giou 1902.09630; diou, ciou 1911.08287; eiou 2101.08158; siou 2205.12740; shapeiou 2312.17663; piou, piou2
Powerful-IoU (Neural Networks 2024); mpdiou 2307.07662; wiou 2301.10051; inner 2311.02877; focaler 2401.10525; nwd
2110.13389; gcd GRSL 2025 (Gaussian combined distance).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import torch
from torch import Tensor

from ultralytics.cfg.box_loss_names import parse_box_loss
from ultralytics.models.utils.ops import iou_and_giou
from ultralytics.utils.errors import ConfigError, UnknownArgumentError
from ultralytics.utils.ops import constant_like

__all__ = ("BoxLossOptions", "box_loss", "updated_iou_mean")

EPS = 1e-7
TINY = 1e-12  # bound below for areas that a formula divides by without an epsilon of its own
TINY_SQUARE = 1e-16  # bound below for squared ratios under a root, whose gradient at 0 is infinite


@dataclass(frozen=True)
class BoxLossOptions:
    """Numbers of the losses; each is read by the losses that its comment names.

    Raises:
        ConfigError: a number outside its bounds.
    """

    ratio: float = 0.7  # inner: scale of the boxes about their centres
    d: float = 0.0  # focaler: IoU that counts as 0
    u: float = 0.95  # focaler: IoU that counts as 1
    scale: float = 0.0  # shapeiou: exponent of the target's sides
    mpdiou_hw: float = 2.0  # mpdiou: squared diagonal of the image, 2 for normalised boxes
    constant: float = 12.8  # nwd: distance at which the loss is 1 - 1/e, in the unit of the boxes
    nwd_weight: float = 0.0  # any: part of the loss that nwd replaces
    iou_mean: float | Tensor = 1.0  # wiou2, wiou3: running mean of 1 - IoU
    training: bool = False  # wiou2, wiou3: move the mean by this batch first

    def __post_init__(self) -> None:
        bounds = {
            "ratio": self.ratio > 0,
            "u": self.u > self.d,
            "mpdiou_hw": self.mpdiou_hw > 0,
            "constant": self.constant > 0,
            "nwd_weight": 0 <= self.nwd_weight <= 1,
        }
        texts = {"u": f"above d={self.d}", "nwd_weight": "in 0..1"}
        for name, fits in bounds.items():
            if not fits:
                raise ConfigError(f"box_loss: {name}={getattr(self, name)} must be {texts.get(name, 'above 0')}")


@dataclass(frozen=True)
class _Pair:
    """Geometry of the pairs; `a` is the prediction and `b` the target, each four planes cx, cy, w, h."""

    a: Tensor
    b: Tensor
    options: BoxLossOptions
    inner: bool
    focaler: bool

    @cached_property
    def plain_iou(self) -> Tensor:
        """Intersection over union of the boxes as they are."""
        return iou_and_giou(self.a, self.b, EPS)[0]

    @cached_property
    def iou(self) -> Tensor:
        """The IoU that the loss is made of: of the shrunk boxes with `inner`, stretched with `focaler`."""
        return self.adapt(self.plain_iou, EPS)

    def adapt(self, iou: Tensor, eps: float) -> Tensor:
        """Apply the prefixes to an IoU."""
        if self.inner:
            size = constant_like((1.0, 1.0, self.options.ratio, self.options.ratio), self.a)
            size = size.reshape(4, *[1] * (self.a.dim() - 1))  # (4, 1, ...)
            iou = iou_and_giou(self.a * size, self.b * size, eps)[0]
        if self.focaler:
            iou = ((iou - self.options.d) / (self.options.u - self.options.d)).clamp(0, 1)
        return iou

    @cached_property
    def edges(self) -> tuple[Tensor, ...]:
        """Differences target - prediction of left, top, right and bottom edges."""
        return tuple(
            (self.b[i] + sign * self.b[i + 2] / 2) - (self.a[i] + sign * self.a[i + 2] / 2)
            for sign in (-1, 1)
            for i in (0, 1)
        )

    @cached_property
    def hull(self) -> tuple[Tensor, Tensor]:
        """Width and height of the enclosing box."""
        sides = []
        for i in (0, 1):
            a, b, half_a, half_b = self.a[i], self.b[i], self.a[i + 2] / 2, self.b[i + 2] / 2
            sides.append(torch.maximum(a + half_a, b + half_b) - torch.minimum(a - half_a, b - half_b))
        return sides[0], sides[1]

    @cached_property
    def centres(self) -> tuple[Tensor, Tensor]:
        """Differences of the centres, target - prediction."""
        return self.b[0] - self.a[0], self.b[1] - self.a[1]

    @cached_property
    def distance(self) -> Tensor:
        """Squared distance of the centres over the squared diagonal of the enclosing box."""
        return _squares(*self.centres) / (_squares(*self.hull) + EPS)

    @cached_property
    def size_gaps(self) -> tuple[Tensor, Tensor]:
        """Absolute differences of the widths and of the heights over the larger one."""
        gaps = [(self.a[i] - self.b[i]).abs() / torch.maximum(self.a[i], self.b[i]).clamp(min=EPS) for i in (2, 3)]
        return gaps[0], gaps[1]


def _squares(x: Tensor, y: Tensor) -> Tensor:
    return x**2 + y**2


def _giou(p: _Pair) -> Tensor:
    iou, giou = iou_and_giou(p.a, p.b, EPS)
    return 1 - giou if not (p.inner or p.focaler) else 1 - p.iou + (iou - giou)


def _diou(p: _Pair) -> Tensor:
    return 1 - p.iou + p.distance


def _ciou(p: _Pair) -> Tensor:
    angles = [torch.atan(box[2] / box[3].clamp(min=EPS)) for box in (p.b, p.a)]
    v = (4 / math.pi**2) * (angles[0] - angles[1]) ** 2
    overlap = p.iou if p.focaler else p.plain_iou
    alpha = (v / (v - overlap + (1 + EPS))).detach()
    return 1 - p.iou + p.distance + alpha * v


def _eiou(p: _Pair) -> Tensor:
    sides = [(p.b[i] - p.a[i]) ** 2 / (p.hull[i - 2] ** 2 + EPS) for i in (2, 3)]
    return 1 - p.iou + p.distance + sides[0] + sides[1]


def _siou(p: _Pair) -> Tensor:
    shift = [gap + EPS for gap in p.centres]
    # sin(2 * angle) of the line between the centres: the same for both axes as the nearer one
    angle = 2 * (shift[0] * shift[1]).abs() / _squares(*shift).clamp(min=TINY_SQUARE)
    ratio = [s / side.clamp(min=EPS) for s, side in zip(shift, p.hull, strict=True)]
    cost = 2 - sum(torch.exp((angle - 2) * r**2) for r in ratio)
    shape = sum((1 - torch.exp(-gap)) ** 4 for gap in p.size_gaps)
    return 1 - p.iou + 0.5 * (cost + shape) - EPS


def _shapeiou(p: _Pair) -> Tensor:
    w, h = p.b[2] ** p.options.scale, p.b[3] ** p.options.scale
    total = (w + h).clamp(min=EPS)
    weight_w, weight_h = 2 * w / total, 2 * h / total
    dx, dy = p.centres
    distance = (weight_h * dx**2 + weight_w * dy**2) / (_squares(*p.hull) + EPS)
    gap_w, gap_h = weight_h * p.size_gaps[0], weight_w * p.size_gaps[1]
    shape = (1 - torch.exp(-gap_w)) ** 4 + (1 - torch.exp(-gap_h)) ** 4
    return 1 - p.iou + distance + 0.5 * shape


def _edge_penalty(p: _Pair) -> Tensor:
    """Mean distance of the edges in units of the target's sides, halved: P of Powerful-IoU."""
    left, top, right, bottom = (edge.abs() for edge in p.edges)
    w, h = p.b[2].clamp(min=EPS), p.b[3].clamp(min=EPS)
    return (left + right) / w / 4 + (top + bottom) / h / 4


def _piou(p: _Pair) -> Tensor:
    return 2 - p.iou - torch.exp(-(_edge_penalty(p) ** 2))


def _piou2(p: _Pair) -> Tensor:
    x = 1.3 * torch.exp(-_edge_penalty(p))
    return 3 * x * torch.exp(-(x**2)) * _piou(p)


def _mpdiou(p: _Pair) -> Tensor:
    left, top, right, bottom = p.edges
    return 1 - p.iou + (_squares(left, top) + _squares(right, bottom)) / p.options.mpdiou_hw


def _wiou1(p: _Pair) -> Tensor:
    diagonal = _squares(*p.hull).detach().clamp(min=TINY)
    overlap = p.adapt(iou_and_giou(p.a, p.b, TINY)[0], TINY)
    return torch.exp(_squares(*p.centres) / diagonal) * (1 - overlap)


def _outlier_degree(p: _Pair) -> Tensor:
    """Return 1 - IoU in units of its running mean, without gradient."""
    mean = p.options.iou_mean
    if p.options.training:
        mean = updated_iou_mean(mean, p.plain_iou)
    mean = mean.clamp(min=EPS) if isinstance(mean, Tensor) else max(mean, EPS)
    return (1 - p.plain_iou).detach() / mean


def _wiou2(p: _Pair) -> Tensor:
    return _wiou1(p) * _outlier_degree(p).clamp(min=0).sqrt()


def _wiou3(p: _Pair) -> Tensor:
    beta = _outlier_degree(p)
    return _wiou1(p) * beta / (2.7 * 1.7 ** (beta - 2.7))


def _nwd(p: _Pair) -> Tensor:
    squared = _squares(*p.centres) + EPS + _squares(p.b[2] - p.a[2], p.b[3] - p.a[3]) / 4
    return 1 - torch.exp(-squared.sqrt() / p.options.constant)


def _gcd(p: _Pair) -> Tensor:
    squared = p.a.new_zeros(())
    for own, other in ((p.a, p.b), (p.b, p.a)):
        for i in (0, 1):
            squared = squared + ((p.b[i] - p.a[i]) / (own[i + 2] + EPS)) ** 2
            squared = squared + ((p.b[i + 2] - p.a[i + 2]) / (other[i + 2] + EPS)) ** 2 / 4
    return 1 - torch.exp(-(squared / 2).clamp(min=TINY_SQUARE).sqrt())


LOSSES: Mapping[str, Callable[[_Pair], Tensor]] = MappingProxyType(
    {
        "giou": _giou,
        "diou": _diou,
        "ciou": _ciou,
        "eiou": _eiou,
        "siou": _siou,
        "shapeiou": _shapeiou,
        "piou": _piou,
        "piou2": _piou2,
        "mpdiou": _mpdiou,
        "wiou": _wiou3,
        "wiou1": _wiou1,
        "wiou2": _wiou2,
        "wiou3": _wiou3,
        "nwd": _nwd,
        "gcd": _gcd,
    }
)


def box_loss(name: str, pred: Tensor, target: Tensor, **options: float | Tensor | bool) -> Tensor:
    """Return the loss of each pair of boxes, 0 for equal boxes up to 1e-4; gradients are finite for any finite boxes.

    Args:
        name: A name of `LOSSES`, with the prefixes `inner-` and `focaler-` where the loss is made of an IoU;
            underscores count as hyphens. With `inner-` the IoU is that of the boxes shrunk about their centres, the
            penalties stay those of the full boxes; with `focaler-` it is stretched from d..u to 0..1. `wiou` is
            `wiou3`.
        pred: Boxes (..., 4), cx cy w h.
        target: Boxes of the same shape and unit.
        **options: Fields of `BoxLossOptions`.

    Returns:
        Losses (...), at least float32.

    Raises:
        ConfigError: an unknown name, a prefix that the loss cannot have, an option outside its bounds.
        UnknownArgumentError: an unknown option.

    >>> boxes = torch.tensor([[0.5, 0.5, 0.2, 0.2]]), torch.tensor([[0.5, 0.5, 0.2, 0.4]])
    >>> round(box_loss("inner-giou", *boxes, ratio=1.0).item(), 4)
    0.5
    """
    base, inner, focaler = parse_box_loss(name)
    chosen = _options(options)
    dtype = torch.promote_types(torch.promote_types(pred.dtype, target.dtype), torch.float32)
    pair = _Pair(_planes(pred, dtype), _planes(target, dtype), chosen, inner, focaler)
    kind = "cpu" if pred.is_meta else pred.device.type
    with torch.autocast(kind, enabled=False):
        loss = LOSSES[base](pair)
        if chosen.nwd_weight:
            loss = torch.lerp(loss, _nwd(pair), chosen.nwd_weight)
    return loss


def _planes(boxes: Tensor, dtype: torch.dtype) -> Tensor:
    """Return boxes (..., 4) as planes (4, ...) of a dtype; the gradient stays in the range of float16 boxes."""
    planes = boxes.movedim(-1, 0).to(dtype)
    if boxes.dtype is torch.float16 and planes.requires_grad:
        bound = torch.finfo(torch.float16).max
        planes.register_hook(lambda grad: None if grad is None else grad.clamp(-bound, bound))
    return planes


def _options(given: Mapping[str, float | Tensor | bool]) -> BoxLossOptions:
    """Build the options; an unknown name is an error that lists the known ones."""
    known = list(BoxLossOptions.__dataclass_fields__)
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise UnknownArgumentError(f"box_loss has no option {', '.join(unknown)}; choose from {', '.join(known)}")
    return BoxLossOptions(**given)  # type: ignore[arg-type]


@torch.no_grad()
def updated_iou_mean(mean: float | Tensor, iou: Tensor, momentum: float = 0.01) -> float | Tensor:
    """Return the running mean of 1 - IoU after a batch; no pairs leave it as it is.

    Args:
        mean: The mean before, 1 at the start.
        iou: IoU of the pairs, any shape.
        momentum: Weight of the batch.
    """
    if not iou.numel():
        return mean
    return (1 - momentum) * mean + momentum * (1 - iou).mean()
