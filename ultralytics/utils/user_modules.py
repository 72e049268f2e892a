"""Python files of the user, named by `modules=`: run once in each process, and identified by their hash.

This is the only place where code from outside of the package is run. A file is run because the user named it in this
process: never because a checkpoint, a data set or a model YAML did. The files in a pack are run when the pack itself is
named by `modules=`, and not when it is opened as a model.
"""

from __future__ import annotations

import hashlib
import importlib.abc
import importlib.util
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from ultralytics.utils.archives.pack_file import open_pack
from ultralytics.utils.errors import ConfigError, NotFoundError
from ultralytics.utils.files import PACK_SUFFIX, user_path

HASH = "__sha256__"
"""Attribute of a loaded file's module: the hash of the text that was run, which the file on disk may outgrow."""

_MISTAKES = (
    SyntaxError,
    ImportError,
    NameError,
    AttributeError,
    TypeError,
    ValueError,
    LookupError,
    ArithmeticError,
    AssertionError,
    RuntimeError,
    OSError,
)
Files = str | Path | Sequence[str | Path]


class UserFile(NamedTuple):
    """Name and sha256 of a file that holds blocks."""

    name: str
    sha256: str


def as_files(modules: Files | None) -> list[Path]:
    """The paths in a `modules` argument: one, a list, or a string with commas between them.

    >>> [p.name for p in as_files("[a.py, b.py]")], as_files(None)
    (['a.py', 'b.py'], [])
    """
    if not modules:
        return []
    if isinstance(modules, Path) or (isinstance(modules, str) and Path(modules).is_file()):
        return [Path(modules)]
    parts = modules.strip("[]() ").split(",") if isinstance(modules, str) else modules
    return [user_path(str(part).strip(" '\"")) for part in parts if str(part).strip()]


def load_user_modules(modules: Files | None) -> list[Path]:
    """Run the named files, so that what they register can be used in a model YAML; return their absolute paths.

    A file that this process has run already is not run again unless its text has changed.

    Raises:
        NotFoundError: no such file.
        ConfigError: it is not a Python file, or running it failed; the message has the line.
    """
    files = as_files(modules)
    for path in files:
        if not path.is_file():
            raise NotFoundError(f"modules={path}: there is no such file", f"looked in {Path.cwd()}; give its path")
        if path.suffix not in (".py", PACK_SUFFIX):
            raise ConfigError(f"modules={path}: not a Python file", "name the .py file that holds your blocks")
    for path in files:
        for file, text in _texts(path.resolve()):
            _load(file, text)
    return [path.resolve() for path in files]


class _PackedText(importlib.abc.SourceLoader):
    """Gives Python the text of a file that was read, and checked, already."""

    def __init__(self, path: Path, text: bytes) -> None:
        self._path, self._text = str(path), text

    def get_filename(self, fullname: str) -> str:
        """The path that tracebacks show: that of the pack, and the file in it."""
        return self._path

    def get_data(self, path: str | bytes) -> bytes:
        """The text."""
        return self._text


def _texts(path: Path) -> list[tuple[Path, bytes]]:
    """The Python file, or those in a pack, each with its text. ConfigError for a pack without any."""
    if path.suffix != PACK_SUFFIX:
        return [(path, path.read_bytes())]
    pack = open_pack(path)
    if not pack.modules:
        raise ConfigError(f"modules={path}: there are no Python files in the pack", "leave modules out")
    return [(path / name, pack.read(name)) for name in pack.modules]


def user_texts(files: Files | None) -> dict[str, bytes]:
    """The text of each file, those in packs included, by its name. ConfigError for two files of one name."""
    found: dict[str, bytes] = {}
    for path in as_files(files):
        for file, text in _texts(path.resolve()):
            if found.setdefault(file.name, text) != text:
                raise ConfigError(f"modules={file}: another file is named {file.name} too", "rename one of them")
    return found


def _load(path: Path, text: bytes) -> None:
    """Run a file, unless this process has run the same text already."""
    digest = hashlib.sha256(text).hexdigest()
    name = _module_name(path)
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, HASH, None) in (digest, None):
        return  # without a hash: the user's own program has imported it
    loader = None if path.is_file() else _PackedText(path, text)
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    if spec is None or spec.loader is None:
        raise ConfigError(f"modules={path}: cannot be loaded as a Python file")
    module = importlib.util.module_from_spec(spec)
    setattr(module, HASH, digest)
    sys.modules[name] = module  # before it runs, as imports do: classes look their module up
    try:
        spec.loader.exec_module(module)
    except _MISTAKES as e:
        del sys.modules[name]
        line = (str(e).splitlines() or ["no message"])[0]
        raise ConfigError(f"modules={path}: {_place(e, path)}{type(e).__name__}: {line}") from e


def file_with_class(name: str) -> str:
    """Name of a loaded file of the user's that defines a class of this name, '' for none."""
    for module in list(sys.modules.values()):
        found = getattr(module, "__dict__", {}).get(name) if hasattr(module, HASH) else None
        if isinstance(found, type) and found.__module__ == module.__name__:
            return Path(str(module.__file__)).name
    return ""


def _module_name(path: Path) -> str:
    """The file's stem, so that a plain `import` finds the same module; with a suffix where the stem means another."""
    stem = path.stem
    loaded = sys.modules.get(stem)
    if loaded is not None:
        found = getattr(loaded, "__file__", None)
    else:
        spec = importlib.util.find_spec(stem) if stem.isidentifier() else None
        found = str(path) if spec is None else spec.origin
    if found is not None and stem.isidentifier() and Path(found).resolve() == path:
        return stem
    return f"{stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


def _place(error: BaseException, path: Path) -> str:
    """`line 12: ` where the error came out of the file."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: "
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"line {lines[-1]}: " if lines else ""


def origin(cls: type) -> UserFile | None:
    """The file of the user's that defines a class; None for classes of this package and of installed ones."""
    module: ModuleType | None = sys.modules.get(cls.__module__)
    file = getattr(module, "__file__", None)
    if module is None or file is None:
        return None
    digest = getattr(module, HASH, None)
    if digest is None:
        path = Path(file)
        if "site-packages" in path.parts or cls.__module__.partition(".")[0] == __name__.partition(".")[0]:
            return None
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    return UserFile(Path(file).name, digest)
