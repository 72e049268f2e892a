"""The object that carries the arguments of a run."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any


class IterableSimpleNamespace(SimpleNamespace):
    """A namespace that iterates over (key, value) pairs and prints as `key=value` lines.

    `user_keys` names the keys that the user gave. It is kept beside the values, so `vars()`, iteration, equality and
    saved files do not show it; copies and pickles keep it.

    >>> args = IterableSimpleNamespace(lr0=0.01, epochs=3)
    >>> dict(args), args.get("batch", 16)
    ({'lr0': 0.01, 'epochs': 3}, 16)
    """

    __slots__ = ("user_keys",)
    user_keys: frozenset[str]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.user_keys = frozenset()

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return iter(vars(self).items())

    def __str__(self) -> str:
        return "\n".join(f"{k}={v}" for k, v in vars(self).items())

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"'{type(self).__name__}' has no argument '{name}'; ultralytics/cfg/default.yaml lists the arguments"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), dict(vars(self)), self.user_keys)

    def get(self, key: str, default: Any = None) -> Any:
        """Value of a key, or the default where there is no such key."""
        return vars(self).get(key, default)


def _rebuild(
    kind: type[IterableSimpleNamespace], values: dict[str, Any], user_keys: frozenset[str]
) -> IterableSimpleNamespace:
    new = kind(**values)
    new.user_keys = user_keys
    return new
