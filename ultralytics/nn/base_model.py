"""The layers of a model YAML, run one after another with the routing of `from`, and their summaries.

Shapes: B batch, C channels, H x W image.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn.activation_checkpointing import checkpoint_layer
from ultralytics.nn.modules.conv import fuse_children
from ultralytics.nn.profile.graph import draw_graph
from ultralytics.nn.profile.summary import (
    LayerSummary,
    Totals,
    compare_rows,
    layer_summaries,
    layer_table,
    model_title,
    model_totals,
    summary_line,
    totals_line,
    wide_lines,
)
from ultralytics.utils.checks import check_imgsz
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.log import LOGGER
from ultralytics.utils.torch_utils import get_flops, get_num_gradients, get_num_params

ImageSize = int | Sequence[int]  # px: a side, or height and width
LAYER_ATTRIBUTES = ("i", "f", "type", "np", "slots")  # set by the builder on each layer


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
    checkpoint_name: ClassVar[str] = ""
    """Name of the class in a checkpoint; a subclass in user code is saved, and loads, as its nearest class here."""

    def forward(self, x: Tensor | dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Loss of a batch dict, or prediction for an image tensor (B, C, H, W)."""
        if isinstance(x, dict):
            return self.loss(x, *args, **kwargs)
        return self.predict(x, *args, **kwargs)

    def predict(
        self,
        x: Tensor,
        profile: bool = False,
        batch: Mapping[str, Any] | bool | None = None,
        augment: bool = False,
        embed: Sequence[int] | None = None,
    ) -> Any:
        """Run the layers on an image batch (B, C, H, W).

        `batch` are training targets, handed to the head. `profile` logs the time of each layer. With `embed`, a list of
        layer indices, return one vector for each image instead: the pooled outputs of those layers, concatenated.
        A switch in the place of `batch` is `augment`, as other networks of the interface have it there. Raises
        ConfigError for `augment=True`, which no model here supports.
        """
        if isinstance(batch, bool):
            augment, batch = augment or batch, None
        if augment:
            raise ConfigError("augment=True: these models have no test-time augmentation\nleave augment out")
        first, last = (int(cast("int", self.model[k].i)) for k in (0, -1))
        if embed and not all(first <= i < last for i in embed):
            raise ConfigError(f"embed={list(embed)}: layers {first} to {last - 1} can be embedded")
        if profile or embed:
            return self._predict_profiled(x, profile, batch, frozenset(embed or ()))
        return self._call(self.model[-1], self.features(x), batch)

    def features(self, x: Tensor) -> object:
        """Return what the last layer gets for an image batch (B, C, H, W)."""
        kept: list[object] = []
        value: object = x
        again = self.activation_checkpointing and self.training and torch.is_grad_enabled()
        for layer in list(self.model)[:-1]:
            value = self._gather(layer, value, kept)
            value = checkpoint_layer(layer, value) if again else self._call(layer, value, None)
            value = self._keep(layer, value, kept)
        return self._gather(self.model[-1], value, kept)

    def _predict_profiled(
        self, x: object, profile: bool, batch: Mapping[str, Any] | None, embed: frozenset[int]
    ) -> object:
        """`predict` that times each layer or collects vectors on the way."""
        kept: list[object] = []
        vectors: list[Tensor] = []
        for layer in self.model:
            x = self._gather(layer, x, kept)
            start = time.perf_counter()
            x = self._call(layer, x, batch)
            if profile:
                LOGGER.info(f"{(time.perf_counter() - start) * 1e3:10.2f} ms  {layer.i:>3} {layer.type}")
            x = self._keep(layer, x, kept)
            if layer.i in embed:
                vectors.append(F.adaptive_avg_pool2d(cast("Tensor", x), 1).flatten(1))  # (B, C)
                if len(vectors) == len(embed):
                    return torch.cat(vectors, 1).unbind(0)
        return x

    def _keep(self, layer: nn.Module, x: object, kept: list[object]) -> object:
        """Put an output into its slot and return what the next layer gets: of a one-row backbone the last map."""
        slots = cast("int", getattr(layer, "slots", 1))
        maps = list(cast("Sequence[object]", x)) if slots > 1 else [x]
        outputs = [None] * (slots - len(maps)) + maps
        kept += [output if len(kept) + k in self.save else None for k, output in enumerate(outputs)]
        return outputs[-1]

    @staticmethod
    def _gather(layer: nn.Module, x: object, kept: list[object]) -> object:
        """Return the input of a layer: the previous output, a kept one, or a list of them."""
        f = cast("int | list[int]", layer.f)
        if isinstance(f, int):
            return x if f == -1 else kept[f]
        return [x if j == -1 else kept[j] for j in f]

    def _call(self, layer: nn.Module, x: object, batch: Mapping[str, Any] | None) -> object:
        return layer(x)

    def loss(self, batch: dict[str, Any], preds: Any = None, *, partial: bool = False) -> tuple[Tensor, Tensor]:
        """Total loss and its detached parts; `partial`: other batches belong to the same optimizer step."""
        raise NotImplementedError(f"{type(self).__name__} has no loss")

    def is_fused(self) -> bool:
        """Whether no batch norm is left to fold."""
        return not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in self.model.modules())

    def fuse(self, verbose: bool = True, imgsz: ImageSize = 640) -> BaseModel:
        """Fold batch norms and re-parameterised branches, in place, for inference; return self."""
        if not self.is_fused():
            attributes = [{n: getattr(layer, n) for n in LAYER_ATTRIBUTES if hasattr(layer, n)} for layer in self.model]
            fuse_children(self.model)
            for layer, values in zip(self.model, attributes, strict=True):
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
        imgsz = self._valid_size(imgsz)
        leaves = sum(not list(m.children()) for m in self.model.modules())  # without those of the loss
        counts = (leaves, get_num_params(self), get_num_gradients(self), get_flops(self, imgsz))
        totals = self.totals(imgsz) if detailed else None
        if totals is not None:
            for line in layer_table(self.layers(imgsz), totals.wide):
                LOGGER.info(line)
        LOGGER.info(summary_line(model_title(self.yaml), self.is_fused(), counts))
        if totals is not None:
            LOGGER.info(totals_line(totals, imgsz))
            for line in wide_lines(totals.wide):
                LOGGER.warning(line)
        return counts

    def _valid_size(self, imgsz: ImageSize) -> ImageSize:
        """The size that this model can run at: for a detector, whose maps are joined, a multiple of the stride."""
        return imgsz if self.task == "classify" else check_imgsz(imgsz, int(self.stride.max()))

    def totals(self, imgsz: ImageSize = 640) -> Totals:
        """Counts of the whole model at an image size, unfused and fused, with the estimated peak memory."""
        return model_totals(self, self._valid_size(imgsz))

    @staticmethod
    def comparison(totals: Sequence[Totals]) -> list[tuple[str, ...]]:
        """Cells of a table: a header, then a row for each model with its differences to the first."""
        return compare_rows(totals)

    def draw(self, path: str | Path, imgsz: ImageSize = 640) -> Path:
        """Draw the layer graph with output shapes to a `.svg`, `.png` or `.pdf` file; return its path."""
        imgsz = self._valid_size(imgsz)
        height, width = (imgsz, imgsz) if isinstance(imgsz, int) else imgsz
        title = f"{model_title(self.yaml)}   {height}\u00d7{width}"
        return draw_graph(self.model, self.layers(imgsz), title, path, height)

    def layers(self, imgsz: ImageSize = 640) -> list[LayerSummary]:
        """Summary of each layer at an image size: from, module, output shape, parameters, GFLOPs."""
        return layer_summaries(self, self._valid_size(imgsz))
