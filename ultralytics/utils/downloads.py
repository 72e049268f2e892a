"""Downloads, only where a user asks for one.

A file is fetched under a temporary name, compared with its SHA-256 where one is given, then renamed. Archives are
unpacked beside it, and no entry may lie outside that folder.
"""

from __future__ import annotations

import errno
import lzma
import os
import secrets
import shutil
import struct
import tarfile
import urllib.request
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import overload
from urllib.parse import urlsplit

from ultralytics.utils.errors import ConfigError, printable
from ultralytics.utils.files import TEMP_SUFFIX, file_sha256
from ultralytics.utils.interface import interface_names
from ultralytics.utils.remote.web import FetchRule, check_scheme, fetch_file

_MAX_UNPACKED = 200 * 2**30
"""Bytes that an archive may hold unpacked, against archives made to fill the disk."""

_UNPACK_ERRORS = (
    zipfile.BadZipFile,
    tarfile.TarError,
    EOFError,
    OSError,
    RuntimeError,  # encrypted; NotImplementedError: an unknown method
    ValueError,
    LookupError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    OverflowError,
    MemoryError,
)
_NAME_ERRORS = {None, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EINVAL, errno.ENOENT}
"""What the system says of entries whose names it cannot have; other errors are about the disk."""

_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")


@overload
def download(
    url: str, dir: str | Path = ..., unzip: bool = ..., delete: bool = ..., *, sha256: str | None = ...
) -> Path: ...
@overload
def download(
    url: list[str] | tuple[str, ...],
    dir: str | Path = ...,
    unzip: bool = ...,
    delete: bool = ...,
    *,
    sha256: str | None = ...,
) -> list[Path]: ...
def download(
    url: str | list[str] | tuple[str, ...],
    dir: str | Path = ".",
    unzip: bool = False,
    delete: bool = True,
    curl: bool = False,
    threads: int = 1,
    retry: int = 3,
    exist_ok: bool = False,
    *,
    sha256: str | None = None,
) -> Path | list[Path]:
    """Fetch a file into `dir` and return its path; with `unzip`, unpack it and return the folder. Of a list, a list.

    `dir` is a folder (it exists, or ends in a separator), or the file's own path. A file that is already there is
    kept: with a `sha256` only if it agrees. The archive is removed after it was unpacked, unless `delete` is off.
    `curl`, `threads`, `retry` and `exist_ok` are taken for scripts of the interface and have no effect.

    Raises:
        ConfigError: not an http or https address; the hash differs; an archive entry leaves its folder.
        NotFoundError: the address cannot be read.
    """
    if not isinstance(url, str):
        return [download(one, dir, unzip, delete, sha256=sha256) for one in url]
    check_scheme(url)
    target = _target(url, dir)
    if not (target.is_file() and (sha256 is None or file_sha256(target) == sha256.lower())):
        fetch_file(url, target, FetchRule(sha256=sha256, attempts=1))
    return unpack(target, remove=delete) if unzip else target


def _target(url: str, dst: str | Path) -> Path:
    name = PurePosixPath(urllib.request.url2pathname(urlsplit(url).path)).name
    folder = Path(dst)
    if not (folder.is_dir() or str(dst).endswith(("/", os.sep))):
        return folder
    if not name:
        raise ConfigError(f"{url!r} does not end in a file name; give the file's path as the target")
    return folder / name


def unpack(archive: str | Path, folder: str | Path | None = None, remove: bool = False) -> Path:
    """Unpack a zip or tar file into a folder of its own name beside it (or `folder`), and return that folder.

    The folder appears only when everything is unpacked; one that exists is left as it is.

    Raises:
        ConfigError: no such kind of archive, a damaged one, an entry that would lie outside, or an absurd size.
    """
    archive = Path(archive)
    suffix = next((s for s in sorted(_ARCHIVES, key=len, reverse=True) if archive.name.lower().endswith(s)), None)
    if suffix is None:
        raise ConfigError(f"{archive}: not an archive; the name must end in one of {', '.join(_ARCHIVES)}")
    target = Path(folder) if folder is not None else archive.with_name(archive.name[: -len(suffix)])
    if not target.exists():
        temp = target.with_name(f".{target.name}.{secrets.token_hex(4)}{TEMP_SUFFIX}")
        try:
            temp.mkdir(parents=True)
            (_unzip if suffix == ".zip" else _untar)(archive, temp)
            os.replace(temp, target)
        except _UNPACK_ERRORS as e:
            if isinstance(e, OSError) and e.errno not in _NAME_ERRORS:
                raise
            reason = printable(e)[:200] or type(e).__name__
            raise ConfigError(f"{archive}: cannot be unpacked ({reason})\nDelete it and fetch it again.") from None
        finally:
            shutil.rmtree(temp, ignore_errors=True)
    if remove:
        with suppress(FileNotFoundError):
            archive.unlink()
    return target


def _check_size(archive: Path, size: int) -> None:
    if size > _MAX_UNPACKED:
        raise ConfigError(f"{archive}: would unpack to {size / 2**30:.0f} GiB, more than {_MAX_UNPACKED >> 30} GiB")


def _unzip(archive: Path, folder: Path) -> None:
    root = folder.resolve()
    with zipfile.ZipFile(archive) as z:
        _check_size(archive, sum(i.file_size for i in z.infolist()))
        for name in z.namelist():
            if not (root / name.replace("\\", "/")).resolve().is_relative_to(root):
                raise ConfigError(
                    f"{archive}: entry {name!r} would be written outside of its folder\nNothing was kept."
                )
        z.extractall(folder)


def _untar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as t:
        members = t.getmembers()
        _check_size(archive, sum(m.size for m in members))
        if hasattr(tarfile, "data_filter"):
            t.extractall(folder, filter="data")  # refuses links and entries that lead outside
            return
        root = folder.resolve()  # Python before 3.10.12, and 3.11 before 3.11.4, has no such filter
        for member in members:
            if not (member.isfile() or member.isdir()) or not (root / member.name).resolve().is_relative_to(root):
                raise tarfile.ExtractError(f"{member.name!r} is not a file or folder within the archive's own")
        t.extractall(folder, members)


_IN_INTERFACE = dict.fromkeys(
    "attempt_download_asset clean_url is_url safe_download unzip_file url2file zip_directory".split(), "interface.paths"
)
"""Names that scripts import from here, and the module that defines them."""
__getattr__ = interface_names(__name__, _IN_INTERFACE)
