"""What is known about the arguments, looked up by name.

To add an argument: add a row to `cfg/table.py`, call `generate.write_files`, and read the argument where it acts.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ultralytics.cfg.keys import Key, Trait
from ultralytics.cfg.table import GROUPS, MODES, TASKS
from ultralytics.cfg.table_own import EXTRA

__all__ = ["EXTRA_KEYS", "GROUPS", "KEYS", "MODES", "TASKS", "UPSTREAM_KEYS", "Key", "Trait", "defaults", "keys_with"]

KEYS: Mapping[str, Key] = MappingProxyType({key.name: key for group in GROUPS.values() for key in group})
"""Every argument by its name."""

UPSTREAM_KEYS = frozenset(key.name for title, group in GROUPS.items() if title != "Only here" for key in group)
"""The 113 names of the `ultralytics` interface."""

EXTRA_KEYS: Mapping[str, Key] = MappingProxyType({key.name: key for key in EXTRA})
"""Arguments that have no default."""


def defaults() -> dict[str, Any]:
    """A new mapping of every argument to its default."""
    return {name: key.default for name, key in KEYS.items()}


def keys_with(trait: Trait, task: str = "") -> tuple[str, ...]:
    """The names of the arguments that have a trait, in the order of the table; with `task`, those that it has.

    >>> keys_with(Trait.PLACE)
    ('project', 'name', 'exist_ok', 'save_dir')
    >>> keys_with(Trait.EXPORT_VAL, task="classify")
    ('data', 'workers', 'split')
    """
    rows = (*KEYS.values(), *EXTRA_KEYS.values())
    return tuple(key.name for key in rows if trait in key.traits and (not task or key.only in {"", task}))
