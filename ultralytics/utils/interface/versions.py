"""Comparisons of versions, and what a machine can show, under the names of the interface."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

from packaging.requirements import Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from ultralytics.utils.config.paths import CFG_DIR
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.files import user_path
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


def parse_version(version: str = "0.0.0") -> tuple[int, int, int]:
    """Return the first three numbers of a version.

    >>> parse_version("2.14.1+cpu")
    (2, 14, 1)
    """
    try:
        release = (*Version(version).release, 0, 0)
    except InvalidVersion:
        LOGGER.warning(f"{version!r:.60} is not a version, taken as 0.0.0")
        return 0, 0, 0
    return release[0], release[1], release[2]


def parse_requirements(file_path: str | Path = "requirements.txt", package: str = "") -> list[SimpleNamespace]:
    """Return name and specifier of each requirement of an installed package, else of a file of such lines."""
    if package:
        lines = [line for line in metadata.requires(package) or [] if "extra ==" not in line]
    else:
        lines = [line.partition("#")[0].strip() for line in user_path(file_path).read_text().splitlines()]
    found = [Requirement(line) for line in lines if line and not line.startswith("-")]
    return [SimpleNamespace(name=r.name, specifier=str(r.specifier)) for r in found]


def check_torchvision() -> bool:
    """Whether the installed torchvision was made for the installed torch; a warning says so if not."""
    wanted = next((r.specifier for r in parse_requirements(package="torchvision") if r.name == "torch"), "")
    return check_version("torch", wanted, "torch", verbose=True, msg="torchvision was made for it")


def check_yolov5u_filename(file: str, verbose: bool = True) -> str:
    """Return the name of weights as it is: weights are found by their own name, and nothing is fetched."""
    return file


def check_model_file_from_stem(model: str = "rtdetr-l") -> str:
    """Return `model.pt` for the name of a model YAML of this package, without its suffix; else what was given.

    >>> check_model_file_from_stem("rtdetr-l"), check_model_file_from_stem("mine")
    ('rtdetr-l.pt', 'mine')
    """
    known = {path.stem for path in CFG_DIR.glob("models/**/*.yaml")}
    return f"{model}.pt" if model in known else model


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
