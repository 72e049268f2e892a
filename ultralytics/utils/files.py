"""Paths of runs, and writing that never leaves a half-written file."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from ultralytics.utils.errors import CheckpointError, ConfigError, NotFoundError
from ultralytics.utils.interface import interface_names

try:
    import fcntl
except ImportError:  # Windows has no such module; two runs in one folder are not noticed there
    fcntl = None  # type: ignore[assignment]

TEMP_SUFFIX = ".tmp"
TENSOR_SUFFIXES = (".pt", ".pth", ".safetensors")
"""Files of weights, ours and those of other projects."""
PACK_SUFFIX = ".zip"
WEIGHTS_SUFFIXES = (*TENSOR_SUFFIXES, PACK_SUFFIX)
"""Files from which a network is loaded."""
YAML_SUFFIXES = (".yaml", ".yml")
"""Files of models, data sets and arguments."""
_MAX_RUNS = 9999
_CHUNK = 1 << 20
_LOCK_NAME = "run.lock"
_TAKEN = frozenset((errno.EACCES, errno.EAGAIN))


def has_yaml_suffix(name: str | Path) -> bool:
    """Whether a name is that of a YAML file; the case of its suffix does not count.

    >>> has_yaml_suffix("a.YML"), has_yaml_suffix("a.yaml.pt")
    (True, False)
    """
    return Path(str(name).strip()).suffix.lower() in YAML_SUFFIXES


@contextmanager
def atomic_write(path: str | Path, mode: str = "w", **kwargs: Any) -> Iterator[IO[Any]]:
    """Open a file for writing under a temporary name and rename it to `path` when the block ends without an error.

    The temporary file is hidden, lies in the same folder and ends in `.tmp`; on an error it is removed and an older
    `path` stays as it was. Missing parent folders are made. Text is UTF-8 unless `encoding` is given.

    Raises:
        ValueError: `mode` is not "w" or "wb" (with or without "+").
        OSError: the folder cannot be written, or the disk is full; its `filename` is `path`.
    """
    if mode.rstrip("+") not in {"w", "wb", "wt"}:
        raise ValueError(f"atomic_write writes whole files: mode must be 'w' or 'wb', not {mode!r}")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temp = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMP_SUFFIX}")
    if "b" not in mode:
        kwargs.setdefault("encoding", "utf-8")
    try:
        with open(temp, mode, **kwargs) as f:
            yield f
            f.flush()
            os.fsync(f.fileno())
        os.replace(temp, path)
    except BaseException as e:
        with suppress(OSError):
            temp.unlink()
        if isinstance(e, OSError) and e.errno and (e.filename is None or str(e.filename) == str(temp)):
            e.filename, e.filename2 = str(path), None
        raise


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while chunk := f.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


class FolderLock:
    """Keeps a second process out of a run folder.

    The lock is one of the system, on the file `run.lock` of the folder. It ends with its process, also when that is
    killed: a file that is left behind locks nothing. A process may take a folder twice. Where the file system has no
    locks, none is taken.
    """

    def __init__(self) -> None:
        self._files: dict[Path, int] = {}

    def take(self, folder: Path) -> None:
        """Lock a folder that exists, until `release`.

        Raises:
            ConfigError: another process has it.
        """
        path = folder.resolve() / _LOCK_NAME
        while fcntl is not None and path not in self._files:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as e:
                owner = os.read(handle, 20).decode(errors="replace").strip()
                os.close(handle)
                if e.errno not in _TAKEN:
                    return
                raise ConfigError(
                    f"{folder}: another process ({owner or 'unknown'}) trains in this folder",
                    "wait until it has ended, or give another folder with name= or save_dir=",
                ) from None
            if not _is_at(handle, path):  # its owner has removed it in the meantime
                os.close(handle)
                continue
            os.truncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
            self._files[path] = handle

    def release(self) -> None:
        """Unlock all folders, and remove the files."""
        for path, handle in self._files.items():
            with suppress(OSError):  # a folder that became read-only keeps the file
                path.unlink()
            os.close(handle)
        self._files.clear()


def _is_at(handle: int, path: Path) -> bool:
    """Whether an open file is still the one at a path."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


@contextmanager
def complete_folder(target: str | Path, key: str) -> Iterator[Path]:
    """Give a folder to write into, which gets the name `target` when the block ends without an error, else goes.

    Raises:
        ConfigError: `target` exists and is not empty; `key` is the argument that names it.
    """
    target = Path(target).absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{key}={target} exists and is not empty", "give the name of a new folder")
    work = target.with_name(f".{target.name}.{os.getpid()}{TEMP_SUFFIX}")
    try:
        yield work
        if target.exists():
            target.rmdir()
        os.replace(work, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def user_path(text: str | Path) -> Path:
    """Return the path that a user or a file gives, with a leading `~` expanded; nothing needs to be there.

    Raises:
        NotFoundError: no system can have such a path: an unknown user, a null character, too long a name.
    """
    shown = f"{str(text)!r:.120}"
    try:
        path = Path(text).expanduser()
        os.lstat(path)
    except (RuntimeError, ValueError) as e:
        reason = "there is no such user" if isinstance(e, RuntimeError) else "a path holds no null character"
        raise NotFoundError(f"{shown}: {reason}", "write the path out") from None
    except OSError as e:
        if e.errno in {errno.ENAMETOOLONG, errno.ELOOP}:
            raise NotFoundError(f"{shown}: {e.strerror}", "check the path") from None
    return path


def increment_path(path: str | Path, exist_ok: bool = False, sep: str = "", mkdir: bool = False) -> Path:
    """Return `path`, or the first free of `path2`, `path3`, ... when it exists and `exist_ok` is false.

    A file's suffix stays at the end (`a.txt`, `a2.txt`). With `mkdir` the folder is made at once, so that two
    processes never get the same one.

    Raises:
        FileExistsError: all names up to 9999 are taken.
    """
    path = Path(path)
    suffix = path.suffix if path.is_file() else ""
    stem = path.with_suffix("") if suffix else path
    names = (path if i == 1 else Path(f"{stem}{sep}{i}{suffix}") for i in range(1, _MAX_RUNS + 1))
    for candidate in names:
        if not exist_ok and candidate.exists():
            continue
        if not mkdir:
            return candidate
        try:
            candidate.mkdir(parents=True, exist_ok=exist_ok)
            return candidate
        except FileExistsError:  # another process was quicker
            if exist_ok:
                raise
    raise FileExistsError(f"{path}: all names up to {stem}{sep}{_MAX_RUNS} are taken")


def file_size(path: str | Path) -> float:
    """Size of a file, or of all files below a folder, in MB (2**20 bytes); 0 when there is none."""
    path = Path(path)
    files = [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file()]
    return sum(f.stat().st_size for f in files) / 2**20


def latest_run(folder: str | Path = ".") -> Path | None:
    """Return the newest `last.pt` (or `last*.pt`) below a folder, None when there is none."""
    found = [p for p in Path(folder).rglob("last*.pt") if p.is_file()]
    return max(found, key=lambda p: p.stat().st_mtime, default=None)


def resumed_file(resume: str | Path | bool, project: str | Path | None = None) -> Path:
    """Return the checkpoint that `resume` names; True means the newest last.pt below `project` or this folder.

    Raises:
        CheckpointError: there is none.
    """
    if resume is not True:
        return Path(str(resume))
    found = latest_run(project or ".")
    if found is None:
        where = project or "this folder"
        raise CheckpointError(f"resume: no last.pt below {where}", "give its path: resume=<run>/weights/last.pt")
    return found


_IN_INTERFACE = dict.fromkeys(
    "WorkingDirectory file_age file_date get_latest_run spaces_in_path".split(), "interface.paths"
)
"""Names that scripts import from here, and the module that defines them."""
__getattr__ = interface_names(__name__, _IN_INTERFACE)
