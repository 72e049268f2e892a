"""Checks of arguments under the names of the interface."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ultralytics.cfg.renames import check_names, migrate
from ultralytics.cfg.resolution import check_values
from ultralytics.utils.errors import UnknownArgumentError


def check_cfg(cfg: Mapping[str, Any], hard: bool = True) -> dict[str, Any]:
    """Return arguments in their stored form; the first wrong value raises ConfigError, whatever `hard` says."""
    return check_values(cfg)


def check_dict_alignment(
    base: Mapping[str, Any],
    custom: Mapping[str, Any],
    e: BaseException | None = None,
    allowed_custom_keys: Collection[str] | None = None,
) -> None:
    """Raise UnknownArgumentError, from `e` if given, for the first key of `custom` that `base` does not have."""
    names = [k for k in migrate(custom) if k not in base and k not in (allowed_custom_keys or ())]
    try:
        check_names(names)
    except UnknownArgumentError as error:
        raise error from e
    if names:
        raise UnknownArgumentError(f"there is no argument {names[0]!r} among these {len(base)}") from e
