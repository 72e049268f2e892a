"""From a `ModelSpec` to modules, in two passes.

`plan_model` resolves every row, builds it on the meta device and runs a probe image through it: no memory is spent, and
every mismatch is found and told with the layer, the file and line, each input's shape and where it comes from, and what
would fit. `build_model` then makes the real modules from the plans. The builder knows no class by name.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from ultralytics.nn.modules.conv import default_activation
from ultralytics.nn.registry import Entry, Plan, RowContext
from ultralytics.nn.resolve import find_entry, resolve_nn_text, signature_text
from ultralytics.nn.spec import LayerSpec, ModelSpec, describe_sources, load_model_yaml, scaled_repeats
from ultralytics.utils.errors import ModelYAMLError
from ultralytics.utils.log import LOGGER

PROBE_SIZE = 640  # side of the probe image; on the meta device its size costs nothing
BN_EPS, BN_MOMENTUM = 1e-3, 0.03
# What constructors, rules and forwards raise when a row is wrong. Anything else is a bug and keeps its traceback.
ROW_ERRORS = (
    TypeError,
    ValueError,
    IndexError,
    KeyError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    RuntimeError,
)


@dataclass(frozen=True)
class PlannedLayer:
    """One row, resolved: the class, the constructor arguments of each copy, and what the probe image gave.

    `copies` has one entry for each chained copy; `output` is the meta output at `PROBE_SIZE`.
    """

    spec: LayerSpec
    entry: Entry
    copies: tuple[tuple[Any, ...], ...]
    repeats: int
    out_channels: int
    output: Any

    def construct(self) -> nn.Module:
        """Make the module on the current default device."""
        copies = [self.entry.cls(*args) for args in self.copies]
        return copies[0] if len(copies) == 1 else nn.Sequential(*copies)


def plan_model(spec: ModelSpec, ch: int = 3) -> list[PlannedLayer]:
    """Resolve all rows and run the probe; raise ModelYAMLError at the first row that does not fit."""
    planner = _Planner(spec, ch)
    with _activation(spec):
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
    with _activation(spec):
        for plan in plans:
            module = plan.construct()
            cls = plan.entry.cls
            facts = {
                "i": plan.spec.index,
                "f": plan.spec.route,
                "type": f"{cls.__module__}.{cls.__qualname__}",
                "np": sum(p.numel() for p in module.parameters()),
            }
            for name, value in facts.items():
                setattr(module, name, value)
            layers.append(module)
    set_batch_norm(layers)
    return nn.Sequential(*layers), spec.save


def parse_model(
    d: Mapping[str, Any] | str | Path, ch: int = 3, verbose: bool = True
) -> tuple[nn.Sequential, list[int]]:
    """Build from a YAML mapping or path (upstream's entry point); `verbose` logs the layer table."""
    spec = load_model_yaml(d)
    spec.warn_unused()
    plans = plan_model(spec, ch)
    layers, save = build_model(spec, ch, plans)
    if verbose:
        log_layers(layers, plans)
    return layers, save


def log_layers(layers: nn.Sequential, plans: Sequence[PlannedLayer]) -> None:
    """Log one line a layer: index, from, repeats, parameters, module, arguments."""
    LOGGER.info(f"{'':>3}{'from':>20}{'n':>3}{'params':>11}  {'module':<48}{'arguments'}")
    for plan, layer in zip(plans, layers, strict=True):
        args = str(list(plan.copies[0]))
        LOGGER.info(
            f"{plan.spec.index:>3}{plan.spec.route!s:>20}{plan.repeats:>3}{layer.np:>11}  {layer.type:<48}{args}"
        )


def set_batch_norm(modules: Iterable[nn.Module], eps: float = BN_EPS, momentum: float = BN_MOMENTUM) -> None:
    """Set epsilon and momentum of every plain 2-D batch norm below the given modules."""
    for module in modules:
        for norm in module.modules():
            if type(norm) is nn.BatchNorm2d:
                norm.eps, norm.momentum = eps, momentum


def feature_stride(plans: Sequence[PlannedLayer]) -> int:
    """Largest ratio of the probe image to a feature map."""
    maps = [p.output for p in plans if isinstance(p.output, Tensor) and p.output.dim() == 4]
    return max((round(PROBE_SIZE / m.shape[2]) for m in maps if m.shape[2]), default=1)


def _activation(spec: ModelSpec) -> contextlib.AbstractContextManager[None]:
    """The build context of the YAML's `activation`; without one, blocks of one model share a SiLU."""
    if spec.activation is None:
        return default_activation()
    try:
        act = resolve_nn_text(spec.activation)
    except ModelYAMLError as e:
        raise ModelYAMLError(f"{spec.origin}: activation: {e}") from None
    if not isinstance(act, nn.Module):
        raise ModelYAMLError(f"{spec.origin}: activation {spec.activation!r} is no module; write nn.ReLU() or alike")
    return default_activation(act)


class _Planner:
    """Goes down the rows with the probe's feature maps."""

    def __init__(self, spec: ModelSpec, ch: int) -> None:
        self.spec = spec
        self.image = torch.empty(1, ch, PROBE_SIZE, PROBE_SIZE, device="meta")
        self.done: list[PlannedLayer] = []

    def add(self, layer: LayerSpec) -> None:
        """Plan one row: find its class, check what it is fed, apply its rule, build and run it on the meta device."""
        entry = self._find(layer)
        row = self._context(layer)
        self._check_feed(layer, entry)
        inputs = self._inputs(layer)
        copies: list[tuple[Any, ...]] = []
        output: Any = None
        chained = 1
        while len(copies) < chained:
            plan = self._apply_rule(layer, entry, row)
            chained = 1 if plan.repeats_inside else row.repeats
            output = self._run(layer, entry, plan, inputs)
            out_channels = self._out_channels(layer, entry, plan, output)
            copies.append(plan.args)
            row, inputs = replace(row, in_channels=(out_channels,)), output
        self.done.append(PlannedLayer(layer, entry, tuple(copies), row.repeats, out_channels, output))

    def _find(self, layer: LayerSpec) -> Entry:
        try:
            return find_entry(layer.module)
        except ModelYAMLError as e:
            raise self.spec.error(layer, *str(e).splitlines()) from None

    def _context(self, layer: LayerSpec) -> RowContext:
        channels = tuple(self.image.shape[1] if i < 0 else self.done[i].out_channels for i in layer.inputs)
        try:
            args = tuple(resolve_nn_text(a) for a in layer.args)
        except ModelYAMLError as e:
            raise self.spec.error(layer, *str(e).splitlines()) from None
        return RowContext(channels, args, scaled_repeats(layer.repeats, self.spec.scale), self.spec.scale, self.spec.nc)

    def _check_feed(self, layer: LayerSpec, entry: Entry) -> None:
        """Hold a row's `from` against what its block takes: one map, or a list of maps."""
        takes_list = entry.multi_input or entry.is_head
        sources = ", ".join(self.spec.name(i) for i in layer.inputs)
        if takes_list and not layer.joined:
            need = "the list of its levels" if entry.is_head else "a list of inputs"
            raise self.spec.error(
                layer,
                f"takes {need}, but from is {layer.source[0]}",
                f"input: {sources}",
                f"write from as a list, such as [{layer.source[0]}, 4]",
            )
        if layer.joined and len(layer.source) > 1 and not takes_list and entry.rule is not None:
            raise self.spec.error(
                layer,
                f"takes one input, but from is {layer.route}",
                f"inputs: {sources}",
                "join them first with a Concat row, or name one layer",
            )
        if entry.is_head:
            self._check_levels(layer)
        if takes_list and layer.repeats > 1:
            raise self.spec.error(
                layer, f"repeats is {layer.repeats}, but its output cannot feed a second copy", "write 1"
            )

    def _check_levels(self, layer: LayerSpec) -> None:
        """A head is the last row, and its levels are different maps from fine to coarse."""
        if layer.index != len(self.spec.layers) - 1:
            raise self.spec.error(
                layer, "a head must be the last row", f"{len(self.spec.layers) - 1 - layer.index} row(s) follow"
            )
        outputs = [self.done[i].output if i >= 0 else self.image for i in layer.inputs]
        shapes = [_shape(o) for o in outputs]
        heights = [o.shape[2] for o in outputs if isinstance(o, Tensor) and o.dim() == 4]
        if len(heights) == len(outputs) and all(a > b for a, b in itertools.pairwise(heights)):
            return
        raise self.spec.error(
            layer,
            f"wrong levels: from is {layer.route}; each level must be coarser than the one before",
            describe_sources(self.spec, layer, shapes),
            "give each scale once, fine to coarse (strides 8, 16, 32), as the rows above build them",
        )

    def _inputs(self, layer: LayerSpec) -> Any:
        inputs = [self.image if i < 0 else self.done[i].output for i in layer.inputs]
        return inputs if layer.joined else inputs[0]

    def _apply_rule(self, layer: LayerSpec, entry: Entry, row: RowContext) -> Plan:
        """Constructor arguments and output channels; -1 channels where only the dry run can tell."""
        if entry.rule is None:
            own = not entry.cls.__module__.startswith(("torch.", "torchvision."))
            first = (list(row.in_channels) if layer.joined else row.c1,) if own else ()
            return Plan((*first, *row.args), -1)
        try:
            return entry.rule(row)
        except IndexError:
            self._fail_args(layer, entry, f"{len(row.args)} argument(s) are too few")
        except ROW_ERRORS as e:
            self._fail_args(layer, entry, str(e))

    def _fail_args(self, layer: LayerSpec, entry: Entry, problem: str) -> NoReturn:
        raise self.spec.error(
            layer,
            f"wrong arguments {list(layer.args)}: {_first_line(problem)}",
            f"signature: {signature_text(entry.cls)}",
            "the builder puts the input channels (and the repeats, where the block takes them) itself"
            if entry.rule is not None
            else "the row gives all of these arguments",
        )

    def _run(self, layer: LayerSpec, entry: Entry, plan: Plan, inputs: Any) -> Any:
        """Build one copy on the meta device and run it."""
        try:
            inspect.signature(entry.cls).bind(*plan.args)
            block = _ProbeBlock(entry.cls, plan.args)
        except ROW_ERRORS as e:
            self._fail_args(layer, entry, str(e) or type(e).__name__)
        try:
            return block.run(inputs)
        except ROW_ERRORS as e:
            self._fail_shapes(layer, block.module, str(e) or type(e).__name__, inputs)

    def _fail_shapes(self, layer: LayerSpec, module: nn.Module, problem: str, inputs: Any) -> NoReturn:
        shapes = [_shape(x) for x in (inputs if layer.joined else [inputs])]
        where = describe_sources(self.spec, layer, shapes)
        advice = self._advice(layer, module, inputs)
        raise self.spec.error(layer, f"does not fit its input: {_first_line(problem)}", where, advice)

    def _advice(self, layer: LayerSpec, module: nn.Module, inputs: Any) -> str:
        """Say what would fit: layers of the same map size for a join, the channels that the block was built for."""
        maps = [p.output for p in self.done]
        if layer.joined and len(inputs) > 1:
            same = [i for i, m in enumerate(maps) if isinstance(m, Tensor) and m.shape[2:] == inputs[0].shape[2:]]
            return (
                f"maps of {_size(inputs[0])}, as the first input: layers {same}; or resize with nn.Upsample or a stride"
            )
        wanted = next((n for n in map(_expected_channels, module.modules()) if n), 0)
        x = inputs[0] if layer.joined else inputs
        if wanted and isinstance(x, Tensor) and x.shape[1] != wanted:
            same = [i for i, m in enumerate(maps) if isinstance(m, Tensor) and m.shape[1] == wanted]
            some = f"layers with {wanted} channels: {same}" if same else f"no layer above has {wanted} channels"
            return f"it was built for {wanted} channels; {some}; or write {x.shape[1]} in its arguments"
        return f"signature: {signature_text(type(module))}"

    def _out_channels(self, layer: LayerSpec, entry: Entry, plan: Plan, output: Any) -> int:
        """Output channels, the rule's word held against the dry run's."""
        seen = output.shape[1] if isinstance(output, Tensor) and output.dim() > 1 else None
        if seen is None or entry.is_head:
            return plan.out_channels
        if plan.out_channels not in (-1, seen):
            raise self.spec.error(
                layer,
                f"its channel rule says {plan.out_channels} output channels, its forward gives {seen}",
                f"output: {_shape(output)}",
                "mend the rule at @register, or the row's arguments",
            )
        return seen


class _ProbeBlock:
    """A block on the meta device; one that needs values (`.item()`, `.tolist()`) goes to the CPU and sees zeros."""

    def __init__(self, cls: type, args: tuple[Any, ...]) -> None:
        self.cls, self.args = cls, args
        self.module = self._construct()

    def _construct(self) -> nn.Module:
        try:
            with torch.device("meta"):
                module: nn.Module = self.cls(*self.args)
        except RuntimeError as e:
            if "meta" not in str(e).lower():
                raise
            module = self.cls(*self.args)
        return module.eval()

    def run(self, inputs: Any) -> Any:
        """The output for meta inputs, on the meta device."""
        with torch.no_grad():
            try:
                with torch.device("meta"):
                    return self.module(inputs)
            except RuntimeError as e:
                if "meta" not in str(e).lower():
                    raise
                return _to_meta(self.cls(*self.args).eval()(_zeros(inputs)))


def _zeros(x: Any) -> Any:
    return [_zeros(v) for v in x] if isinstance(x, list) else torch.zeros(x.shape)


def _to_meta(x: Any) -> Any:
    if isinstance(x, Tensor):
        return x.to("meta")
    if isinstance(x, (list, tuple)):
        make = getattr(type(x), "_make", type(x))  # named tuples
        return make(_to_meta(v) for v in x)
    return x


def _expected_channels(module: nn.Module) -> int:
    """Input channels that a convolution, linear layer or norm was built for; 0 for other modules."""
    for name in ("in_channels", "in_features", "num_features"):
        value = getattr(module, name, None)
        if isinstance(value, int):
            return value
    return 0


def _first_line(text: str, limit: int = 160) -> str:
    line = text.strip().splitlines()[0] if text.strip() else "no details"
    return line if len(line) <= limit else line[: limit - 3] + "..."


def _size(x: Any) -> str:
    return "x".join(str(n) for n in x.shape[2:]) if isinstance(x, Tensor) else "?"


def _shape(x: Any) -> str:
    """Channels and size of a map at the probe size: `256x80x80`."""
    if isinstance(x, Tensor):
        return "x".join(str(n) for n in x.shape[1:])
    return f"{len(x)} outputs" if isinstance(x, (list, tuple)) else type(x).__name__
