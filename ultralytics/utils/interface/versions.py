"""Comparisons of versions, and what a machine can show, under the names of the interface."""

from __future__ import annotations

import os
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from ultralytics.utils.errors import ConfigError
from ultralytics.utils.interface.system import MACOS, PYTHON_VERSION, WINDOWS, is_colab, is_docker, package_version
from ultralytics.utils.log import LOGGER


def check_version(
    current: str = "0.0.0",
    required: str = "0.0.0",
    name: str = "version",
    hard: bool = False,
    verbose: bool = False,
    msg: str = "",
) -> bool:
    """Whether a version, or that of an installed package by name, meets a requirement such as `>=1.0,<2` or `1.0`.

    A bare number is a least version. With `hard` it is an error not to meet it, with `verbose` a warning.

    >>> check_version("8.2", ">=8.0,<9"), check_version("8.2", "8.3")
    (True, False)

    Raises:
        ConfigError: `hard`, and the requirement is not met; or `required` is not a requirement.
    """
    if not required:
        return True
    text = ",".join(p if p.strip()[:1] in set("<>=!~") else f">={p}" for p in required.replace(" ", "").split(","))
    try:
        wanted = SpecifierSet(text)
        label, version = name, Version(current)
    except InvalidVersion:
        label, version = current, Version(package_version(current))
    except InvalidSpecifier:
        raise ConfigError(f"required={required!r} is not a requirement", "such as >=1.0,<2") from None
    met = wanted.contains(version, prereleases=True)
    if not met:
        text = f"{label} {text} is required, {version} is here{f'; {msg}' if msg else ''}"
        if hard:
            raise ConfigError(text)
        if verbose:
            LOGGER.warning(text)
    return met


def check_python(minimum: str = "3.8.0", hard: bool = True, verbose: bool = False) -> bool:
    """Whether this Python has a least version."""
    return check_version(PYTHON_VERSION, minimum, "Python", hard, verbose)


def check_imshow(warn: bool = False) -> bool:
    """Whether a window can be shown: there is a screen, and this is not a container or a notebook without one."""
    screen = bool(WINDOWS or MACOS or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    able = screen and not (is_docker() or is_colab())
    if not able and warn:
        LOGGER.warning("there is no screen here: windows are not shown")
    return able


def check_is_path_safe(basedir: str | Path, path: str | Path) -> bool:
    """Whether a path lies inside a folder and exists, links followed."""
    base, target = Path(basedir).resolve(), Path(path).resolve()
    return target.is_file() and base in target.parents
