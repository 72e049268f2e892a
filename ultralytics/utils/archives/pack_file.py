"""Packs: one zip file with a model and what belongs to it, read as data.

The first member is `pack.json`, which lists every other one with its size and SHA-256. Members are stored, never
compressed, so a pack cannot hold more than its own size: a zip bomb is refused by its form. Nothing is unpacked onto
the disk, so a member's name leads nowhere, and nothing in a pack is run; see `user_modules` for `modules=that.zip`.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import stat
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ultralytics.utils.archives.zip_directory import ZIP_ERRORS, check_directory, zip_reason
from ultralytics.utils.errors import CheckpointError, printable
from ultralytics.utils.files import atomic_write, file_sha256

MANIFEST = "pack.json"
PACK_FORMAT, PACK_VERSION = "rtdetr-shsa-pack", 1
WEIGHTS_FOLDER, MODULES_FOLDER, EXPORTED_FOLDER = "weights/", "modules/", "exported/"
"""Folders of a pack."""

MAX_MEMBERS = 1000
MAX_SIZE = 16 << 30  # bytes of a pack
MAX_PACK_TEXT = 4 << 20  # bytes of `pack.json` and of a module
MAX_MEMBER_NAME = 200
_HEADER = 30  # bytes of a member's header without its name
_WRONG_NAME = re.compile(r'[\x00-\x1f\x7f\\:*?"<>|]|^/|(?:^|/)(?:\.{1,2})?(?:/|$)')
"""Absolute, with an empty or dotted part, or with a character that a file name cannot have everywhere."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_REMEDY = "ask for another copy, written by `yolo pack` and not changed by another tool"


@dataclass(frozen=True)
class Pack:
    """A pack whose table of contents and manifest were checked.

    Attributes:
        path: The zip file.
        weights: Member with the weights.
        modules: Members with Python files of the user's, in the order in which they were loaded.
        files: Size and SHA-256 of each member but the manifest.
        about: The manifest.
    """

    path: Path
    weights: str
    modules: tuple[str, ...]
    files: Mapping[str, tuple[int, str]]
    about: Mapping[str, Any]

    def read(self, name: str) -> bytes:
        """The bytes of a member. Raises CheckpointError for one that is missing or differs from the manifest."""
        if name not in self.files:
            raise CheckpointError(f"{self.path}: the pack has no {name!r:.80}", f"it has {', '.join(self.files)}")
        size, sha256 = self.files[name]
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(name) as member:
                content = member.read(size + 1)
        except ZIP_ERRORS as e:
            raise _refused(self.path, f"{name} is damaged: {zip_reason(e)}") from None
        if len(content) != size or hashlib.sha256(content).hexdigest() != sha256:
            raise _refused(self.path, f"{name} is not the file that pack.json names by its SHA-256")
        return content


def is_pack(path: Path) -> bool:
    """Whether a file begins as a pack does: with the member `pack.json`."""
    with path.open("rb") as f:
        start = f.read(_HEADER + len(MANIFEST))
    return start[:4] == b"PK\x03\x04" and start[_HEADER:] == MANIFEST.encode()


def open_pack(path: Path) -> Pack:
    """Check the table of contents and the manifest of a pack. Raises CheckpointError for a file that breaks a bound."""
    size = path.stat().st_size
    if size > MAX_SIZE:
        raise _refused(path, f"it has {size:,} bytes; a pack has at most {MAX_SIZE:,}")
    try:
        with path.open("rb") as f:
            check_directory(f, size)
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_members(members, size)
            with archive.open(MANIFEST) as member:
                text = member.read(MAX_PACK_TEXT + 1)
        return _from_manifest(path, text, {m.filename: m.file_size for m in members})
    except CheckpointError:
        raise
    except ZIP_ERRORS as e:
        raise _refused(path, zip_reason(e)) from None


def _check_members(members: Sequence[zipfile.ZipInfo], size: int) -> None:
    """Demand stored, plain, separate members whose names are paths below a folder; ValueError names the first other."""
    if not 1 < len(members) <= MAX_MEMBERS:
        raise ValueError(f"it has {len(members):,} members; a pack has 2 to {MAX_MEMBERS}")
    if members[0].filename != MANIFEST or members[0].header_offset != 0:
        raise ValueError(f"its first member is not {MANIFEST}")
    seen: set[str] = set()
    for member in members:
        if why := _fault(member):
            raise ValueError(f"member {printable(member.filename)!r:.60} {why}")
        if member.filename.casefold() in seen:
            raise ValueError(f"member {printable(member.filename)!r:.60} is there twice")
        seen.add(member.filename.casefold())
    end = 0
    for member in sorted(members, key=lambda m: m.header_offset):
        if member.header_offset < end:
            raise ValueError(f"member {printable(member.filename)!r:.60} overlaps another one")
        end = member.header_offset + _HEADER + len(member.filename.encode()) + member.file_size
    if end > size:
        raise ValueError("its members claim more bytes than the file has")


def _fault(member: zipfile.ZipInfo) -> str:
    """What is wrong with a member by itself, empty for nothing."""
    if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
        return "is compressed; a pack is stored as it is"
    if member.flag_bits & 1:
        return "is encrypted"
    if len(member.filename) > MAX_MEMBER_NAME or _WRONG_NAME.search(member.filename):
        return "has a name that is not a path below the pack"
    kind = stat.S_IFMT(member.external_attr >> 16)
    return "" if kind in {0, stat.S_IFREG} else "is a link or a device, not a file"


def _from_manifest(path: Path, text: bytes, sizes: Mapping[str, int]) -> Pack:
    """Compare the manifest with the members; ValueError names what differs."""
    about = _parsed(text)
    if about.get("format") != PACK_FORMAT:
        raise ValueError(f"pack.json is not that of a pack (format {about.get('format')!r:.40})")
    version = about.get("format_version")
    if type(version) is not int or version > PACK_VERSION:
        raise CheckpointError(
            f"{path}: pack of version {version!r:.20}; this package reads up to {PACK_VERSION}", "upgrade the package"
        )
    listed = about.get("files")
    if not isinstance(listed, Mapping) or set(listed) != set(sizes) - {MANIFEST}:
        raise ValueError("the files that pack.json lists are not those of the pack")
    files = {name: _file(name, entry, sizes[name]) for name, entry in listed.items()}
    weights, modules = about.get("weights"), about.get("modules", [])
    if not isinstance(weights, str) or weights not in files:
        raise ValueError("pack.json names no weights that are in the pack")
    if not isinstance(modules, list) or not all(map(_is_module, modules)) or not set(modules) <= set(files):
        raise ValueError("pack.json names modules that are not in the pack")
    if any(sizes[name] > MAX_PACK_TEXT for name in modules):
        raise ValueError(f"a module in it is larger than {MAX_PACK_TEXT:,} bytes")
    return Pack(path, weights, tuple(modules), files, about)


def _parsed(text: bytes) -> Mapping[str, Any]:
    if len(text) > MAX_PACK_TEXT:
        raise ValueError(f"pack.json is larger than {MAX_PACK_TEXT:,} bytes")
    try:
        about = json.loads(text)
    except RecursionError:
        raise ValueError("pack.json is nested too deeply") from None
    if not isinstance(about, dict):
        raise ValueError("pack.json is not a JSON object")
    return about


def _file(name: str, entry: object, size: int) -> tuple[int, str]:
    """The size and the hash that the manifest gives of a member, which has `size` bytes."""
    sha256 = entry.get("sha256") if isinstance(entry, Mapping) else None
    if not isinstance(entry, Mapping) or entry.get("size") != size or not isinstance(sha256, str):
        raise ValueError(f"pack.json gives another size of {name!r:.60} than the zip")
    if not _SHA256.fullmatch(sha256):
        raise ValueError(f"pack.json gives no SHA-256 of {name!r:.60}")
    return size, sha256


def _is_module(name: object) -> bool:
    return isinstance(name, str) and name.startswith(MODULES_FOLDER) and name.endswith(".py") and name.count("/") == 1


def _refused(path: Path, why: str) -> CheckpointError:
    return CheckpointError(f"{path}: cannot be read as a pack: {why}", _REMEDY)


def write_pack(
    path: Path, parts: Mapping[str, bytes | Path], weights: str, modules: Iterable[str], about: Mapping[str, object]
) -> Path:
    """Write the parts, each the content or a file by its name in the pack, whole or not at all; return the path.

    `about` are further entries of the manifest.
    """
    files = {name: {"size": _size(part), "sha256": _sha256(part)} for name, part in parts.items()}
    manifest = {
        "format": PACK_FORMAT,
        "format_version": PACK_VERSION,
        **about,
        "weights": weights,
        "modules": list(modules),
        "files": files,
    }
    text = json.dumps(manifest, indent=1, ensure_ascii=False).encode()
    with atomic_write(path, "wb") as f, zipfile.ZipFile(f, "w", zipfile.ZIP_STORED) as archive:
        for name, part in {MANIFEST: text, **parts}.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            info.file_size = _size(part)
            with archive.open(info, "w") as member:
                if isinstance(part, Path):
                    with part.open("rb") as source:
                        shutil.copyfileobj(source, member, 1 << 20)
                else:
                    member.write(part)
    return path


def _size(part: bytes | Path) -> int:
    return part.stat().st_size if isinstance(part, Path) else len(part)


def _sha256(part: bytes | Path) -> str:
    return file_sha256(part) if isinstance(part, Path) else hashlib.sha256(part).hexdigest()
