"""Heat maps that explain detections; their arrays come from `explain.py`.

    for result in RTDETR("best.pt").heatmap("photo.jpg", kind="hirescam", query=0):
        result.values                     # (H, W), 0..1, over the original image
        result.save("out/photo")          # out/photo.png and out/photo.npz

Coordinates are pixels of the original image.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt
import torch

from ultralytics.cfg.resolution import refuse_views
from ultralytics.engine.model import Model
from ultralytics.models.rtdetr.explain import (
    Choice,
    chosen,
    count_above,
    gradient_maps,
    sampling_points,
    shsa_attention,
)
from ultralytics.models.rtdetr.heatmap_plot import (
    overlay,
    shown_range,
    stretched,
    with_colour_bar,
    with_legend,
    with_title,
)
from ultralytics.models.rtdetr.post import class_filter, placed_geometry
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import LOGGER, colorstr
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.files import atomic_write
from ultralytics.utils.ops import RatioPad
from ultralytics.utils.plotting.annotator import Annotator, Color, colors, encoded_png, write_image
from ultralytics.utils.torch_tools.arrays import Pixels

Layers = int | str | Sequence[int | str] | None
"""A layer, several of them, or None for the default."""
_Array = npt.NDArray[np.float32]
KINDS = ("hirescam", "gradcam", "shsa", "sampling")
MIN_PLOT_SIDE = 640  # smaller images are enlarged to about this, so that marks do not overlap
MARK = (255, 255, 255)


@dataclass
class Heatmap:
    """Heat map of one image: `values` (H, W) in 0..1 (empty for sampling), `arrays` for other programs, and marks.

    `box` is xyxy, `pixel` x, y. For sampling `points` (n, 2), `weights` (n,) and `levels` (n,) of one decoder layer.
    `peak` is what the value 1 stands for in `unit`. `labels` False leaves title and legend out of the picture.
    """

    kind: str
    path: str
    image: Pixels
    title: str
    values: _Array
    arrays: dict[str, npt.NDArray[Any]]
    box: _Array | None = None
    pixel: tuple[float, float] | None = None
    points: _Array = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    weights: _Array = field(default_factory=lambda: np.zeros(0, np.float32))
    levels: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    level_names: tuple[str, ...] = ()
    peak: float = 1.0
    unit: str = "of maximum"
    labels: bool = True

    def __repr__(self) -> str:
        height, width = self.image.shape[:2]
        return f"Heatmap({self.title.replace(chr(10), ', ')}; {Path(self.path).name}, {width}x{height} px)"

    def _repr_png_(self) -> bytes:
        """The picture, which a notebook shows."""
        return encoded_png(self.plot())

    def plot(self) -> Pixels:
        """Return the image with the map laid over it and the marks drawn, BGR; small images are enlarged.

        Title, colour bar and legend stand beside the image, not on it. The last colour stands for the largest value,
        the first one for 0, of attention for the smallest value.
        """
        scale = max(1, -(-MIN_PLOT_SIDE // max(self.image.shape[:2])))
        size = (self.image.shape[1] * scale, self.image.shape[0] * scale)
        canvas = np.asarray(cv2.resize(self.image, size, interpolation=cv2.INTER_LINEAR), np.uint8)
        shown = shown_range(self.values, from_zero=self.kind != "shsa")
        if self.values.size:
            canvas = overlay(canvas, stretched(np.asarray(cv2.resize(self.values, size), np.float32), shown))
        annotator = Annotator(canvas)
        if self.box is not None:
            annotator.rectangle(self.box * scale, outline=MARK, width=annotator.lw)
        self._draw_points(annotator, scale)
        if self.pixel is not None:
            x, y = (round(v * scale) for v in self.pixel)
            cv2.drawMarker(annotator.im, (x, y), (0, 0, 0), cv2.MARKER_CROSS, 12 * annotator.lw, annotator.lw + 2)
            cv2.drawMarker(annotator.im, (x, y), MARK, cv2.MARKER_CROSS, 12 * annotator.lw, annotator.lw)
        picture: Pixels = annotator.result()
        if self.labels and self.level_names:
            picture = with_legend(picture, self._legend())
        if self.values.size:
            low, high = (f"{value * self.peak:.3g}" for value in shown)
            picture = with_colour_bar(picture, low, high, self.unit)
        return with_title(picture, self.title) if self.labels else picture

    def _draw_points(self, annotator: Annotator, scale: int) -> None:
        """Draw sampling points: area by weight, colour by level, heavy ones last."""
        if not len(self.points):
            return
        largest = 5 * annotator.lw
        for i in np.argsort(self.weights):
            x, y = (round(float(v) * scale) for v in self.points[i])
            radius = max(2, round(largest * float(np.sqrt(self.weights[i] / self.weights.max()))))
            cv2.circle(annotator.im, (x, y), radius, colors(int(self.levels[i]), bgr=True), cv2.FILLED, cv2.LINE_AA)
            cv2.circle(annotator.im, (x, y), radius, MARK, 1, cv2.LINE_AA)

    def _legend(self) -> list[tuple[str, Color]]:
        """How much of the weight each level has, in its colour."""
        fractions = [self.weights[self.levels == n].sum() / self.weights.sum() for n in range(len(self.level_names))]
        return [
            (f"{name}: {fraction:.0%}", colors(n, bgr=True))
            for n, (name, fraction) in enumerate(zip(self.level_names, fractions, strict=True))
        ]

    def save(self, stem: str | Path) -> tuple[Path, Path]:
        """Write `<stem>.png` and `<stem>.npz`; return both paths."""
        picture, arrays = Path(f"{stem}.png"), Path(f"{stem}.npz")
        write_image(picture, self.plot())
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **self.arrays)  # type: ignore[arg-type]
        with atomic_write(arrays, "wb") as f:
            f.write(buffer.getvalue())
        return picture, arrays


def over_original(cells: torch.Tensor, network: Sequence[int], shape: Sequence[int], geometry: RatioPad) -> _Array:
    """Resize a map (h, w) of the network input to the original image (H, W), largest value 1."""
    values = cells.detach().cpu().float().numpy()
    full = cv2.resize(values, (network[1], network[0]), interpolation=cv2.INTER_LINEAR)
    (gain_h, gain_w), (left, top) = geometry
    inside = full[int(top) : int(top) + round(shape[0] * gain_h), int(left) : int(left) + round(shape[1] * gain_w)]
    placed = np.asarray(cv2.resize(inside, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR), np.float32)
    return placed / placed.max() if placed.max() > 0 else placed


class _Explainer:
    """One image as network input, and the map back to its pixels."""

    def __init__(self, model: DetectionModel, im: torch.Tensor, image: Pixels, path: str, letterbox: bool) -> None:
        self.model, self.im, self.image, self.path = model, im, image, path
        self.network, self.shape = tuple(im.shape[2:]), image.shape[:2]
        self.geometry = placed_geometry(self.shape, self.network, letterbox)

    def to_pixels(self, points: npt.NDArray[Any]) -> _Array:
        """Map points (..., 2), x, y in 0..1 of the network input, to pixels of the original; they may lie outside."""
        (gain_h, gain_w), (left, top) = self.geometry
        size = np.array([self.network[1], self.network[0]])
        return ((points * size - [left, top]) / [gain_w, gain_h]).astype(np.float32)

    def to_network(self, pixel: Sequence[float]) -> tuple[float, float]:
        """Map a pixel x, y of the original to 0..1 of the network input, the middle of the pixel."""
        if not (0 <= pixel[0] < self.shape[1] and 0 <= pixel[1] < self.shape[0]):
            raise ConfigError(f"pixel={pixel[0]:g},{pixel[1]:g}: {self.path} is {self.shape[1]}x{self.shape[0]} px")
        (gain_h, gain_w), (left, top) = self.geometry
        x, y = (pixel[0] + 0.5) * gain_w + left, (pixel[1] + 0.5) * gain_h + top
        return x / self.network[1], y / self.network[0]

    def box_of(self, choice: Choice) -> _Array:
        """Return the box of a detection, xyxy, clipped to the image."""
        cx, cy, w, h = choice.box
        corners = np.array([[cx - w / 2, cy - h / 2], [cx + w / 2, cy + h / 2]])
        return self.to_pixels(corners).clip(0, [self.shape[1], self.shape[0]]).ravel().astype(np.float32)

    def title_of(self, choice: Choice) -> str:
        """Return rank, class and score of a detection as text."""
        return f"query={choice.rank} {self.model.names.get(choice.cls, choice.cls)} {choice.score:.2f}"

    def choice_arrays(self, choice: Choice) -> dict[str, npt.NDArray[Any]]:
        """Return a detection as arrays."""
        numbers = {"rank": choice.rank, "query": choice.query, "cls": choice.cls, "score": choice.score}
        return {**{k: np.asarray(v) for k, v in numbers.items()}, "box": self.box_of(choice)}

    def gradient(self, kind: str, layer: Layers, rank: int) -> Heatmap:
        """Where the layers support a detection; the maps of several layers are resized and added."""
        layers = None if layer is None else _several(layer)
        maps, choice = gradient_maps(self.model, self.im, layers, rank, elementwise=kind == "hirescam")
        total = sum(over_original(m.map, self.network, self.shape, self.geometry) * float(m.map.max()) for m in maps)
        values = np.asarray(total, np.float32)
        values = values / values.max() if values.max() > 0 else values
        names = ",".join(m.layer for m in maps)
        raw = {f"layer_{m.layer}": m.map.cpu().numpy() for m in maps}
        title = f"{kind} layer {names}\n{self.title_of(choice)}"
        arrays = {"values": values, **raw, **self.choice_arrays(choice)}
        return Heatmap(kind, self.path, self.image, title, values, arrays, self.box_of(choice))

    def attention(self, layer: int | str | None, rank: int | None, pixel: Sequence[float] | None) -> Heatmap:
        """What an SHSA block attends to from a pixel, from the centre of a detection, or on average."""
        extra: dict[str, npt.NDArray[Any]] = {}
        box, place, subtitle = None, None, "mean of all cells"
        if pixel is not None:
            place, subtitle = self.to_network(pixel), f"pixel {pixel[0]:g},{pixel[1]:g}"
        elif rank is not None:
            choice = chosen(self.model, self.im, rank)
            place, box, subtitle = (choice.box[0], choice.box[1]), self.box_of(choice), self.title_of(choice)
            extra = self.choice_arrays(choice)
        attention_map = shsa_attention(self.model, self.im, layer, place)
        values = over_original(attention_map.map, self.network, self.shape, self.geometry)
        arrays = {"values": values, f"layer_{attention_map.layer}": attention_map.map.cpu().numpy(), **extra}
        if attention_map.cell is not None:
            arrays["cell"] = np.array(attention_map.cell)
        mark = None if place is None else self.to_pixels(np.array(place))
        at = None if mark is None else (float(mark[0]), float(mark[1]))
        title = f"shsa layer {attention_map.layer}\n{subtitle}"
        peak = float(attention_map.map.max()) * attention_map.map.numel()  # 1 is attention to all cells in equal parts
        return Heatmap(
            "shsa", self.path, self.image, title, values, arrays, box, at, peak=peak, unit="x mean"
        )  # fmt: skip

    def sampling(self, layer: Layers, rank: int) -> Heatmap:
        """Where the decoder sampled for a detection; the image shows one of its layers, the arrays hold all."""
        samples, choice = sampling_points(self.model, self.im, rank)
        depth = len(samples.points)
        shown = depth - 1 if layer is None else _number(layer)
        if not -depth <= shown < depth:
            raise ConfigError(f"layer={layer}: decoder layers 0 to {depth - 1} ran")
        points, weights = self.to_pixels(samples.points.cpu().numpy()), samples.weights.cpu().numpy()
        heads, levels, each = weights.shape[1:]
        level = np.broadcast_to(np.arange(levels)[:, None], (heads, levels, each)).ravel()
        used = weights[shown].ravel() > 0  # levels with fewer points are filled up
        drawn = points[shown].reshape(-1, 2)[used], weights[shown].ravel()[used], level[used]
        names = tuple(f"level {h}x{w}" for h, w in samples.shapes)
        arrays = {"points": points, "weights": weights, "references": samples.references.cpu().numpy()}
        arrays |= {"shapes": np.array(samples.shapes), **self.choice_arrays(choice)}
        title = f"sampling decoder layer {shown % depth}\n{self.title_of(choice)}".split("\n")
        return Heatmap(
            "sampling", self.path, self.image, ", ".join(title), np.zeros((0, 0), np.float32), arrays,
            self.box_of(choice), None, *drawn, names,
        )  # fmt: skip


def _several(layer: int | str | Sequence[int | str]) -> list[int | str]:
    """Return the layers of `19`, `"19,22"`, `"[19, 22]"` or a list."""
    if isinstance(layer, str):
        return [name.strip() for name in layer.strip("[]").split(",")]
    return [layer] if isinstance(layer, int) else list(layer)


def _number(layer: Layers) -> int:
    """Return the number of a decoder layer."""
    if not str(layer).lstrip("-").isdigit():
        raise ConfigError(f"layer={layer}: with kind=sampling it is the number of a decoder layer")
    return int(str(layer))


def explain(
    explainer: _Explainer, kind: str, layer: Layers, query: int | None, pixel: Sequence[float] | None
) -> Heatmap:
    """Return the heat map of one image; `pixel` belongs to shsa alone.

    Raises:
        ConfigError: an unknown kind, or arguments that exclude each other.
    """
    if kind not in KINDS:
        raise ConfigError(f"kind={kind}: there are {', '.join(KINDS)}")
    if pixel is not None and kind != "shsa":
        raise ConfigError(f"pixel={list(pixel)}: only kind=shsa takes a pixel", f"kind={kind} takes query=")
    if kind == "shsa":
        return explainer.attention(cast("int | str | None", layer), query, pixel)  # a list is refused there
    if kind == "sampling":
        return explainer.sampling(layer, query or 0)
    return explainer.gradient(kind, layer, query or 0)


def heatmap(
    model: Model,
    source: object,
    kind: str = "hirescam",
    layer: Layers = None,
    query: int | str | None = None,
    pixel: Sequence[float] | None = None,
    save: bool = True,
    **kwargs: Any,
) -> list[Heatmap]:
    """Explain a detection on each image of a source.

    Args:
        model: a detector that is not an exported file.
        source: what `predict` takes, if it is finite.
        kind: `hirescam` or `gradcam` (gradient-weighted maps), `shsa` (attention), `sampling` (decoder points). Of the
            two, gradcam weights whole channels and so also highlights what activates the same channels elsewhere.
        layer: number of a row of the model YAML or a dotted name below it; for the gradient maps also several, as a
            list or separated by commas, whose maps are added. By default the maps that the head reads, the first SHSA
            block, or the last decoder layer.
        query: rank of the detection, 0 is the best; by default 0, for shsa none: the mean of all cells. "all": a map
            for each detection that `predict` would show.
        pixel: x, y in the original image; the querying cell of shsa.
        save: write a PNG and an NPZ for each image into the run folder.
        kwargs: arguments of `predict`: imgsz, letterbox, classes, conf, device, project, name, ...; with
            `show_labels=False` the pictures have no title and legend.

    Raises:
        ConfigError: a layer, detection or pixel that does not exist; a model without a PyTorch network.
    """
    refuse_views(kwargs, "heatmap", "leave it out, or cut the part of the image that you want explained")
    options: Mapping[str, Any] = {"batch": 1, "save": False, **kwargs}
    predictor = model._class("predictor")(overrides=model._args("predict", {"name": "heatmap", **options}))
    predictor.setup_model(model.model)
    network = getattr(predictor.model, "model", None)
    if not isinstance(network, DetectionModel):
        raise ConfigError("heat maps need a PyTorch detector", "give a .pt file")
    out: list[Heatmap] = []
    used: set[str] = set()
    for paths, images, _ in predictor.setup_source(source):
        for path, image in zip(paths, images, strict=True):
            explainer = _Explainer(network, predictor.preprocess([image]), image, path, bool(predictor.args.letterbox))
            with class_filter(network, predictor.classes):
                ranks = _ranks(explainer, query, predictor.conf)
                results = [explain(explainer, kind, layer, rank, pixel) for rank in ranks]
            for rank, result in zip(ranks, results, strict=True):
                result.labels = bool(predictor.args.show_labels)
                out.append(result)
                if save:
                    number = f"_{rank}" if query == "all" else ""
                    stem = predictor.save_dir / _free(f"{Path(path).stem or 'image'}_{kind}{number}", used)
                    image_file, arrays = result.save(stem)
                    LOGGER.info(f"{path}: {result.title.replace(chr(10), ', ')} -> {image_file}, {arrays.name}")
            if not ranks:
                LOGGER.info(f"{path}: no detection above conf={predictor.conf}, nothing to explain")
    if save and out:
        LOGGER.info(f"Results saved to {colorstr('bold', str(predictor.save_dir))}")
    return out


def _ranks(explainer: _Explainer, query: int | str | None, conf: float) -> list[int | None]:
    """The detections to explain: the asked-for one, or all above a score."""
    if query is None or isinstance(query, int):
        return [query]
    if query != "all":
        raise ConfigError(f"query={query}: it is the rank of a detection, 0 for the best, or all")
    return list(range(count_above(explainer.model, explainer.im, conf)))


def _free(name: str, used: set[str]) -> str:
    """Return the name, numbered from 2 when it is taken."""
    chosen, k = name, 2
    while chosen in used:
        chosen, k = f"{name}-{k}", k + 1
    used.add(chosen)
    return chosen
