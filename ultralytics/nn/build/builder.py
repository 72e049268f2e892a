"""From a `ModelSpec` to modules, in two passes.

`plan_model` resolves every row, builds it on the meta device and runs a probe image through it: no memory is spent, and
every mismatch is reported with the layer, the file and line, each input's shape and where it comes from, and what
would fit. `build_model` then makes the real modules from the plans. The builder does not know any class by name.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, cast

import torch
from torch import Tensor, nn

from ultralytics.nn.argument_names import by_own_names
from ultralytics.nn.build.advice import warn_model
from ultralytics.nn.build.budget import MAX_BUILT, MAX_PLANNED, MAX_ROWS, MAX_TENSORS, ConstructionBudget
from ultralytics.nn.build.census import origin_of_name
from ultralytics.nn.build.dry_run import ProbeBlock, expected_channels, matching, shape_text, size_text
from ultralytics.nn.build.names import find_entry, resolve_nn_text, signature_text
from ultralytics.nn.build.plans import PROBE_SIZE, PlannedLayer
from ultralytics.nn.build.spec import (
    SLOTS,
    LayerSpec,
    ModelSpec,
    check_modules,
    describe_sources,
    load_model_yaml,
    scaled_repeats,
)
from ultralytics.nn.modules.conv import default_activation
from ultralytics.nn.registry import MODULE_ERRORS, REGISTRY, Entry, Plan, RowContext
from ultralytics.utils.errors import ConfigError, ImageSizeError, ModelYAMLError
from ultralytics.utils.log import LOGGER

BN_EPS, BN_MOMENTUM = 1e-3, 0.03


def plan_model(spec: ModelSpec, ch: int = 3) -> list[PlannedLayer]:
    """Resolve all rows and run the probe; raise ModelYAMLError at the first row that does not fit.

    The probe has another size where a backbone does not take `PROBE_SIZE`.
    """
    check_modules(spec)
    if len(spec.layers) > MAX_ROWS:
        raise ModelYAMLError(f"{spec.origin}: it has {len(spec.layers):,} rows; at most {MAX_ROWS:,} are possible")
    try:
        return _plan_at(spec, ch, PROBE_SIZE)
    except ImageSizeError as e:
        return _plan_at(spec, ch, e.side)


def _plan_at(spec: ModelSpec, ch: int, side: int) -> list[PlannedLayer]:
    """Plan with a probe image of one side; ImageSizeError where a block takes another size than `PROBE_SIZE`."""
    planner = _Planner(spec, ch, side)
    with ConstructionBudget(MAX_PLANNED, MAX_TENSORS), _activation(spec):
        for layer in spec.layers:
            planner.add(layer)
    return planner.done


def build_model(
    spec: ModelSpec, ch: int = 3, plans: Sequence[PlannedLayer] | None = None
) -> tuple[nn.Sequential, list[int]]:
    """Build the layers of a spec for `ch` input channels; return them and the indices of the outputs to keep.

    Each layer carries `i` (index), `f` (from), `type` (class path) and `np` (parameter count).
    """
    plans = plan_model(spec, ch) if plans is None else plans
    layers = []
    with ConstructionBudget(MAX_BUILT, MAX_TENSORS), _activation(spec):
        for plan in plans:
            module = plan.construct()
            cls = plan.entry.cls
            attributes = {
                "i": plan.spec.slot,
                "f": plan.spec.route,
                "type": f"{cls.__module__}.{cls.__qualname__}",
                "np": sum(p.numel() for p in module.parameters()),
            }
            if fills_slots(plan):
                attributes["slots"] = SLOTS
            for name, value in attributes.items():
                setattr(module, name, value)
            layers.append(module)
    set_batch_norm(layers)
    return nn.Sequential(*layers), spec.save


def parse_model(
    d: Mapping[str, Any] | str | Path, ch: int = 3, verbose: bool = True
) -> tuple[nn.Sequential, list[int]]:
    """Build from a YAML mapping or path (upstream's entry point); `verbose` logs the layer table."""
    spec = load_model_yaml(d)
    plans = plan_model(spec, ch)
    layers, save = build_model(spec, ch, plans)
    if verbose:
        log_layers(layers, plans)
    warn_model(spec, plans)
    return layers, save


def log_layers(layers: nn.Sequential, plans: Sequence[PlannedLayer]) -> None:
    """Log one line a layer: index, from, repeats, parameters, module, arguments."""
    LOGGER.info(f"{'':>3}{'from':>20}{'n':>3}{'params':>11}  {'module':<48}{'arguments'}")
    for plan, layer in zip(plans, layers, strict=True):
        args = ", ".join([*map(repr, plan.copies[0]), *(f"{k}={v!r}" for k, v in plan.kwargs.items())])
        LOGGER.info(
            f"{plan.spec.slot:>3}{plan.spec.route!s:>20}{plan.repeats:>3}{layer.np:>11}  {layer.type:<48}[{args}]"
        )


def set_batch_norm(modules: Iterable[nn.Module], eps: float = BN_EPS, momentum: float = BN_MOMENTUM) -> None:
    """Set epsilon and momentum of every plain 2-D batch norm below the given modules."""
    for module in modules:
        for norm in module.modules():
            if type(norm) is nn.BatchNorm2d:
                norm.eps, norm.momentum = eps, momentum


def feature_stride(plans: Sequence[PlannedLayer]) -> int:
    """Largest ratio of the probe image to a feature map."""
    outputs = [o for p in plans for o in (cast("Sequence[object]", p.output) if fills_slots(p) else [p.output])]
    maps = [o for o in outputs if isinstance(o, Tensor) and o.dim() == 4]
    side = plans[0].probe if plans else PROBE_SIZE
    return max((round(side / m.shape[2]) for m in maps if m.shape[2]), default=1)


def fills_slots(plan: PlannedLayer) -> bool:
    """Whether a layer is a one-row backbone, whose maps have a slot each."""
    return plan.spec.index == 0 and plan.spec.shift > 0


def _activation(spec: ModelSpec) -> contextlib.AbstractContextManager[None]:
    """The build context of the YAML's `activation`; without one, blocks of one model share a SiLU."""
    if spec.activation is None:
        return default_activation()
    try:
        act = resolve_nn_text(spec.activation)
    except ModelYAMLError as e:
        raise ModelYAMLError(f"{spec.origin}: activation: {e}") from None
    if not isinstance(act, nn.Module):
        raise ModelYAMLError(
            f"{spec.origin}: activation {spec.activation!r} is not a module; use for example nn.ReLU()"
        )
    return default_activation(act)


class _Planner:
    """Plans row by row with the feature maps of the probe."""

    def __init__(self, spec: ModelSpec, ch: int, side: int) -> None:
        if isinstance(ch, bool) or not isinstance(ch, int) or ch < 1:
            raise ConfigError(f"ch={ch!r}: image channels are an integer, at least 1")
        self.spec = spec
        self.image = torch.empty(1, ch, side, side, device="meta")
        self.side = side
        self.done: list[PlannedLayer] = []
        self.outputs: list[Any] = []  # by slot, None where a one-row backbone has no map
        self.channels: list[int] = []

    def add(self, layer: LayerSpec) -> None:
        """Plan one row: find its class, check what it is fed, apply its rule, build and run it on the meta device."""
        entry = self._find(layer)
        row = self._context(layer, entry)
        self._check_feed(layer, entry)
        inputs: object = self._inputs(layer)
        copies: list[tuple[Any, ...]] = []
        output: object = None
        chained = 1
        while len(copies) < chained:
            plan = self._apply_rule(layer, entry, row)
            entry = self._block_of(plan, entry)
            chained = 1 if plan.repeats_inside else row.repeats
            output = self._run(layer, entry, plan, row, inputs)
            out_channels = self._out_channels(layer, entry, plan, output)
            copies.append(plan.args)
            row, inputs = replace(row, in_channels=(out_channels,)), output
        keywords = row.kwargs if plan.kwargs is None else plan.kwargs
        self.done.append(
            PlannedLayer(layer, entry, tuple(copies), row.repeats, out_channels, output, keywords, self.side)
        )
        self._keep(self.done[-1])

    def _keep(self, plan: PlannedLayer) -> None:
        """Give the output its slot; the maps of a one-row backbone take the last of five."""
        if not fills_slots(plan):
            self.outputs.append(plan.output)
            self.channels.append(plan.out_channels)
            return
        maps = plan.output if isinstance(plan.output, (list, tuple)) else []
        if not 1 <= len(maps) <= SLOTS or not all(isinstance(m, Tensor) and m.dim() == 4 for m in maps):
            problem = f"a one-row backbone gives a list of 1 to {SLOTS} maps, not {shape_text(plan.output)}"
            raise self.spec.error(plan.spec, problem, "return the maps as a list, the finest first")
        empty = SLOTS - len(maps)
        self.outputs += [None] * empty + list(maps)
        self.channels += [-1] * empty + [m.shape[1] for m in maps]

    @staticmethod
    def _block_of(plan: Plan, entry: Entry) -> Entry:
        """The entry that is built: the row's, or the one that its rule names."""
        return (REGISTRY.get(plan.block) or entry) if plan.block else entry

    def _find(self, layer: LayerSpec) -> Entry:
        try:
            return find_entry(layer.module)
        except ModelYAMLError as e:
            raise self.spec.error(layer, *str(e).splitlines()) from None

    def _context(self, layer: LayerSpec, entry: Entry) -> RowContext:
        self._check_slots(layer)
        channels = tuple(self.image.shape[1] if i < 0 else self.channels[i] for i in layer.inputs)
        try:
            args = tuple(resolve_nn_text(a) for a in layer.args)
            kwargs = {name: resolve_nn_text(a) for name, a in layer.kwargs.items()}
            kwargs = by_own_names(entry.cls, kwargs)
        except ModelYAMLError as e:
            raise self.spec.error(layer, *str(e).splitlines()) from None
        except TypeError as e:
            self._fail_args(layer, entry, str(e))
        spec = self.spec
        return RowContext(
            channels,
            args,
            scaled_repeats(layer.repeats, spec.scale),
            spec.scale,
            spec.nc,
            spec.scale_name,
            spec.data,
            tuple(row.module for row in spec.layers[: layer.index]),
            kwargs,
        )

    def _check_slots(self, layer: LayerSpec) -> None:
        """A `from` names a map that the one-row backbone has."""
        for i in layer.inputs:
            if 0 <= i < len(self.outputs) and self.outputs[i] is None:
                first = next(k for k, output in enumerate(self.outputs) if output is not None)
                problem = f"from {i} names an empty slot: the backbone has {SLOTS - first} maps"
                raise self.spec.error(layer, problem, f"its maps are layers {first} to {SLOTS - 1}, the coarsest last")

    def _check_feed(self, layer: LayerSpec, entry: Entry) -> None:
        """Compare the `from` of a row with what its block takes: one map, or a list of maps."""
        takes_list = entry.multi_input or entry.is_head
        sources = "input: " + ", ".join(self.spec.name(i) for i in layer.inputs)
        gets_list = layer.joined or not isinstance(self._inputs(layer), Tensor)
        if takes_list and not gets_list:
            need = "the list of its levels" if entry.is_head else "a list of inputs"
            problem = f"takes {need}, but from is {layer.source[0]}"
            raise self.spec.error(layer, problem, sources, f"write from as a list, such as [{layer.source[0]}, 4]")
        if layer.joined and not takes_list and entry.rule is not None:
            problem = f"takes one input, but from is {layer.route}"
            raise self.spec.error(layer, problem, sources, "join them first with a Concat row, or name one layer")
        if entry.is_head:
            self._check_levels(layer)
        if takes_list and layer.repeats > 1:
            problem = f"repeats is {layer.repeats}, but its output cannot feed a second copy"
            raise self.spec.error(layer, problem, "write 1")

    def _check_levels(self, layer: LayerSpec) -> None:
        """A head is the last row, and its levels are different maps from fine to coarse."""
        after = len(self.spec.layers) - 1 - layer.index
        if after:
            raise self.spec.error(layer, "a head must be the last row", f"{after} row(s) follow")
        outputs = self._outputs_above(layer)
        heights = [o.shape[2] for o in outputs if isinstance(o, Tensor) and o.dim() == 4]
        if len(heights) == len(outputs) and all(a > b for a, b in itertools.pairwise(heights)):
            return
        raise self.spec.error(
            layer,
            f"wrong levels: from is {layer.route}; each level must be coarser than the one before",
            describe_sources(self.spec, layer, [shape_text(o) for o in outputs]),
            "give each scale once, fine to coarse (strides 8, 16, 32), as the rows above build them",
        )

    def _outputs_above(self, layer: LayerSpec) -> list[object]:
        return [self.image if i < 0 else self.outputs[i] for i in layer.inputs]

    def _inputs(self, layer: LayerSpec) -> object:
        inputs = self._outputs_above(layer)
        return inputs if layer.joined else inputs[0]

    def _apply_rule(self, layer: LayerSpec, entry: Entry, row: RowContext) -> Plan:
        """Constructor arguments and output channels; -1 channels where only the dry run determines them."""
        if entry.rule is None:
            first = () if _is_torch_class(entry.cls) else (list(row.in_channels) if layer.joined else row.c1,)
            return Plan((*first, *row.args), -1)
        try:
            return entry.rule(row)
        except MODULE_ERRORS as e:
            few = isinstance(e, IndexError) or "not enough values" in str(e)
            self._fail_args(layer, entry, f"{len(row.args)} argument(s) are too few" if few else _first_line(e))

    def _fail_args(self, layer: LayerSpec, entry: Entry, problem: str, plan: Plan | None = None) -> NoReturn:
        """Arguments that the constructor or the rule refuses: show the signature, and the call if it was reached."""
        named = plan.kwargs if plan is not None and plan.kwargs is not None else layer.kwargs
        shown = [*map(repr, plan.args if plan else ()), *(f"{k}={v!r}" for k, v in named.items())]
        call = "" if plan is None else f", called as {entry.cls.__name__}({', '.join(shown)})"
        raise self.spec.error(
            layer,
            f"wrong arguments {[*layer.args, *(f'{k}={v}' for k, v in layer.kwargs.items())]}: {problem}",
            f"signature: {signature_text(entry.cls)}{call}",
            _argument_hint(layer, entry),
        )

    def _run(self, layer: LayerSpec, entry: Entry, plan: Plan, row: RowContext, inputs: object) -> object:
        """Build one copy on the meta device and run it."""
        try:
            named = row.kwargs if plan.kwargs is None else plan.kwargs
            inspect.signature(entry.cls).bind(*plan.args, **named)
            block = ProbeBlock(entry.cls, plan.args, named)
        except MODULE_ERRORS as e:
            self._fail_args(layer, entry, _first_line(e), plan)
        if empty := block.empty_parameter():
            self._fail_args(layer, entry, f"parameter {empty}", plan)
        if entry.is_head:
            self._check_classes(layer, block.module)
        try:
            output = block.run(inputs)
        except ImageSizeError as e:
            if self.side == PROBE_SIZE:
                raise
            self._fail_shapes(layer, entry, block.module, _first_line(e), inputs)
        except MODULE_ERRORS as e:
            self._fail_shapes(layer, entry, block.module, _first_line(e), inputs)
        if isinstance(output, Tensor) and output.numel() == 0:
            self._fail_shapes(layer, entry, block.module, f"its output {shape_text(output)} is empty", inputs)
        return output

    def _check_classes(self, layer: LayerSpec, head: nn.Module) -> None:
        """A head has the model's class count, by which labels are read and losses computed."""
        built = getattr(head, "nc", self.spec.nc)
        if built != self.spec.nc:
            problem = f"it is built for {built} classes, but the model's nc is {self.spec.nc}"
            raise self.spec.error(layer, problem, "write nc in the row, in place of the number")

    def _fail_shapes(self, layer: LayerSpec, entry: Entry, module: nn.Module, problem: str, inputs: object) -> NoReturn:
        parts = cast("Sequence[object]", inputs) if layer.joined else [inputs]
        shapes = [shape_text(x) for x in parts]
        where = describe_sources(self.spec, layer, shapes)
        advice = self._advice(entry, module, parts)
        raise self.spec.error(layer, f"does not fit its input: {problem}", where, advice)

    def _advice(self, entry: Entry, module: nn.Module, inputs: Sequence[object]) -> str:
        """Say what would fit: maps of one size for a join, the channels that the block was built for."""
        maps = self.outputs
        first = inputs[0]
        if len({size_text(x) for x in inputs}) > 1 and not entry.is_head and isinstance(first, Tensor):
            same = matching(maps, 2, None, tuple(first.shape[2:]))
            size = f"{size_text(first)}, as the first input"
            return f"maps of {size}: layers {same}; or resize with nn.Upsample or a stride"
        wanted = expected_channels(module)
        if wanted and isinstance(first, Tensor) and first.shape[1] != wanted:
            same = matching(maps, 1, 2, (wanted,))
            some = f"layers with {wanted} channels: {same}" if same else f"no layer above has {wanted} channels"
            return f"it was built for {wanted} channels; {some}; or write {first.shape[1]} in its arguments"
        return f"signature: {signature_text(type(module))}"

    def _out_channels(self, layer: LayerSpec, entry: Entry, plan: Plan, output: object) -> int:
        """Output channels, those of the rule compared with those of the dry run."""
        seen = output.shape[1] if isinstance(output, Tensor) and output.dim() > 1 else None
        if seen is None or entry.is_head:
            return plan.out_channels
        if plan.out_channels not in (-1, seen):
            raise self.spec.error(
                layer,
                f"its channel rule says {plan.out_channels} output channels, its forward gives {seen}",
                f"output: {shape_text(output)}",
                "fix the rule at @register, or the arguments of the row",
            )
        return seen


def _argument_hint(layer: LayerSpec, entry: Entry) -> str:
    """Say how arguments of a row are written, for one that its block does not take."""
    if entry.is_head and layer.args and isinstance(layer.args[0], str) and layer.args[0] != "nc":
        return f"the class count of a head is written nc, not {layer.args[0]:.40}"
    for word in (arg.partition("_")[2] for arg in layer.args if isinstance(arg, str)):
        if word and (origin := origin_of_name(word) or origin_of_name(f"C2f_{word}")):
            return f"{word} is {origin}"
    if entry.rule is None and _is_torch_class(entry.cls):
        return "the row gives all arguments, the input channels too"
    return "the row leaves out the input channels (and the repeats, where the block takes them)"


def _is_torch_class(cls: type) -> bool:
    """Whether a class is torch's own: nothing is put before its arguments."""
    return cls.__module__.startswith(("torch.", "torchvision."))


def _first_line(error: Exception | str, limit: int = 160) -> str:
    """The first line of a message, shortened; torch's own can be pages long."""
    text = str(error).strip() or type(error).__name__
    line = text.splitlines()[0]
    return line if len(line) <= limit else line[: limit - 3] + "..."
