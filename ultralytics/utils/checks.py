"""Checks of values, files, packages and the machine. They report; they never install or download anything."""

from __future__ import annotations

import difflib
import importlib
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from ultralytics import __version__
from ultralytics.utils.config.paths import CFG_DIR, ROOT
from ultralytics.utils.errors import ConfigError, ConfigTypeError, MissingPackageError, NotFoundError
from ultralytics.utils.files import YAML_SUFFIXES, user_path
from ultralytics.utils.interface import interface_names
from ultralytics.utils.log import LOGGER

if TYPE_CHECKING:  # importing either takes as long as the rest of `yolo version` that is ours
    from importlib.metadata import Distribution

    from packaging.requirements import Requirement

DISTRIBUTION = "rtdetr-shsa"
IMPORT_NAME = "ultralytics"
PACKAGES = ("torch", "torchvision", "numpy", "opencv-python", "pyyaml", "matplotlib", "pandas", "scipy")


MAX_IMAGE_SIDE = 32_767
"""The longest side of an image that OpenCV can resize to, in pixels."""


class Conflict(NamedTuple):
    """Another owner of the import name `ultralytics`."""

    name: str
    version: str
    location: str


def check_imgsz(
    imgsz: int | Sequence[int], stride: int = 32, min_dim: int = 1, max_dim: int = 2, floor: int = 0
) -> int | list[int]:
    """Return the image size with each side rounded up to a multiple of `stride`, in pixels.

    `min_dim=2` asks for `[height, width]`; a single number is then used for both. With `max_dim=1` the longer of two
    sides is used. No side is below `floor`. A change is logged as a warning.

    Raises:
        ConfigTypeError: not an integer or a pair of integers.
        ConfigError: a side is below 1.

    >>> check_imgsz(640), check_imgsz([640, 320], min_dim=2)
    (640, [640, 320])
    """
    sides = [imgsz] if isinstance(imgsz, (int, float)) else list(imgsz)
    if len(sides) not in {1, 2} or any(isinstance(s, bool) or s != int(s) for s in sides):
        raise ConfigTypeError(f"imgsz={imgsz!r} must be an integer, or [height, width]")
    if min(sides) < 1:
        raise ConfigError(f"imgsz={imgsz!r} is too small: each side must be at least 1 px")
    if max_dim == 1:
        sides = [max(sides)]
    rounded = [-(-max(int(s), stride, floor) // stride) * stride for s in sides]
    if max(rounded) > MAX_IMAGE_SIDE:
        raise ConfigError(f"imgsz={imgsz!r} is too large: each side can be at most {MAX_IMAGE_SIDE:,} px")
    if rounded != [int(s) for s in sides]:
        LOGGER.warning(f"imgsz={imgsz} is not a multiple of the stride {stride}; {rounded} is used")
    if len(rounded) == 1:
        return rounded * 2 if min_dim == 2 else rounded[0]
    return rounded


def check_suffix(file: str | Path, suffix: str | Iterable[str], msg: str = "") -> None:
    """Raise ConfigError unless the file's suffix is (one of) the given, in any letter case; empty: anything goes.

    `msg` stands in front of the message.
    """
    allowed = [s.lower() for s in ([suffix] if isinstance(suffix, str) else suffix) if s]
    if allowed and Path(file).suffix.lower() not in allowed:
        raise ConfigError(f"{msg}{file}: the suffix must be {' or '.join(allowed)}")


def nearest(name: str, candidates: Iterable[str], n: int = 3) -> list[str]:
    """The candidates that are most similar to a name, best first."""
    return difflib.get_close_matches(name, list(candidates), n=n, cutoff=0.5)


def check_file(
    file: str | Path,
    suffix: str | Iterable[str] = (),
    download: bool = False,
    download_dir: str | Path = ".",
    hard: bool = True,
) -> Path:
    """Return the path of an existing file.

    Nothing is fetched: `download` and `download_dir` have no effect. With `hard=False` a path that is not there is
    returned as it is.

    Raises:
        NotFoundError: there is no such file; the message names files of similar name in that folder.
        ConfigError: its suffix is not one of `suffix`.
    """
    check_suffix(file, suffix)
    path = user_path(file)
    if path.is_file():
        return path
    if not hard:
        return path
    if path.is_dir():
        raise NotFoundError(f"{file}: is a folder, a file is needed")
    folder = path.parent
    near = nearest(path.name, (p.name for p in folder.iterdir() if p.is_file())) if folder.is_dir() else []
    hint = f"In that folder: {', '.join(near)}." if near else f"Looked in {folder.resolve()}."
    raise NotFoundError(f"{file}: no such file\n{hint}")


def check_yaml(
    file: str | Path,
    suffix: str | Iterable[str] = YAML_SUFFIXES,
    hard: bool = True,
    *,
    kind: str = "models",
) -> Path:
    """Return the path of a YAML file: an existing path, else the file of that name that the package ships.

    `kind` is the folder of `ultralytics/cfg` that is searched: models, datasets or recipes; "" searches all. With
    `hard=False` a path that is not there is returned as it is.

    Raises:
        NotFoundError: neither exists; the message names the nearest ones.
        ConfigError: the suffix is not .yaml or .yml.
    """
    check_suffix(file, suffix)
    path = user_path(file)
    if path.is_file() or not hard:
        return path
    shipped = {p.name: p for p in sorted((CFG_DIR / kind).rglob("*.yaml"))}
    if len(path.parts) == 1 and path.name in shipped:
        return shipped[path.name]
    folder = path.parent
    local = [str(p) for p in folder.glob("*.y*ml")] if folder.is_dir() else []
    names = {Path(n).stem: n for n in (*shipped, *local) if n != "default.yaml"}
    near = [names[stem] for stem in nearest(path.stem, names)]
    hint = (
        f"Did you mean {' or '.join(near)}?"
        if near
        else f"Give the path of a file, or a name from ultralytics/cfg/{kind}."
    )
    raise NotFoundError(f"{file}: no such file in {folder.resolve()}, and none shipped with that name\n{hint}")


def check_requirements(
    requirements: str | Path | Sequence[str],
    exclude: Sequence[str] = (),
    install: bool = True,
    cmds: str = "",
    constrain: bool = True,
) -> bool:
    """Whether packages are installed, named as pip does or in a requirements file; those that are not are logged.

    Nothing is installed: `install`, `cmds` and `constrain` have no effect.
    """
    from packaging.requirements import Requirement

    if isinstance(requirements, Path):
        requirements = requirements.read_text(encoding="utf-8").splitlines()
    names = [requirements] if isinstance(requirements, str) else list(requirements)
    wanted = [Requirement(text) for name in names if (text := str(name).split("#")[0].strip())]
    lacking = [str(r) for r in wanted if r.name not in exclude and not _is_met(r)]
    if lacking:
        listed = " ".join(f"'{r}'" for r in lacking)
        LOGGER.warning(f"not installed: {', '.join(lacking)}\npip install {listed}")
    return not lacking


def _is_met(requirement: Requirement) -> bool:
    version = installed_version(requirement.name)
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def require(package: str, purpose: str, extra: str | None = None) -> ModuleType:
    """Import an optional package and return it.

    Raises:
        MissingPackageError: it is not installed; the message gives the command that installs it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as e:
        what = f"{DISTRIBUTION}[{extra}]" if extra else package
        raise MissingPackageError(f"{purpose} needs the package {package!r} ({e})\npip install '{what}'") from None


def installed_conflicts() -> list[Conflict]:
    """Other distributions, or folders on the import path, that own a package named `ultralytics` as well."""
    from importlib import metadata

    found = {}
    for dist in metadata.distributions():
        name = dist.metadata["Name"] or ""
        if name and name.lower().replace("_", "-") != DISTRIBUTION and _owns_import_name(dist):
            found[name] = Conflict(name, dist.version, str(dist.locate_file(IMPORT_NAME)))
    owned = {Path(c.location).resolve() for c in found.values()}
    for entry in sys.path:
        folder = Path(entry or ".", IMPORT_NAME).resolve()
        if folder != ROOT and folder not in owned and (folder / "__init__.py").is_file():
            found[str(folder)] = Conflict("(a folder on the import path)", "?", str(folder))
    return list(found.values())


def _owns_import_name(dist: Distribution) -> bool:
    top = (dist.read_text("top_level.txt") or "").split()
    return IMPORT_NAME in top or any(f.parts[:1] == (IMPORT_NAME,) for f in (dist.files or ()))


def installed_version(package: str) -> str | None:
    """The version of an installed distribution; None where there is none of that name."""
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.lower().startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (AttributeError, ValueError, OSError):
        return None


def _devices() -> list[str]:
    """One line per accelerator."""
    import torch

    lines = []
    for i in range(torch.cuda.device_count()):
        info = torch.cuda.get_device_properties(i)
        lines.append(f"cuda:{i} {info.name} ({info.total_memory / 2**30:.0f} GiB)")
    if torch.backends.mps.is_available():
        lines.append("mps")
    return lines


def cpu_count() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def collect_system_info() -> dict[str, Any]:
    """Facts about the machine and the installation; imports torch to ask for devices."""
    memory = _memory_gib()
    return {
        "ultralytics": __version__,
        "imported from": str(ROOT),
        "distribution": f"{DISTRIBUTION} {installed_version(DISTRIBUTION) or 'not installed'}",
        "OS": platform.platform(),
        "Python": f"{platform.python_version()} ({sys.executable})",
        "CPU": f"{_cpu_name()}, {cpu_count()} cores usable",
        "RAM": "unknown" if memory is None else f"{memory:.1f} GiB",
        "devices": ", ".join(_devices()) or "cpu only",
        **{package: installed_version(package) or "not installed" for package in PACKAGES},
    }


def print_checks(verbose: bool = True, device: str = "") -> dict[str, Any]:
    """Print the facts of `collect_system_info`, and a warning for each other owner of the import name.

    Without `verbose` nothing is printed; all devices are listed, whatever `device` names.
    """
    info = collect_system_info()
    if not verbose:
        return info
    width = max(map(len, info))
    for key, value in info.items():
        LOGGER.info(f"{key:<{width}}  {value}")
    for conflict in installed_conflicts():
        LOGGER.warning(
            f"ANOTHER `{IMPORT_NAME}` IS INSTALLED: {conflict.name} {conflict.version} in {conflict.location}\n"
            f"    Which one is imported depends on the import path; here it is {ROOT}.\n"
            f"    Remove it with `pip uninstall {conflict.name}`, or use a virtual environment for each."
        )
    return info


_IN_INTERFACE = {
    **dict.fromkeys(("is_ascii", "print_args"), "interface.system"),
    **dict.fromkeys(("cuda_device_count", "cuda_is_available"), "interface.networks"),
    **dict.fromkeys(
        """check_imshow check_is_path_safe check_model_file_from_stem check_python check_torchvision check_version
        check_yolov5u_filename parse_requirements parse_version""".split(),
        "interface.versions",
    ),
}
"""Names that scripts import from here, and the modules that define them."""


if not TYPE_CHECKING:  # a type checker shall see what is missing
    __getattr__ = interface_names(__name__, _IN_INTERFACE)
