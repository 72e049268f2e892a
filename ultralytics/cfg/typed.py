"""The base of `Args`: a namespace whose attributes are known to a type checker, and validated when replaced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ultralytics.cfg.schema import EXTRA_KEYS, KEYS
from ultralytics.utils.config.namespace import IterableSimpleNamespace
from ultralytics.utils.errors import UnknownArgumentError


class TypedNamespace(IterableSimpleNamespace):
    """A namespace of arguments: a name without annotation is an error of the type checker."""

    if TYPE_CHECKING:  # SimpleNamespace declares these three, which accept every name
        __getattribute__: None  # type: ignore[assignment, misc]
        __getattr__: None  # type: ignore[assignment, misc]
        __setattr__: None  # type: ignore[assignment, misc]

    def _check(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values in their stored form.

        Raises:
            UnknownArgumentError: a name that neither the table nor this namespace has.
            ConfigError: a value outside its bounds (ConfigTypeError: of the wrong type).
        """
        rows = {**EXTRA_KEYS, **KEYS}
        for name in changes:
            if name not in rows and name not in vars(self):
                raise UnknownArgumentError(f"there is no argument {name!r}; `yolo cfg` lists all arguments.")
        return {name: rows[name].check(value) if name in rows else value for name, value in changes.items()}
