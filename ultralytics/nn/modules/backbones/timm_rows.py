"""Backbones of timm by one row. timm is imported when a row asks for it.

Shapes: B batch, C channels, H x W map.
"""

from __future__ import annotations

import difflib
import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from ultralytics.nn.modules.backbones.maps import MapBackbone, TensorReader, hub_file
from ultralytics.nn.registry import Entry, Plan, RowContext, register
from ultralytics.utils.errors import ConfigError, ImageSizeError, NotFoundError

INSTALL = "pip install rtdetr-shsa[timm]"
MODEL_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)?")
SIMILAR = 0.85
"""Likeness of two names, 0 to 1, from which one is taken for a misspelt other."""
WINDOW = re.compile(r"window \(?(\d+)")
"""How timm's networks with windows name theirs where a map does not consist of whole ones."""

SIZE_ERRORS = (AssertionError, RuntimeError, ValueError, IndexError)
"""What timm's networks raise for an image of a size that they do not take."""

# Ways to let a network of a fixed image size take other sizes, as far as it has them.
ANY_SIZE: tuple[dict[str, bool], ...] = ({"strict_img_size": False}, {"dynamic_img_size": True}, {})


def has_timm() -> bool:
    """Whether timm is installed; it is not imported."""
    return importlib.util.find_spec("timm") is not None


def _library() -> ModuleType:
    if not has_timm():
        raise ConfigError(f"this backbone is one of timm, which is not installed: {INSTALL}")
    import timm

    return timm


def _timm_rule(row: RowContext) -> Plan:
    """`[model, pretrained, stages, weights]` as they are; the channels are found by the dry run."""
    return Plan(row.args, -1, kwargs={**row.kwargs, **({} if row.c1 == 3 else {"ch": row.c1})})


@register(_timm_rule, fills_slots=True, row="model, pretrained, stages, weights")
class Timm(MapBackbone):
    """A backbone of timm by name. YAML `[model, pretrained, stages]`, first row: `[convnext_tiny, false, [1, 2, 3]]`.

    Its maps take the layer indices up to 4, the next row is layer 5. Tensors have timm's own names. A bare model name
    in place of `Timm` does the same: `[-1, 1, convnext_tiny, [false]]`, then an optional file of weights.

    Args:
        model: Name of the model, with or without a tag.
        pretrained: As for `MapBackbone`.
        stages: timm's feature levels; None for the last five.
        weights: A file of weights in timm's form.
        ch: Image channels.

    Raises:
        ConfigError: timm is not installed, or the model gives no feature maps.
        NotFoundError: timm has no such model.
    """

    def __init__(
        self,
        model: str,
        pretrained: bool = False,
        stages: Sequence[int] | None = None,
        weights: str | None = None,
        ch: int = 3,
    ) -> None:
        super().__init__(model, pretrained, stages, weights)
        library = _library()
        if not isinstance(model, str) or not library.is_model(model):
            near = ", ".join(library.list_models(f"*{str(model).split('_')[0]}*")[:5])
            raise NotFoundError(f"timm {library.__version__} has no model {model!r}; near: {near or 'none'}")
        self.ch = ch
        self.picked = self.pick(len(self._create(None).feature_info.channels()))
        net = self._create(self.picked)
        self.channels_last = str(getattr(net, "output_fmt", "NCHW")).endswith("NHWC")
        # The network shares its tables of children with this module: tensors have timm's names, and a child that is
        # exchanged in one is exchanged in both.
        self._modules, self._parameters, self._buffers = net._modules, net._parameters, net._buffers
        self.net = (net,)

    def _create(self, stages: Sequence[int] | None, **options: Any) -> Any:
        """Return timm's network of feature maps."""
        library = _library()
        if stages is not None:
            options["out_indices"] = tuple(stages)
        weights_info = library.get_pretrained_cfg(self.source)
        ways = ANY_SIZE if weights_info is not None and weights_info.fixed_input_size else ({},)
        for way in ways:
            try:
                return library.create_model(self.source, features_only=True, in_chans=self.ch, **options, **way)
            except TypeError as e:
                if way:
                    continue  # the network does not know this argument
                raise ConfigError(f"timm's {self.source} gives no feature maps: {e!s:.120}") from None
            except (RuntimeError, AttributeError, AssertionError) as e:
                if "meta" in str(e).lower():  # the dry run builds it with values then
                    raise
                raise ConfigError(f"timm's {self.source} gives no feature maps: {e!s:.120}") from None
        raise ConfigError(f"timm's {self.source} cannot be built")

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, ch, H, W) -> [(B, C_i, H_i, W_i), ...], finest first."""
        try:
            maps = self.net[0](x)
        except SIZE_ERRORS as e:
            raise self._of_size(e, x) from None
        return [m.permute(0, 3, 1, 2).contiguous() if self.channels_last else m for m in maps]  # (B, C, H, W)

    def _of_size(self, error: Exception, x: Tensor) -> Exception:
        """Return what to raise where the network failed: an error of its image size, if it takes another one."""
        if "meta" in str(error).lower() or isinstance(error, torch.OutOfMemoryError):
            return error
        side, sides = self._side_near(str(error), max(x.shape[2:]))
        try:
            with torch.no_grad():
                self.net[0](x.new_zeros(2, x.shape[1], side, side))
        except SIZE_ERRORS:
            return error
        h, w = x.shape[2:]
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        problem = f"timm's {self.source} does not take images of {h}x{w} px: {reason:.120}"
        return ImageSizeError(problem, f"it takes {sides}: give imgsz={side}, or choose another backbone", side=side)

    def _side_near(self, reason: str, longest: int) -> tuple[int, str]:
        """Return a side of square images that the network should take, and all that it takes as a clause."""
        if window := WINDOW.search(reason):
            step = int(window[1]) * max(self.net[0].feature_info.reduction())
            return -(-longest // step) * step, f"sides that are multiples of {step} px"
        made_for = _library().get_pretrained_cfg(self.source)
        side = int(made_for.input_size[-1]) if made_for is not None else longest
        return side, f"images of {side}x{side} px"

    def candidates(self) -> list[Path]:
        """Return `<model>.<tag>.safetensors` or `.pth` among torch's weights, and the cache of timm's own hub."""
        weights_info = _library().get_pretrained_cfg(self.source)
        tag = f".{weights_info.tag}" if weights_info is not None and weights_info.tag else ""
        stem = self.source.partition(".")[0] + tag
        files = [hub_file(f"{stem}.safetensors"), hub_file(f"{stem}.pth")]
        if weights_info is None:
            return files
        if weights_info.url:
            files.append(hub_file(str(weights_info.url).rpartition("/")[2]))
        if (
            weights_info is not None
            and weights_info.hf_hub_id
            and importlib.util.find_spec("huggingface_hub") is not None
        ):
            from huggingface_hub import try_to_load_from_cache  # type: ignore[import-not-found, unused-ignore]

            cached = (
                try_to_load_from_cache(weights_info.hf_hub_id, n) for n in ("model.safetensors", "pytorch_model.bin")
            )
            files += [Path(name) for name in cached if isinstance(name, str)]
        return files

    def read_weights(self, path: Path, read: TensorReader) -> None:
        """Take the weights of a file in timm's form: of the whole classifier, as timm publishes them.

        timm converts their names; `read` looks at the file first, so that one that could run code is refused.
        """
        read(path)
        overlay = {"file": str(path), "url": "", "hf_hub_id": None}
        filled: nn.Module = self._create(self.picked, pretrained=True, pretrained_cfg_overlay=overlay)
        self.load_state_dict(filled.state_dict())


def similar_models(name: str) -> list[str]:
    """Models of timm whose names begin like a bare name (`swin_tiny`), else similar ones, three; none without timm."""
    if not MODEL_NAME.fullmatch(name) or name.isalpha() or not has_timm():
        return []
    begin = [str(model) for model in _library().list_models(f"{name}*")[:3]]
    return begin or difflib.get_close_matches(name, map(str, _library().list_models()), 3, SIMILAR)


def timm_entry(name: str) -> Entry | None:
    """Return the entry of a bare model name of timm; None where timm is missing or has no such model."""
    if not MODEL_NAME.fullmatch(name) or not has_timm() or not _library().is_model(name):
        return None

    def rule(row: RowContext) -> Plan:
        """`[pretrained, weights]` as forks write them -> (model, pretrained, None, weights)."""
        pretrained, *weights = row.args or (False,)
        return _timm_rule(RowContext(row.in_channels, (name, pretrained, None, *weights), kwargs=row.kwargs))

    return Entry(Timm, rule, fills_slots=lambda args: True)
