"""Explanations of detections: gradient-weighted maps, attention of SHSA, sampling points of the decoder.

Arrays only; drawing is in `models/rtdetr/heatmap.py`. Shapes: one image (1, 3, H, W); h x w cells of a map; Q queries,
nc classes, M heads, L levels, P points, S decoder layers. Points and boxes are in 0..1 of the network input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from ultralytics.nn.families import Scored, ScoredPlaces, find_family
from ultralytics.nn.modules.shsa import SHSA
from ultralytics.nn.modules.transformer import MSDeformAttn
from ultralytics.nn.modules.utils import at_least_float32
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.errors import ConfigError

ROWS_AT_ONCE = 512  # attention rows that are held at a time


@dataclass(frozen=True)
class Choice:
    """One detection of the head: `rank` 0 is the best pair of query and class."""

    rank: int
    query: int
    cls: int
    score: float
    box: tuple[float, ...]  # cx, cy, w, h


@dataclass(frozen=True)
class ActivationMap:
    """Gradient-weighted map of one layer, (h, w), not negative; `layer` is its name below `model.model`."""

    layer: str
    map: Tensor


@dataclass(frozen=True)
class AttentionMap:
    """Attention of one SHSA block, (h, w), sums to 1; `cell` (y, x) is the querying cell, None: the mean of all."""

    layer: str
    map: Tensor
    cell: tuple[int, int] | None


@dataclass(frozen=True)
class Sampling:
    """Where the cross-attention of a query samples: `points` (S, M, L, P, 2) as x, y and `weights` (S, M, L, P).

    The weights of one head and decoder layer sum to 1. `references` (S, 4) are the reference boxes around which the
    points lie.
    """

    points: Tensor
    weights: Tensor
    references: Tensor
    shapes: tuple[tuple[int, int], ...]  # (h, w) of each level


def places_of(model: DetectionModel, im: Tensor) -> Scored:
    """Return what a model says of each place of one image, by its family; ConfigError where that is not known."""
    places = find_places(model)
    if places is None:
        head = type(model.model[-1]).__name__
        raise ConfigError(f"heat maps: the family of the head {head} has no `places`", "see Family in nn.families")
    return places(model.model[-1], model(im), (im.shape[2], im.shape[3]))


def find_places(model: DetectionModel) -> ScoredPlaces | None:
    """Return how the family of a model finds the places of its head's output; None where that is not known."""
    family = find_family(model)
    return None if family is None else family.places


def module_at(model: DetectionModel, layer: int | str) -> tuple[str, nn.Module]:
    """Return name and module of a layer: its number in the YAML (negative from the end), or a dotted name below it.

    Raises:
        ConfigError: there is no such layer.
    """
    last = len(model.model) - 1
    text = str(layer)
    if text.lstrip("-").isdigit():
        number = int(text)
        if not -len(model.model) <= number <= last:
            raise ConfigError(f"layer={layer}: there are layers 0 to {last}")
        name = str(number % len(model.model))
    else:
        name = text.removeprefix("model.")
    try:
        if name:  # the empty name is the model as a whole
            return name, model.model.get_submodule(name)
    except AttributeError:
        pass
    raise ConfigError(f"layer={layer}: there is no such module", f"give a number from 0 to {last}")


@torch.no_grad()
def count_above(model: DetectionModel, im: Tensor, conf: float) -> int:
    """Number of detections of an image (1, 3, H, W) with a score above `conf`; a class filter is respected."""
    scores = at_least_float32(places_of(model, im).logits)  # (N, nc)
    wanted = getattr(model.model[-1], "classes", None)
    return int(((scores if wanted is None else scores[:, list(wanted)]).sigmoid() > conf).sum())


def choose(model: DetectionModel, rank: int, scores: Tensor, boxes: Tensor) -> Choice:
    """Return the detection of a rank, from the last decoder layer's logits (Q, nc) and boxes (Q, 4).

    A class filter of the head is respected. Raises ConfigError for a rank that does not exist.
    """
    wanted = getattr(model.model[-1], "classes", None)
    classes = list(range(scores.shape[1])) if wanted is None else list(wanted)
    flat = at_least_float32(scores.detach())[:, classes].flatten()
    if not 0 <= rank < len(flat):
        raise ConfigError(f"query={rank}: detections are numbered 0 (the best) to {len(flat) - 1}")
    index = int(flat.argsort(descending=True, stable=True)[rank])
    query, cls = index // len(classes), classes[index % len(classes)]
    box = tuple(float(v) for v in boxes[query].detach())
    return Choice(rank, query, cls, float(scores[query, cls].detach().float().sigmoid()), box)


@contextmanager
def _hooked(handles: Sequence[Any]) -> Iterator[None]:
    """Remove hooks when the block ends, also after an error."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _detect(model: DetectionModel, im: Tensor, rank: int) -> tuple[Choice, Tensor]:
    """Run the model; return the chosen detection and its logit."""
    if len(im) != 1 or model.training:
        raise ConfigError(f"one image in eval mode is explained at a time, got {len(im)}")
    scores, boxes = places_of(model, im)
    choice = choose(model, rank, scores, boxes)
    return choice, scores[choice.query, choice.cls]


def gradient_maps(
    model: DetectionModel,
    im: Tensor,
    layers: Sequence[int | str] | None = None,
    rank: int = 0,
    elementwise: bool = False,
) -> tuple[list[ActivationMap], Choice]:
    """Return for each layer where it supports the class logit of the chosen detection.

    Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391, section 3): channels weighted by their mean gradient, summed,
    negative parts cut off. With `elementwise` each cell is weighted by its own gradient (HiResCAM, arXiv 2011.08891),
    which does not highlight similar objects elsewhere. Layers must give maps (1, c, h, w); None: the maps that the head
    reads.

    Raises:
        ConfigError: a layer that does not exist or whose output is not a map; a rank that does not exist.
    """
    if layers is None:
        layers = cast("list[int]", model.model[-1].f)
    modules = [module_at(model, layer) for layer in layers]
    outputs: dict[str, Tensor] = {}

    def capture(name: str) -> Callable[[nn.Module, object, object], Tensor]:
        def hook(module: nn.Module, args: object, output: object) -> Tensor:
            if not isinstance(output, Tensor) or output.ndim != 4:
                raise ConfigError(
                    f"layer={name}: {type(module).__name__} does not give a map", "choose a layer before the head"
                )
            if name in outputs:
                raise ConfigError(f"layer={name}: this {type(module).__name__} runs several times", "choose the layer")
            outputs[name] = output.clone()  # a later in-place activation must not change it
            return outputs[name]

        return hook

    with _hooked([module.register_forward_hook(capture(name)) for name, module in modules]), torch.enable_grad():
        choice, logit = _detect(model, im.detach().requires_grad_(), rank)
        grads = torch.autograd.grad(logit, [outputs[name] for name, _ in modules], allow_unused=True)
    maps = []
    for (name, _), grad in zip(modules, grads, strict=True):
        value = outputs[name].detach().float()
        weight = torch.zeros_like(value) if grad is None else grad.float()
        if not elementwise:
            weight = weight.mean((2, 3), keepdim=True)  # (1, c, 1, 1)
        maps.append(ActivationMap(name, (weight * value).sum(1)[0].relu()))
    return maps, choice


def shsa_blocks(model: DetectionModel) -> dict[str, SHSA]:
    """Return all SHSA blocks by their name below `model.model`."""
    return {name: module for name, module in model.model.named_modules() if isinstance(module, SHSA)}


def _shsa_at(model: DetectionModel, layer: int | str | None) -> tuple[str, SHSA]:
    """Return the SHSA block of a layer (the first inside it); None: the first of the model."""
    blocks = shsa_blocks(model)
    if not blocks:
        raise ConfigError("kind=shsa: the model has no SHSA block", "kind=gradcam works for any layer")
    name = next(iter(blocks)) if layer is None else module_at(model, layer)[0]
    inside = [n for n in blocks if n == name or n.startswith(f"{name}.")]
    if not inside:
        raise ConfigError(f"layer={layer}: no SHSA block there", f"there are: {', '.join(blocks)}")
    return inside[0], blocks[inside[0]]


@torch.no_grad()
def shsa_attention(
    model: DetectionModel, im: Tensor, layer: int | str | None = None, place: tuple[float, float] | None = None
) -> AttentionMap:
    """Return how much the cell at `place` (x, y in 0..1 of the input) attends to each cell of the map of SHSA.

    Without a place, the mean over all querying cells. `layer` is the first block by default.
    """
    name, block = _shsa_at(model, layer)
    seen: list[Tensor] = []
    with _hooked([block.register_forward_pre_hook(lambda _, args: seen.append(args[0]))]):
        model(im)
    x = seen[0]
    h, w = x.shape[2:]
    tokens = block.qkv(block.pre_norm(x[:, : block.pdim]))[0].flatten(1).T.float()  # (N, 2K + P)
    q, k = tokens[:, : block.qk_dim] * block.qk_dim**-0.5, tokens[:, block.qk_dim : 2 * block.qk_dim]
    if place is None:
        rows = [(part @ k.T).softmax(-1).sum(0) for part in q.split(ROWS_AT_ONCE)]
        return AttentionMap(name, torch.stack(rows).sum(0).view(h, w) / len(q), None)
    cell = (min(max(int(place[1] * h), 0), h - 1), min(max(int(place[0] * w), 0), w - 1))
    return AttentionMap(name, (q[cell[0] * w + cell[1]] @ k.T).softmax(-1).view(h, w), cell)


@torch.no_grad()
def sampling_points(model: DetectionModel, im: Tensor, rank: int = 0) -> tuple[Sampling, Choice]:
    """Return where the decoder sampled for the chosen detection, in each of its layers that ran.

    Deformable attention (arXiv 2010.04159, section 4.1): every head samples P points on each level and weights them.
    """
    seen: list[tuple[Tensor, Tensor, Tensor, Any]] = []

    def record_samples(module: nn.Module, args: Any) -> None:
        attention, (query, refer, _, shapes, *_) = cast("MSDeformAttn", module), args
        weights = attention.attention_weights(query).unflatten(-1, (attention.n_heads, -1)).softmax(-1)
        points = attention._locations(attention._offsets(query), at_least_float32(refer), shapes)
        seen.append((points[0], weights[0], refer[0, :, 0], shapes))

    crosses = [m for m in model.model[-1].modules() if isinstance(m, MSDeformAttn)]
    if not crosses:
        head = type(model.model[-1]).__name__
        raise ConfigError(f"kind=sampling: a {head} head has no sampling points", "kind=hirescam works for any head")
    with _hooked([m.register_forward_pre_hook(record_samples) for m in crosses]):
        choice, _ = _detect(model, im, rank)
    counts = crosses[0].points
    points = torch.stack([p[choice.query] for p, _, _, _ in seen]).float()  # (S, M, L*P, 2)
    weights = torch.stack([w[choice.query] for _, w, _, _ in seen]).float()  # (S, M, L*P)
    references = torch.stack([r[choice.query] for _, _, r, _ in seen]).float()
    shapes = tuple((int(h), int(w)) for h, w in seen[0][3])
    return Sampling(_by_level(points, counts, 2), _by_level(weights, counts, 2), references, shapes), choice


def _by_level(values: Tensor, counts: Sequence[int], dim: int) -> Tensor:
    """Split an axis of the points of all levels in two, levels and points; levels with fewer points get zeros."""
    parts = [
        torch.cat((part, part.new_zeros(*part.shape[:dim], max(counts) - n, *part.shape[dim + 1 :])), dim)
        for part, n in zip(values.split(list(counts), dim), counts, strict=True)
    ]
    return torch.stack(parts, dim)


def chosen(model: DetectionModel, im: Tensor, rank: int = 0) -> Choice:
    """Return the detection of a rank."""
    with torch.no_grad():
        return _detect(model, im, rank)[0]
