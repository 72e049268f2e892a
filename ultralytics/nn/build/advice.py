"""What builds and is probably not meant: reported once a model has been built, each with its file and line."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence

from torch import Tensor

from ultralytics.nn.build.dry_run import ProbeBlock, size_text
from ultralytics.nn.build.plans import PlannedLayer
from ultralytics.nn.build.spec import LayerSpec, ModelSpec
from ultralytics.nn.registry import RowContext
from ultralytics.utils.log import LOGGER

MAX_MOVED = 4  # rows put in at once that are recognised
TIMES_DEFAULT = 4  # times its default, above which an argument that equals the channels is probably meant as these
RENUMBER = "rows put in or taken out move the indices below them; `yolo insert` renumbers them"


def warn_model(spec: ModelSpec, plans: Sequence[PlannedLayer]) -> None:
    """Log a warning for each layer that is not used, each join that a head reads as it is, and each suspicious row."""
    for layer, text in (*_unused(spec, plans), *_joins_at_head(spec, plans), *_arguments_like_channels(spec, plans)):
        LOGGER.warning(f"{spec.place(layer.line)}: {spec.name(layer.slot)} {text}")


def _unused(spec: ModelSpec, plans: Sequence[PlannedLayer]) -> Iterator[tuple[LayerSpec, str]]:
    """Layers whose output is not used; just below an input of the last row of the same size, that one has moved."""
    last = spec.layers[-1]
    sizes = {plan.spec.slot: size_text(plan.output) for plan in plans}
    for index in spec.unused:
        layer = spec.layers[index]
        near = [k for k in range(1, MAX_MOVED + 1) if layer.slot - k in last.inputs]
        moved = next((k for k in near if sizes.get(layer.slot - k) == sizes[layer.slot]), 0)
        text = "is not used: no later `from` names it"
        if moved and last.joined:
            above = f"layer {layer.slot - moved}, {'the row' if moved == 1 else f'{moved} rows'} above it"
            text += f"; {spec.name(last.slot)} reads {above}. Was that meant? {RENUMBER}"
        yield layer, text


def _joins_at_head(spec: ModelSpec, plans: Sequence[PlannedLayer]) -> Iterator[tuple[LayerSpec, str]]:
    """Inputs of the head that are joined maps without a convolution or norm behind them."""
    last = plans[-1]
    if not last.entry.is_head:
        return
    sources = {slot: plans[spec.position(slot)] for slot in last.spec.inputs if slot >= 0}
    shapes = [f"{_channels(plan)} (layer {slot})" for slot, plan in sources.items()]
    for slot, plan in sources.items():
        if plan.spec.joined and plan.entry.multi_input and not _has_parameters(plan):
            text = f"reads layer {slot} ({plan.spec.module}), joined maps without a convolution or norm behind them; "
            yield last.spec, f"{text}channels of its inputs: {', '.join(shapes)}. Was that meant? {RENUMBER}"


def _arguments_like_channels(spec: ModelSpec, plans: Sequence[PlannedLayer]) -> Iterator[tuple[LayerSpec, str]]:
    """Rows whose first argument is the number of channels, where their block takes something much smaller."""
    for plan in plans:
        parameters = list(inspect.signature(plan.entry.cls).parameters.values())
        channels, written = plan.copies[0][:1], plan.spec.args[:1]
        if len(parameters) < 2 or not channels or not written or plan.copies[0][1:2] != written:
            continue
        usual, name = parameters[1].default, parameters[1].name
        if type(usual) is not int or type(written[0]) is not int or written[0] <= TIMES_DEFAULT * usual:
            continue
        if channels[0] in (written[0], RowContext((), scale=spec.scale).scaled(written[0])):
            first = f"has {name}={written[0]} (default {usual}): that is its first argument; the {channels[0]} channels"
            yield plan.spec, f"{first} come from its input. Was that meant? Leave it out: {plan.spec.module}, []"


def _has_parameters(plan: PlannedLayer) -> bool:
    module = ProbeBlock(plan.entry.cls, plan.copies[0], plan.kwargs).module
    return next(module.parameters(), None) is not None


def _channels(plan: PlannedLayer) -> int:
    return int(plan.output.shape[1]) if isinstance(plan.output, Tensor) else plan.out_channels
