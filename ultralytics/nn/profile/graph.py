"""The layer graph of a model as a picture: one box a layer, by stride from left to right, with its output shape."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from ultralytics.nn.profile.summary import LayerSummary
from ultralytics.nn.registry import REGISTRY
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.plotting.figure import literal, save_figure
from ultralytics.utils.user_modules import origin

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GRAPH_SUFFIXES = (".svg", ".png", ".pdf")
# Fill and edge by kind; dark text on each has a contrast above 7.
COLOURS = {
    "layer": ("#eef2f7", "#7b8794"),
    "without weights": ("#ffffff", "#b8c0ca"),
    "SHSA": ("#ffd8a8", "#d9480f"),
    "user block": ("#e5dbff", "#6741d9"),
    "head": ("#d3f9d8", "#2b8a3e"),
}
ROW, COLUMN = 0.62, 2.9  # inches between two layers, and between two strides
WIDTH, HEIGHT = 2.4, 0.44  # inches of a box


def layer_kind(layer: nn.Module) -> str:
    """Return a key of `COLOURS`: whether the layer holds SHSA or a user block, is a head, or has no weights."""
    entries = {e.cls: e for name in REGISTRY if (e := REGISTRY.get(name)) is not None}
    parts = [type(m) for m in layer.modules()]
    if any(cls in entries and origin(cls) is not None for cls in parts):
        return "user block"
    if any(cls.__name__ == "SHSA" for cls in parts):
        return "SHSA"
    if type(layer) in entries and entries[type(layer)].is_head:
        return "head"
    return "layer" if any(True for _ in layer.parameters()) else "without weights"


def places(layers: Sequence[LayerSummary], imgsz: int) -> list[tuple[float, float]]:
    """Centre of each layer's box, in inches: a column for each stride, a row for each layer, from the top down.

    A layer whose output is not a map, such as the head, stands under the finest of its inputs.
    """
    heights = [int(f.shape.split("x")[1]) if f.shape.count("x") == 2 else 0 for f in layers]
    strides = sorted({round(imgsz / h) for h in heights if h})
    columns: list[int] = []
    for f, h in zip(layers, heights, strict=True):
        above = [columns[r] for r in (_row_of(s, f.i, layers) for s in _sources(f)) if 0 <= r < len(columns)]
        columns.append(strides.index(round(imgsz / h)) if h else min(above, default=0))
    return [(COLUMN * (c + 0.5), -ROW * (k + 0.5)) for k, c in enumerate(columns)]


def draw_graph(
    modules: nn.Sequential, layers: Sequence[LayerSummary], title: str, path: str | Path, imgsz: int
) -> Path:
    """Draw the layers to a `.svg`, `.png` or `.pdf` file and return its path. ConfigError for another suffix."""
    path = Path(path)
    if path.suffix.lower() not in GRAPH_SUFFIXES:
        raise ConfigError(f"save={path}: a graph is drawn as {', '.join(GRAPH_SUFFIXES)}", "such as save=graph.svg")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    spots = places(layers, imgsz)
    kinds = [layer_kind(layer) for layer in modules]
    width, height = max(x for x, _ in spots) + 0.8 * COLUMN, ROW * len(layers) + 0.9
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set(xlim=(0, width), ylim=(-ROW * len(layers) - 0.1, 0.1), aspect="equal")
    axes.axis("off")
    axes.set_title(literal(title), loc="left", fontsize=11)
    for f in layers:
        _draw_inputs(axes, [_row_of(s, f.i, layers) for s in _sources(f)], f.i - layers[0].i, spots)
    for f, spot, kind in zip(layers, spots, kinds, strict=True):
        _draw_box(axes, f, spot, kind)
    _draw_legend(axes, kinds)
    save_figure(figure, path, dpi=110)
    return path


def _draw_box(axes: Axes, f: LayerSummary, spot: tuple[float, float], kind: str) -> None:
    """A box with index, module, repeats, output shape and parameters."""
    from matplotlib.patches import FancyBboxPatch

    fill, edge = COLOURS[kind]
    corner = (spot[0] - WIDTH / 2, spot[1] - HEIGHT / 2)
    style = "round,pad=0,rounding_size=0.06"
    axes.add_patch(FancyBboxPatch(corner, WIDTH, HEIGHT, boxstyle=style, facecolor=fill, edgecolor=edge, zorder=3))
    name = f"{f.i}  {f.module}" + (f" x{f.repeats}" if f.repeats > 1 else "")
    size = f.shape.replace("x", "\u00d7") + (f"   {f.params:,}" if f.params else "")
    axes.text(spot[0], spot[1] + 0.09, name, ha="center", va="center", fontsize=8, weight="bold", zorder=4)
    axes.text(spot[0], spot[1] - 0.1, size, ha="center", va="center", fontsize=7, color="#343a40", zorder=4)


def _sources(f: LayerSummary) -> list[int]:
    return f.route if isinstance(f.route, list) else [f.route]


def _row_of(source: int, i: int, layers: Sequence[LayerSummary]) -> int:
    """Row of the layer that `from` of layer i names; -1 is the network's input. A one-row backbone has number 4."""
    shift = layers[0].i
    if i == shift:
        return -1
    slot = source if source >= 0 else i + source
    return max(slot - shift, 0)


def _draw_inputs(axes: Axes, sources: Sequence[int], row: int, spots: Sequence[tuple[float, float]]) -> None:
    """An arrow from each input: straight from the row above; from further off curved, blue, and to the box's side."""
    for index in sources:
        if index < 0:
            continue
        (x0, y0), (x1, y1) = spots[index], spots[row]
        line = {"arrowstyle": "-|>", "shrinkA": 0, "shrinkB": 0}
        if index == row - 1:
            start, end, bend = (x0, y0 - HEIGHT / 2), (x1, y1 + HEIGHT / 2), 0.0
            line |= {"color": "#495057", "lw": 1.0}
        else:
            last = x0 == x1 == max(x for x, _ in spots)
            side = 1 if x0 > x1 or last else -1  # outside of the last column, else from the left
            start = (x0 + side * WIDTH / 2, y0) if x0 == x1 else (x0 - side * WIDTH / 4, y0 - HEIGHT / 2)
            end, bend = (x1 + side * WIDTH / 2, y1), -0.25 * side
            line |= {"color": "#1c7ed6", "lw": 1.2}
        axes.annotate("", end, start, arrowprops={**line, "connectionstyle": f"arc3,rad={bend}"}, zorder=2)


def _draw_legend(axes: Axes, kinds: Sequence[str]) -> None:
    from matplotlib.patches import Patch

    shown = [Patch(facecolor=fill, edgecolor=edge, label=k) for k, (fill, edge) in COLOURS.items() if k in kinds]
    axes.legend(handles=shown, loc="upper right", fontsize=8, frameon=True)
