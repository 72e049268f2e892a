"""From a name in a model YAML to a class, and from a string such as `nn.ReLU()` to a module: by table and syntax tree.

Names are those of the registry, of `torch.nn` (as `nn.X`) and of `torchvision.ops`. Nothing is evaluated.
"""

from __future__ import annotations

import ast
import difflib
import inspect
from collections.abc import Iterable, Iterator
from types import ModuleType

from torch import nn

from ultralytics.nn.build.budget import ConstructionBudget
from ultralytics.nn.build.census import origin_of_name
from ultralytics.nn.modules.backbones.timm_rows import INSTALL, MODEL_NAME, has_timm, similar_models, timm_entry
from ultralytics.nn.registry import MODULE_ERRORS, REGISTRY, Entry, Plan, RowContext, scaled_conv
from ultralytics.utils.errors import ModelYAMLError
from ultralytics.utils.user_modules import file_with_class

MAX_TEXT = 1000  # characters of a string that is a module
MAX_ELEMENTS, MAX_PARTS = 10_000_000, 1_000  # numbers and tensors of a module that a string makes
TORCH_PREFIXES = ("nn.", "torch.nn.")
VISION_PREFIX = "torchvision.ops."


def _own_channels(row: RowContext) -> Plan:
    """`[...]` -> (c1,): a norm over its input's channels."""
    return Plan((row.c1,), row.c1)


REGISTRY.add("nn.BatchNorm2d", Entry(nn.BatchNorm2d, _own_channels))
REGISTRY.add("nn.ConvTranspose2d", Entry(nn.ConvTranspose2d, scaled_conv))
REGISTRY.add("Silence", Entry(nn.Identity, None))  # its name in YAMLs of the first YOLOv9


def find_entry(name: str) -> Entry:
    """Return the registry entry of a module name; classes of torch and torchvision come without a rule.

    A name that no class has may be a model of timm, where that is installed.

    Raises ModelYAMLError, with the nearest names, when there is none.
    """
    name = name.removeprefix("torch.") if name.startswith("torch.nn.") else name
    entry = REGISTRY.get(name)
    if entry is not None:
        return entry
    owner: ModuleType | None = None
    short = name
    if name.startswith("nn."):
        owner, short = nn, name.removeprefix("nn.")
    elif name.startswith(VISION_PREFIX):
        import torchvision

        owner = torchvision.ops
        short = name.removeprefix(VISION_PREFIX)
    if owner is None:
        entry = timm_entry(name)
        if entry is None:
            raise ModelYAMLError(_unknown(name))
        return entry
    cls = getattr(owner, short, None)
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        near = difflib.get_close_matches(short, _module_names(owner), n=3)
        prefix = name.removesuffix(short)
        raise ModelYAMLError(_unknown(name, [prefix + n for n in near]))
    return Entry(cls, None)


def nearest_key(key: str, known: Iterable[str], rows: object) -> str | None:
    """Return the name that a key of a model YAML looks like: a known key, or a variable that a row names.

    >>> nearest_key("node_mod", ["nc"], [[[-1, 3, "node_mode", [256]]]]), nearest_key("extra", ["nc"], [])
    ('node_mode', None)
    """
    names = {*known, *_identifiers(rows)} - {key}
    near = difflib.get_close_matches(key, sorted(names), n=1)
    return near[0] if near else None


def _identifiers(rows: object) -> Iterator[str]:
    """Strings of nested lists that could name a variable: identifiers that are not modules."""
    if isinstance(rows, list):
        for row in rows:
            yield from _identifiers(row)
    elif isinstance(rows, str) and rows.isidentifier() and rows not in REGISTRY:
        yield rows


def library_names() -> list[str]:
    """Names of the classes of torch and torchvision that a row may name, with their prefixes."""
    import torchvision

    return [f"nn.{n}" for n in _module_names(nn)] + [f"{VISION_PREFIX}{n}" for n in _module_names(torchvision.ops)]


def _module_names(owner: ModuleType) -> list[str]:
    return [n for n in dir(owner) if isinstance(getattr(owner, n), type) and issubclass(getattr(owner, n), nn.Module)]


def _unknown(name: str, near: list[str] | None = None) -> str:
    if file := file_with_class(name):
        problem = f"unknown module '{name}': {file} has a class of this name, which is not registered"
        return f"{problem}\nwrite @register above it, and in the file: from ultralytics.nn import register"
    known = origin_of_name(name)
    if known:  # a name of its own, which those that look like it do not mean
        return f"unknown module '{name}' ({known})\nbring it as a file of yours: {_OWN}"
    near = (similar_models(name) or REGISTRY.nearest(name)) if near is None else near
    if name in _module_names(nn):
        near = [f"nn.{name}", *near[:2]]
    hint = f"did you mean {', '.join(near)}?" if near else "no registered name is similar;"
    of_timm = not has_timm() and MODEL_NAME.fullmatch(name) and "_" in name
    origin = f" (a backbone of timm? {INSTALL})" if of_timm else ""
    return f"unknown module '{name}'{origin}\n{hint} own modules: {_OWN}"


_OWN = "@register on the class, then modules=FILE.py"


def resolve_nn_text(value: object) -> object:
    """Turn `nn.X` into that class and `nn.X(1, a=2)` into an instance; lists item by item; other values stay.

    >>> resolve_nn_text("nn.LeakyReLU(0.1)")
    LeakyReLU(negative_slope=0.1)
    >>> resolve_nn_text("nearest")
    'nearest'

    Raises ModelYAMLError for a string that starts with these prefixes but is neither.
    """
    if isinstance(value, list):
        return [resolve_nn_text(v) for v in value]
    if not isinstance(value, str) or not value.startswith(TORCH_PREFIXES):
        return value
    problem = f"'{value:.100}' is neither nn.Name nor nn.Name(literals)"
    try:
        tree = ast.parse(value.removeprefix("torch.")[:MAX_TEXT], mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ModelYAMLError(problem) from None
    target = tree.func if isinstance(tree, ast.Call) else tree
    if not (isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name)):
        raise ModelYAMLError(problem)
    cls = find_entry(f"nn.{target.attr}").cls
    if not isinstance(tree, ast.Call):
        return cls
    try:
        args = [ast.literal_eval(a) for a in tree.args]
        kwargs = {k.arg: ast.literal_eval(k.value) for k in tree.keywords if k.arg}
        with ConstructionBudget(MAX_ELEMENTS, MAX_PARTS):
            instance: object = cls(*args, **kwargs)
        return instance
    except MODULE_ERRORS as e:
        raise ModelYAMLError(f"{problem}: {(str(e).splitlines() or [type(e).__name__])[0]:.160}") from None


def signature_text(cls: type) -> str:
    """The constructor's signature without annotations: `Conv(c1, c2, k=1, s=1)`."""
    parameters = inspect.signature(cls).parameters.values()
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in parameters]
    return f"{cls.__name__}{inspect.Signature(bare)}"
