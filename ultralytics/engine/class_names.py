"""Class names of a call against those of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ultralytics.utils.checks import nearest
from ultralytics.utils.errors import ConfigError


def in_another_order(model_names: Mapping[int, str], data_names: Mapping[int, str]) -> bool:
    """Whether both have the same class names with other ids.

    >>> in_another_order({0: "cat", 1: "dog"}, {0: "dog", 1: "cat"}), in_another_order({0: "cat"}, {0: "cat"})
    (True, False)
    """
    same = sorted(model_names.values()) == sorted(data_names.values())
    return same and dict(model_names) != dict(data_names)


def as_classes(classes: int | Sequence[int | str] | None, names: Mapping[int, str]) -> list[int] | None:
    """Return the class filter as a list of ids, None for no filter. Raises ConfigError for a name that no class has."""
    if classes is None:
        return None
    listed = classes if isinstance(classes, Sequence) else [classes]
    return [_class_id(c, names) if isinstance(c, str) else int(c) for c in listed]


def _class_id(name: str, names: Mapping[int, str]) -> int:
    """The id of a class name; the case of letters counts only where it makes a difference."""
    same = [i for i, known in names.items() if known == name]
    same = same or [i for i, known in names.items() if known.lower() == name.lower()]
    if len(same) != 1:
        near = nearest(name, names.values())
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(list(names.values())[:20])}"
        raise ConfigError(f"classes={name}: {'several classes have' if same else 'no class has'} this name", hint)
    return same[0]
