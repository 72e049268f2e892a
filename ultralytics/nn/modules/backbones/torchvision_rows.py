"""Backbones of torchvision by one row.

Shapes: B batch, C channels, H x W map.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, cast

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from ultralytics.nn.modules.backbones.maps import PROBE_MAP, MapBackbone, TensorReader, hub_file
from ultralytics.nn.registry import Plan, RowContext, register
from ultralytics.utils.errors import ConfigError, NotFoundError
from ultralytics.utils.log import LOGGER


def _torchvision_rule(row: RowContext) -> Plan:
    """Two forms, by the first argument.

    `[model, pretrained, stages]` gives a list of maps; `[c2, model, weights, unwrap, truncate, split]`, upstream's,
    states the channels of its output.
    """
    if isinstance(row.args[0], str):
        if row.c1 != 3:
            raise ValueError(f"torchvision's backbones take images of 3 channels, not {row.c1}")
        return Plan(row.args, -1, block="TorchVisionMaps")
    return Plan(row.args[1:], row.args[0])


def _known(model: object) -> str:
    if not isinstance(model, str) or model not in torchvision.models.list_models(module=torchvision.models):
        raise NotFoundError(f"torchvision has no model {model!r}; see torchvision.models.list_models()")
    return model


def _maps_rule(row: RowContext) -> Plan:
    """`[model, pretrained, stages, weights]` as they are; the channels are found by the dry run."""
    return Plan(row.args, -1)


MAP_STRIDES = (2, 4, 8, 16, 32, 64)


@register(_maps_rule, name="TorchVisionMaps", fills_slots=True, row="model, pretrained, stages, weights")
class TorchVisionMaps(MapBackbone):
    """The feature maps of a torchvision network; `TorchVision, [resnet18, false, [2, 3, 4]]` builds it.

    Its maps take the layer indices up to 4, the next row is layer 5. Stage k is the last map of the k-th size, counted
    from half or a quarter of the image on, whichever the network has first. Layers behind the last map are left out.

    Args:
        model: Name of a classifier of torchvision.
        pretrained: As for `MapBackbone`; the library's default weights.
        stages: Which sizes; None for the last five.
        weights: A file of weights in torchvision's form.

    Raises:
        ConfigError: The network has no maps of several sizes, or takes one image size alone.
        NotFoundError: torchvision has no such model.
    """

    def __init__(
        self, model: str, pretrained: bool = False, stages: Sequence[int] | None = None, weights: str | None = None
    ) -> None:
        super().__init__(_known(model), pretrained, stages, weights)
        net = _network(model)
        nodes = _stage_nodes(model)
        picked = [nodes[k] for k in self.pick(len(nodes))]
        self.channels_last = [last for _, last in picked]
        names = {name: str(k) for k, (name, _) in enumerate(picked)}
        self.m = create_feature_extractor(net, return_nodes=names)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> [(B, C_i, H_i, W_i), ...], finest first."""
        maps = self.m(x)
        return [
            maps[str(k)].permute(0, 3, 1, 2).contiguous() if last else maps[str(k)]  # (B, C, H, W)
            for k, last in enumerate(self.channels_last)
        ]

    def candidates(self) -> list[Path]:
        """Return the file in which torchvision keeps its default weights."""
        url = str(torchvision.models.get_model_weights(self.source).DEFAULT.url)
        return [hub_file(url.rpartition("/")[2])]

    def read_weights(self, path: Path, read: TensorReader) -> None:
        """Take the weights of a file of the whole classifier."""
        missing = self.m.load_state_dict(read(path), strict=False).missing_keys
        if missing:
            raise ConfigError(f"{path} holds no weights of {self.source}: {missing[0]} is missing")


def _network(model: str) -> nn.Module:
    """Return a classifier of torchvision; on the meta device, too, where some compute their widths with tensors."""
    try:
        net: nn.Module = torchvision.models.get_model(model, weights=None)
    except NotImplementedError:  # RegNet reads numbers, which a tensor on the meta device does not have
        place = torch.get_default_device()
        with torch.device("cpu"):
            net = torchvision.models.get_model(model, weights=None).to(place)
    return net


def _stage_nodes(model: str) -> list[tuple[str, bool]]:
    """Return, for each size of map, the name of the last node that gives it and whether channels come last."""
    with torch.device("meta"):
        meta = _network(model).eval()
    names = get_graph_node_names(meta)[1]
    extractor = create_feature_extractor(meta, return_nodes=names)
    try:
        with torch.no_grad(), torch.device("meta"):
            outputs = extractor(torch.empty(1, 3, *PROBE_MAP, device="meta"))
    except (RuntimeError, AssertionError, ValueError, TypeError) as e:
        raise ConfigError(f"torchvision's {model} takes one image size alone: {e!s:.100}") from None
    maps = [(name, *_stride(out)) for name, out in outputs.items()]
    strides = sorted({stride for _, stride, _ in maps if stride})
    if len(strides) < 2:
        raise ConfigError(f"torchvision's {model} has no maps of several sizes; take a network with stages")
    return [_last_of(maps, stride) for stride in strides]


def _last_of(maps: Sequence[tuple[str, int, bool]], stride: int) -> tuple[str, bool]:
    """Return name and layout of the last map of a stride, outside of the block in which the next stride begins.

    That block may widen the map before it halves it.
    """
    end = next((k for k, (_, other, _) in enumerate(maps) if other > stride), len(maps))
    behind = maps[end][0].split(".") if end < len(maps) else []

    def shared(name: str) -> int:
        """How many modules around a node also contain the first one of the next stride."""
        return len(list(takewhile(lambda pair: pair[0] == pair[1], zip(name.split("."), behind, strict=False))))

    own = [(name, last) for name, other, last in maps[:end] if other == stride]
    outside = min(shared(name) for name, _ in own)
    return [(name, last) for name, last in own if shared(name) == outside][-1]


def _stride(out: Any) -> tuple[int, bool]:
    """Stride of a map and whether its channels come last; stride 0 for anything else."""
    if not isinstance(out, Tensor) or out.dim() != 4:
        return 0, False
    for last in (False, True):
        size = tuple(out.shape[1:3] if last else out.shape[2:4])
        for stride in MAP_STRIDES:
            if size == (PROBE_MAP[0] // stride, PROBE_MAP[1] // stride):
                return stride, last
    return 0, False


@register(
    _torchvision_rule,
    fills_slots=lambda args: bool(args) and isinstance(args[0], str),
    row=(
        "model, pretrained: bool = False, stages: list = None, weights: str = None",
        "c2: int, model, weights, unwrap, truncate, split",
    ),
)
class TorchVision(nn.Module):
    """A backbone of torchvision by name.

    YAML `[model, pretrained, stages]`, first row: the maps take the layer indices up to 4 (`TorchVisionMaps`). Or
    `[c2, model, weights, unwrap, truncate, split]`, upstream's: with `unwrap` the layers are run in order, without the
    last `truncate`; with `split` every step's output is returned as a list (the input first), of which `Index` picks.
    Nothing is downloaded: `weights` has no effect, a warning says so. NotFoundError for an unknown model name.
    """

    def __init__(
        self, model: str, weights: str | None = None, unwrap: bool = True, truncate: int = 2, split: bool = False
    ) -> None:
        super().__init__()
        if split and not unwrap:
            raise ConfigError("TorchVision: split=True needs unwrap=True")
        if weights is not None and str(weights) != "None":
            LOGGER.warning(
                f"TorchVision, {model}: weights={weights} is not downloaded; "
                f"pretrained weights of this disk are taken by the row TorchVision, [{model}, true, stages]"
            )
        net = torchvision.models.get_model(_known(model), weights=None)
        self.split = split
        self.m = self._unwrapped(net, truncate) if unwrap else net
        if not unwrap:
            self._drop_head()

    @staticmethod
    def _unwrapped(net: nn.Module, truncate: int) -> nn.Sequential:
        """Return the net's layers in order, one level of nesting opened where the net is a single sequence."""
        layers = list(net.children())
        if layers and isinstance(layers[0], nn.Sequential):
            layers = [*layers[0].children(), *layers[1:]]
        return nn.Sequential(*(layers[:-truncate] if truncate else layers))

    def _drop_head(self) -> None:
        """Replace the classifier by the identity."""
        for name in ("head", "heads", "fc", "classifier"):
            if hasattr(self.m, name):
                setattr(self.m, name, nn.Identity())

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """(B, 3, H, W) -> (B, c2, H', W'), or with `split` the list of all steps."""
        if not self.split:
            return cast("Tensor", self.m(x))
        y = [x]
        for m in self.m.children():
            y.append(m(y[-1]))
        return y
