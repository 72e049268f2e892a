"""Effective receptive field: how far into the image a place of a feature map looks in effect, `yolo erf`.

Of each image the gradient of the centre of a feature map, summed over its channels, is taken with respect to the input
pixels; the field is the mean of its absolute values over channels and images (Luo et al., "Understanding the Effective
Receptive Field in Deep Convolutional Neural Networks", NeurIPS 2016, section 3; images instead of noise and the mean of
absolute values as in Ding et al., "Scaling Up Your Kernels to 31x31", CVPR 2022, appendix). Its size is given as the
side of the smallest centred square that holds 20, 30, 50 and 99 % of the sum.

Shapes: (B, C, H, W) images and maps; S x S pixels of a field.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from ultralytics.cfg import get_save_dir
from ultralytics.cfg.resolution import resolve
from ultralytics.data.images import resize, with_channels
from ultralytics.data.loaders.open import load_inference_source
from ultralytics.engine.model import Model
from ultralytics.engine.validator import max_side
from ultralytics.utils.checks import check_imgsz
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.files import atomic_write
from ultralytics.utils.log import LOGGER, colorstr
from ultralytics.utils.metrics.report import Table, Value, write_tables
from ultralytics.utils.plotting.figure import literal
from ultralytics.utils.plotting.paper import COLUMN_WIDTH, check_format, paper_figure, paper_style, save_paper
from ultralytics.utils.torch_tools.arrays import Float64Array
from ultralytics.utils.torch_utils import select_device

RATIOS = (0.2, 0.3, 0.5, 0.99)
MAX_IMAGES = 50
"""Images that are averaged; a field hardly changes with more."""


@dataclass(frozen=True)
class ReceptiveField:
    """The field of a layer: `values` (S, S), sum 1, of the centre of its map to the pixels of the network input."""

    layer: int
    name: str
    values: Float64Array
    images: int

    def side(self, ratio: float) -> int:
        """Return the side of the smallest centred square, in pixels, that holds this part of the sum.

        >>> field = ReceptiveField(0, "Conv", np.eye(5) / 5, 1)
        >>> field.side(0.2), field.side(0.6), field.side(0.99)
        (1, 3, 5)
        """
        height, width = self.values.shape
        rows, columns = np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2
        radius = np.maximum(np.abs(rows)[:, None], np.abs(columns))  # (S, S) Chebyshev distance to the centre
        order = np.argsort(radius, axis=None, kind="stable")
        sums = self.values.ravel()[order].cumsum()
        last = min(int(np.searchsorted(sums, ratio * sums[-1] - 1e-12)), len(order) - 1)
        return int(2 * radius.ravel()[order[last]] + 1)


def erf(
    model: Model,
    source: Any,
    layer: int | Sequence[int] | None = None,
    fmt: str = "pdf",
    **kwargs: Any,
) -> list[ReceptiveField]:
    """Measure the effective receptive field of layers on images; write table, arrays and figure into a run folder.

    Args:
        model: a model of any task, with its weights.
        source: images, as for predict; the first 50 are taken, each stretched to the square of `imgsz`.
        layer: index of a layer, or several; by default the inputs of the head.
        fmt: vector format of the figure beside PNG: pdf or svg.
        kwargs: `imgsz`, `device`, `project`, `name`, `exist_ok` and `save_dir` of a run.

    Raises:
        ConfigError: there is no such layer, its output is not a feature map, or the source has no image.
    """
    check_format(fmt)
    args = resolve(overrides={"name": "erf", **kwargs, "task": model.task, "mode": "predict"})
    network: Any = model.model
    if not isinstance(network, nn.Module) or not hasattr(network, "model"):
        raise ConfigError(f"{model.model_name} has no layers", "give the weights (.pt) or a model YAML")
    layers = _layers(network, layer)
    stride = int(torch.as_tensor(getattr(network, "stride", 32)).max())
    side = max_side(check_imgsz(max_side(args.imgsz), stride=stride))
    channels = int(getattr(network, "yaml", {}).get("channels", 3))
    device = select_device("" if args.device is None else args.device, verbose=False)
    fields = measure_fields(network, read_images(source, side, channels), layers, device)
    folder = Path(get_save_dir(args))
    table = field_table(fields, side)
    write_tables({"fields": table}, folder, "erf", {"imgsz": side, "images": fields[0].images})
    with atomic_write(folder / "erf.npz", "wb") as f:
        np.savez_compressed(f, **{f"layer{x.layer}": x.values.astype(np.float32) for x in fields})  # type: ignore[arg-type]
    draw_fields(fields, folder / "erf", fmt)
    LOGGER.info(f"{table.title}\n{table.render('text', 1)}\nSaved to {colorstr('bold', str(folder))}")
    return fields


def _layers(network: Any, asked: int | Sequence[int] | None) -> list[int]:
    """The asked-for layers; by default those that the head reads."""
    count = len(network.model)
    if asked is None:
        source = network.model[-1].f
        wanted = list(source) if isinstance(source, (list, tuple)) else [source]
        return [count - 1 + i if i < 0 else i for i in wanted]
    wanted = [asked] if isinstance(asked, int) else [int(i) for i in asked]
    for i in wanted:
        if not 0 <= i < count - 1:
            raise ConfigError(f"layer={i}: there are the layers 0 to {count - 2} in front of the head")
    return wanted


def read_images(source: Any, side: int, channels: int = 3) -> list[Tensor]:
    """Return up to 50 images (1, channels, side, side), RGB in 0..1, stretched to the square.

    Raises:
        ConfigError: the source holds no image.
    """
    images: list[Tensor] = []
    for _, batch, _ in load_inference_source(source, channels=channels):
        for image in batch:
            square = with_channels(resize(image, (side, side), cv2.INTER_LINEAR))[..., ::-1]
            images.append(torch.from_numpy(np.ascontiguousarray(square)).permute(2, 0, 1)[None].float() / 255)
        if len(images) >= MAX_IMAGES:
            break
    if not images:
        raise ConfigError(f"source={source}: holds no image")
    return images[:MAX_IMAGES]


def measure_fields(
    network: Any, images: Sequence[Tensor], layers: Sequence[int], device: torch.device
) -> list[ReceptiveField]:
    """Return the field of each layer, averaged over images (1, 3, H, W); the network is left as it was.

    Raises:
        ConfigError: the output of a layer is not a feature map.
    """
    outputs: dict[int, Tensor] = {}
    was_training, home = network.training, next(network.parameters()).device
    hooks = [network.model[i].register_forward_hook(_keeper(outputs, i)) for i in dict.fromkeys(layers)]
    sums = {i: np.zeros(tuple(images[0].shape[2:])) for i in layers}
    try:
        network.eval().to(device)
        for image in images:
            pixels = image.to(device).requires_grad_()
            with torch.enable_grad():
                network.predict(pixels) if hasattr(network, "predict") else network(pixels)
            for i in sums:
                sums[i] += _centre_gradient(outputs.get(i), pixels, i)
    finally:
        for hook in hooks:
            hook.remove()
        network.train(was_training).to(home)
    names = {i: str(network.model[i].type).rpartition(".")[2] for i in sums}
    return [ReceptiveField(i, names[i], s / max(s.sum(), 1e-300), len(images)) for i, s in sums.items()]


def _keeper(outputs: dict[int, Tensor], i: int) -> Any:
    """A hook that keeps the output of a layer."""

    def keep(module: nn.Module, inputs: object, output: Any) -> None:
        outputs[i] = output

    return keep


def _centre_gradient(output: Any, pixels: Tensor, layer: int) -> Float64Array:
    """Absolute gradient (H, W) of the centre of a map (1, C, h, w), mean over the colours.

    A map of even size has no middle cell: the four around the centre are added, so that the field stays centred.
    """
    if not isinstance(output, Tensor) or output.ndim != 4:
        raise ConfigError(f"layer={layer}: its output is not a feature map (B, C, H, W)", "choose another layer")
    h, w = output.shape[2:]
    centre = output[0, :, (h - 1) // 2 : h // 2 + 1, (w - 1) // 2 : w // 2 + 1]
    (gradient,) = torch.autograd.grad(centre.float().sum(), pixels, retain_graph=True)
    return np.asarray(gradient[0].abs().mean(0).double().cpu().numpy(), np.float64)


def field_table(fields: Sequence[ReceptiveField], side: int) -> Table:
    """A row for each layer: the side of the square that holds each part of the sum, and its area in the image."""
    rows: list[tuple[Value, ...]] = []
    for field in fields:
        sides = [field.side(ratio) for ratio in RATIOS]
        areas = [100 * min(s, side) ** 2 / side**2 for s in sides]
        rows.append((f"{field.layer} {field.name}", *(v for pair in zip(sides, areas, strict=True) for v in pair)))
    heads = [head for ratio in RATIOS for head in (f"{ratio:.0%} px", f"{ratio:.0%} area")]
    return Table(f"Side and area (%) of the effective receptive field, {side} px", ("layer", *heads), tuple(rows))


def draw_fields(fields: Sequence[ReceptiveField], stem: Path, fmt: str = "pdf") -> list[Path]:
    """Draw each field (fourth root, so that its rim is visible) with the squares of the table; return the files."""
    from matplotlib.patches import Rectangle

    across = min(len(fields), 3)
    down = -(-len(fields) // across)
    with paper_style():
        figure, axes = paper_figure(COLUMN_WIDTH / across * down + 0.3 * down, down, across)
        for ax, field in zip(axes, fields, strict=False):
            shown = (field.values / max(field.values.max(), 1e-300)) ** 0.25
            ax.imshow(shown, cmap="viridis", vmin=0, vmax=1)
            middle = (np.array(field.values.shape) - 1) / 2
            for ratio in RATIOS[2:]:
                side = field.side(ratio)
                corner = (middle[1] - side / 2, middle[0] - side / 2)
                ax.add_patch(Rectangle(corner, side, side, fill=False, edgecolor="white", linewidth=0.8))
            ax.set_title(literal(f"{field.layer} {field.name}, 50 %: {field.side(0.5)} px"), fontsize=6)
        for ax in axes:
            ax.axis("off")
        return save_paper(figure, stem, fmt)
