"""Detector families: what belongs to the head of a model, found by that head.

A family is its head block with the channel rule beside it, its criterion, its post-process and its defaults. Nothing
else in the package knows a head by name: networks, `Model`, training, validation, prediction and export ask
`family_of` for the family of a model's last layer. `docs/architecture.md` has "Adding a detector family".
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, cast

from torch import Tensor, nn

from ultralytics.cfg.keys import Trait
from ultralytics.models.utils.targets import Targets
from ultralytics.nn.build.names import find_entry
from ultralytics.nn.build.spec import load_model_yaml
from ultralytics.utils.errors import ConfigError, ModelYAMLError

if TYPE_CHECKING:
    from ultralytics.nn.yaml_model import YamlModel

ROLES = ("trainer", "validator", "predictor")
"""Classes that a family's package holds in its mapping `CLASSES`."""


class Criterion(Protocol):
    """The loss of a family: the head's output in training and the targets, to the total and its detached parts."""

    def __call__(self, preds: Any, targets: Targets) -> tuple[Tensor, Tensor]: ...


class PostOptions(NamedTuple):
    """Options of a post-process: thresholds in 0..1, and the class indices to keep (None: all).

    With `multi_label` a place may give a row for each of its classes above `conf`, as average precision wants it.
    """

    conf: float
    max_det: int
    classes: tuple[int, ...] | None = None
    iou: float = 0.7
    agnostic: bool = False
    multi_label: bool = False


class Scored(NamedTuple):
    """What a detector says of one image, before anything is selected: class logits (N, nc), boxes (N, 4).

    Boxes are cx, cy, w, h in 0..1 of the network input.
    """

    logits: Tensor
    boxes: Tensor


class ScoredPlaces(Protocol):
    """From a head and its output in evaluation for one image of (height, width) px to its places."""

    def __call__(self, head: nn.Module, output: Sequence[object], size: tuple[int, int]) -> Scored: ...


class Postprocess(Protocol):
    """From a head's output for an input (height, width) to rows (N, 6) of each image, best score first.

    A row is cx, cy, w, h in 0..1 of the network input, score, class.
    """

    def __call__(self, output: Any, size: tuple[int, int], options: PostOptions) -> list[Tensor]: ...


@dataclass(frozen=True)
class Family:
    """A detector (or classifier) family.

    Attributes:
        name: Its name, as messages and exported files give it.
        head: Class of the last layer; subclasses belong to the same family.
        network: Class that is built for a YAML with this head.
        task: Task of the family.
        criterion: Makes the loss for a network; None where the network class has its own `loss`.
        loss_names: Names of the parts of the loss, in their order.
        postprocess: Turns the head's output into rows; None where the head gives rows (B, K, 6) in evaluation.
        places: What the head says of each place of one image, which heat maps and the comparison of exports look at.
        geometry: How images meet the square of the network input: stretched, or letterboxed.
        package: Import path of the package with `CLASSES`: trainer, validator and predictor.
        arguments: Traits of arguments that act in this family, but not in every one (`Key.foreign`).
        defaults: Training arguments whose default differs in this family.
    """

    name: str
    head: type[nn.Module]
    network: type[YamlModel]
    task: str = "detect"
    criterion: Callable[[Any], Criterion] | None = None
    loss_names: tuple[str, ...] = ("loss",)
    postprocess: Postprocess | None = None
    places: ScoredPlaces | None = None
    geometry: Literal["stretch", "letterbox"] = "stretch"
    package: str = "ultralytics.models.rtdetr"
    arguments: Trait = Trait.MATCHING
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def classes(self) -> dict[str, type[Any]]:
        """Return trainer, validator and predictor by role; the package is imported at the first call."""
        classes = importlib.import_module(self.package).CLASSES
        return {role: classes[role] for role in ROLES}


class FamilyTable:
    """Families by name; a name and a head have one owner."""

    def __init__(self) -> None:
        self._families: dict[str, Family] = {}

    def add(self, family: Family) -> Family:
        """Add a family; raise ValueError when another one has its name or its head. The same may be added again."""
        path = _path(family.head)
        for other in self._families.values():
            same = (other.name == family.name, _path(other.head) == path)
            if any(same) and not all(same):
                raise ValueError(
                    f"family '{family.name}' with head {path}: '{other.name}' has the head {_path(other.head)}; "
                    "a name and a head have one family"
                )
        self._families[family.name] = family
        return family

    def of_head(self, head: type[nn.Module]) -> Family | None:
        """Return the family of a head class or of its nearest base class, None if there is none."""
        by_head = {family.head: family for family in self._families.values()}
        return next((by_head[base] for base in head.__mro__ if base in by_head), None)

    def of_head_name(self, name: str) -> Family | None:
        """Return the family of the head class of this name, as an exported file gives it; None if there is none."""
        named = next((family for family in self._families.values() if family.head.__name__ == name), None)
        if named is not None or not name:
            return named
        try:
            return self.of_head(find_entry(name).cls)
        except ModelYAMLError:  # a block of a user's file that is not loaded
            return None

    def named(self, name: str) -> Family:
        """Return a family by name; ConfigError lists the known ones."""
        if name not in self._families:
            raise ConfigError(f"no detector family '{name}'", f"families: {', '.join(sorted(self._families))}")
        return self._families[name]

    def networks(self) -> dict[str, type[YamlModel]]:
        """Return the network classes by the name that a checkpoint gives them."""
        return {family.network.checkpoint_name: family.network for family in self._families.values()}


FAMILIES = FamilyTable()


def register_family(family: Family) -> Family:
    """Register a family: a YAML that ends in its head is then built, trained, validated, run and exported as it."""
    return FAMILIES.add(family)


def family_of(network: nn.Module, default: str | None = None) -> Family:
    """Return the family of a network, by its last layer; ConfigError when it has none and there is no `default`."""
    layers = cast("nn.Sequential", network.model)
    return family_of_head(type(layers[-1]), default)


def family_of_head(head: type[nn.Module], default: str | None = None) -> Family:
    """Return the family of a head class; ConfigError when it has none and there is no `default`."""
    family = FAMILIES.of_head(head)
    if family is not None:
        return family
    if default is None:
        raise ConfigError(f"{head.__name__}: no detector family has this head", "add it by register_family")
    return FAMILIES.named(default)


def family_of_yaml(cfg: str | Path | Mapping[str, Any], scale: str | None = None) -> Family | None:
    """Return the family of a model YAML, by the module of its last row; None where that row names no known head."""
    try:
        head = find_entry(load_model_yaml(cfg, scale=scale).layers[-1].module).cls
    except ModelYAMLError:  # building it raises the error, with the place in the file
        return None
    return FAMILIES.of_head(head)


def find_family(model: Any) -> Family | None:
    """Return the family of a network or of what runs one, which may be an exported file; None where it is not known."""
    metadata = getattr(model, "metadata", None)
    if metadata is not None:
        return FAMILIES.of_head_name(metadata.head)
    network = getattr(model, "model", None)  # of an AutoBackend the network, of a network its layers
    layers = getattr(network, "model", network)
    return FAMILIES.of_head(type(layers[-1])) if isinstance(layers, nn.Sequential) and len(layers) else None


def letterboxes(model: Any, asked: bool | None) -> bool:
    """Whether images are letterboxed for a network or what runs one: as asked, else (None) as its family wants it."""
    if asked is not None:
        return asked
    family = find_family(model)
    return family is not None and family.geometry == "letterbox"


def _path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
