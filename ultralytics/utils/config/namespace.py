"""The object that carries the arguments of a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any, TypeVar

_Self = TypeVar("_Self", bound="IterableSimpleNamespace")


class IterableSimpleNamespace(SimpleNamespace):
    """A namespace that iterates over (key, value) pairs and prints as `key=value` lines.

    `user_keys` names the keys that the user gave. It is kept beside the values, so `vars()`, iteration, equality and
    saved files do not show it; copies and pickles keep it. A frozen namespace refuses writes.

    >>> args = IterableSimpleNamespace(lr0=0.01, epochs=3)
    >>> dict(args), args.get("batch", 16)
    ({'lr0': 0.01, 'epochs': 3}, 16)
    >>> args.replace(epochs=5).epochs, args.epochs
    (5, 3)
    """

    __slots__ = ("_frozen", "user_keys")
    _frozen: bool
    user_keys: frozenset[str]

    def __init__(self, **kwargs: Any) -> None:
        object.__setattr__(self, "_frozen", False)
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

    def __setattr__(self, name: str, value: Any) -> None:
        self._refuse_if_frozen(name)
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        self._refuse_if_frozen(name)
        object.__delattr__(self, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), dict(vars(self)), self.user_keys, self._frozen)

    def get(self, key: str, default: Any = None) -> Any:
        """Value of a key, or the default where there is no such key."""
        return vars(self).get(key, default)

    def replace(self: _Self, **changes: Any) -> _Self:
        """Return a copy with some values changed; it is frozen if this one is, and has the same `user_keys`."""
        return _rebuild(type(self), {**vars(self), **self._check(changes)}, self.user_keys, self._frozen)

    def without(self: _Self, keys: Iterable[str], **changes: Any) -> _Self:
        """Return a copy as `replace` does, in which these keys do not count as given by the user."""
        return _rebuild(type(self), {**vars(self), **self._check(changes)}, self.user_keys - set(keys), self._frozen)

    def frozen(self: _Self) -> _Self:
        """Return a copy that refuses writes with an AttributeError."""
        return _rebuild(type(self), dict(vars(self)), self.user_keys, frozen=True)

    def writable(self: _Self) -> _Self:
        """Return a copy that can be written to."""
        return _rebuild(type(self), dict(vars(self)), self.user_keys)

    def _check(self, changes: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the values of `replace` in their stored form; a subclass that knows its keys validates them."""
        return changes

    def _refuse_if_frozen(self, name: str) -> None:
        if self._frozen:
            raise AttributeError(f"these arguments are frozen: use args.replace({name}=...), which returns a copy")


def _rebuild(kind: type[_Self], values: Mapping[str, Any], user_keys: frozenset[str], frozen: bool = False) -> _Self:
    new = kind(**values)
    new.user_keys = user_keys
    object.__setattr__(new, "_frozen", frozen)
    return new
