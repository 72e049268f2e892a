"""Files, folders, addresses and archives, under the names of the interface."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
import zipfile
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ultralytics.utils.downloads import download, unpack
from ultralytics.utils.errors import NotFoundError
from ultralytics.utils.files import atomic_write, latest_run, user_path

SKIPPED = (".DS_Store", "__MACOSX")


class WorkingDirectory(contextlib.ContextDecorator):
    """A block, or a function, with another working folder."""

    def __init__(self, new_dir: str | Path) -> None:
        self.dir, self.cwd = Path(new_dir), Path.cwd().resolve()

    def __enter__(self) -> None:
        os.chdir(self.dir)

    def __exit__(self, *_: object) -> None:
        os.chdir(self.cwd)


@contextlib.contextmanager
def spaces_in_path(path: str | Path) -> Iterator[Path]:
    """Give a path without spaces: of one that has some a copy, which is copied back when the block ends."""
    original = Path(path)
    if " " not in str(original):
        yield original
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / original.name.replace(" ", "_")
        if original.is_dir():
            shutil.copytree(original, copy)
        elif original.is_file():
            shutil.copy2(original, copy)
        try:
            yield copy
        finally:
            if copy.is_dir():
                shutil.copytree(copy, original, dirs_exist_ok=True)
            elif copy.is_file():
                shutil.copy2(copy, original)


def file_age(path: str | Path) -> int:
    """Days since a file was changed."""
    return int((time.time() - Path(path).stat().st_mtime) // 86_400)


def file_date(path: str | Path) -> str:
    """Day on which a file was changed, as year-month-day without leading zeros."""
    day = datetime.fromtimestamp(Path(path).stat().st_mtime, tz=timezone.utc)
    return f"{day.year}-{day.month}-{day.day}"


def get_latest_run(search_dir: str | Path = ".") -> str:
    """Return the newest last.pt below a folder, an empty string where there is none."""
    found = latest_run(search_dir)
    return "" if found is None else str(found)


def is_url(url: object, check: bool = False) -> bool:
    """Whether a string is a web address. With `check` False: nothing is asked of the network here."""
    parts = urlsplit(str(url))
    return parts.scheme in {"http", "https"} and bool(parts.netloc) and not check


def clean_url(url: str) -> str:
    """Return an address without its query, and without what an address may hide behind %2F.

    >>> clean_url("https://a.b/c%2Fd.zip?key=1")
    'https://a.b/c/d.zip'
    """
    return unquote(str(url).replace("\\", "/")).split("?", 1)[0]


def url2file(url: str) -> str:
    """Return the name of the file that an address ends in."""
    return Path(clean_url(url)).name


def safe_download(
    url: str | Path,
    file: str | Path | None = None,
    dir: str | Path | None = None,
    unzip: bool = True,
    delete: bool = False,
    curl: bool = False,
    retry: int = 3,
    min_bytes: float = 1.0,
    exist_ok: bool = False,
    progress: bool = True,
) -> Path:
    """Fetch a file into a folder or under a name, unpack it where it is an archive, and return its path.

    A path that exists already, in the place of an address, is only unpacked. `delete` removes the archive. `curl`,
    `retry` and `progress` have no effect: a file is fetched whole or not at all.

    Raises:
        NotFoundError: nothing is there, or less than `min_bytes`, which does not stay.
    """
    source = Path(str(url))
    if source.is_file():
        target = source
    else:
        folder = Path(dir or ".")
        target = download(str(url), Path(file) if file else folder / url2file(str(url)))
        size = target.stat().st_size
        if size < min_bytes:
            target.unlink()
            raise NotFoundError(f"{url}: {size} bytes, fewer than min_bytes={min_bytes:g}", "check the address")
    if unzip and target.suffix in {".zip", ".tar", ".gz"}:
        return unzip_file(target, dir or target.parent, exist_ok=exist_ok, delete=delete)
    return target


def attempt_download_asset(file: str | Path, repo: str = "", release: str = "", **_: object) -> str:
    """Return the path of weights that exist; nothing is ever fetched by name.

    Raises:
        NotFoundError: there is no such file.
    """
    path = user_path(str(file).strip().replace("'", ""))
    if not path.is_file():
        raise NotFoundError(f"{path}: no such file", "weights are not fetched by name; put them there")
    return str(path)


def unzip_file(
    file: str | Path,
    path: str | Path | None = None,
    exclude: Iterable[str] = SKIPPED,
    exist_ok: bool = False,
    progress: bool = True,
    delete: bool = False,
) -> Path:
    """Unpack an archive below a folder, by default its own, and return the folder that holds its content.

    The content lies in a folder of the archive's name, which is kept where it exists unless `exist_ok`. Files whose
    name holds one of `exclude` are removed afterwards.
    """
    archive = Path(file)
    folder = Path(path or archive.parent) / archive.name.split(".", 1)[0]
    if exist_ok and folder.is_dir():
        shutil.rmtree(folder)
    done = unpack(archive, folder, remove=delete)
    for item in [p for p in done.rglob("*") if any(name in p.name for name in exclude)]:
        shutil.rmtree(item) if item.is_dir() else item.unlink(missing_ok=True)
    return done


def zip_directory(
    directory: str | Path, compress: bool = True, exclude: Iterable[str] = SKIPPED, progress: bool = True
) -> Path:
    """Pack a folder into a zip file beside it, and return its path.

    Raises:
        NotFoundError: there is no such folder.
    """
    folder = Path(directory)
    if not folder.is_dir():
        raise NotFoundError(f"{folder}: no such folder")
    target = folder.with_suffix(".zip")
    skipped = tuple(exclude)
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with atomic_write(target, "wb") as f, zipfile.ZipFile(f, "w", method) as archive:
        for item in sorted(p for p in folder.rglob("*") if p.is_file() and not any(s in str(p) for s in skipped)):
            archive.write(item, item.relative_to(folder.parent))
    return target
