"""Packs: a good one is read back, and of damaged and hostile ones none is: sizes, names, links, bombs, lies, cuts."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from ultralytics.utils.archives import pack_file
from ultralytics.utils.archives.pack_file import MANIFEST, is_pack, open_pack, write_pack
from ultralytics.utils.errors import CheckpointError

FILES: dict[str, bytes | Path] = {
    "weights/best.pt": b"weights" * 50,
    "modules/blocks.py": b"x = 1\n",
    "README.md": b"# x\n",
}


def good(path: Path) -> Path:
    return write_pack(path, FILES, "weights/best.pt", ["modules/blocks.py"], {"task": "detect"})


def listed(files: Mapping[str, bytes]) -> dict[str, dict[str, object]]:
    return {n: {"size": len(b), "sha256": hashlib.sha256(b).hexdigest()} for n, b in files.items()}


def packed(
    files: Mapping[str, bytes] | None = None,
    about: Mapping[str, Any] | None = None,
    compress: int = zipfile.ZIP_STORED,
    change: Callable[[zipfile.ZipInfo], None] = lambda info: None,
    text: bytes | None = None,
) -> bytes:
    """A pack made by hand, with whatever is wrong in it; `change` edits the entry of each member."""
    files = {"weights/best.pt": b"w" * 99} if files is None else files
    manifest = {
        "format": "rtdetr-shsa-pack", "format_version": 1, "weights": "weights/best.pt", "modules": [],
        "files": listed(files), **(about or {}),
    }  # fmt: skip
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compress) as z:
        for name, content in {MANIFEST: json.dumps(manifest).encode() if text is None else text, **files}.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = compress
            if name != MANIFEST:
                change(info)
            z.writestr(info, content)
    return out.getvalue()


def a_link(info: zipfile.ZipInfo) -> None:
    info.external_attr = (stat.S_IFLNK | 0o777) << 16


def twice() -> bytes:
    """Two members of one name."""
    out = io.BytesIO(packed())
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(out, "a") as z:
        z.writestr("weights/best.pt", b"other")
    return out.getvalue()


def overlapping() -> bytes:
    """A table of contents in which a second member points at the bytes of the first, as in a quine or a flat bomb."""
    files = {"weights/best.pt": b"w" * 99, "weights/bust.pt": b"w" * 99}
    data = packed(files)
    with zipfile.ZipFile(io.BytesIO(data)) as z:
        first, second = (z.getinfo(n).header_offset for n in files)
    entry = data.rindex(b"PK\x01\x02")
    return data[: entry + 42] + first.to_bytes(4, "little") + data[entry + 46 :] if second else data


def claiming(size: int) -> bytes:
    """A pack whose table of contents announces another size of its weights."""
    data = packed()
    entry = data.rindex(b"PK\x01\x02")
    return data[: entry + 20] + size.to_bytes(4, "little") * 2 + data[entry + 28 :]


W = {"weights/best.pt": b"w" * 99}
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "not a zip": (lambda: b"PK\x03\x04" + bytes(26) + MANIFEST.encode(), "table of contents|none, so"),
    "cut": (lambda: packed()[:-60], "cannot be read as a pack"),
    "compressed, a bomb": (
        lambda: packed({**W, "bomb.bin": bytes(50_000_000)}, compress=zipfile.ZIP_DEFLATED),
        "is compressed",
    ),
    "announced too large": (lambda: claiming(0xFFFFFFF0), "claim more bytes|overlaps"),
    "announced too small": (lambda: claiming(5), "another size"),
    "overlapping": (overlapping, "overlaps"),
    "escape": (lambda: packed({**W, "../evil.py": b""}), "not a path below"),
    "escape inside": (lambda: packed({**W, "a/../../evil.py": b""}), "not a path below"),
    "absolute": (lambda: packed({**W, "/etc/evil": b""}), "not a path below"),
    "drive": (lambda: packed({**W, "C:evil": b""}), "not a path below"),
    "backslash": (lambda: packed({**W, "..\\evil": b""}), "not a path below"),
    "control": (lambda: packed({**W, "a\x1b[2J": b""}), "not a path below"),
    "long name": (lambda: packed({**W, "a" * 300: b""}), "not a path below"),
    "link": (lambda: packed(change=a_link), "is a link"),
    "one name twice": (twice, "there twice"),
    "names differ in case": (lambda: packed({**W, "Weights/BEST.pt": b""}), "there twice"),
    "too many": (lambda: packed({**W, **{f"m/{i}": b"" for i in range(1001)}}), "1,003 members"),
    "nothing but the manifest": (lambda: packed({}), "1 members"),
    "not JSON": (lambda: packed(text=b"{"), "cannot be read as a pack"),
    "a list": (lambda: packed(text=b"[]"), "not a JSON object"),
    "deep": (lambda: packed(text=b"[" * 200_000), "cannot be read as a pack"),
    "manifest too large": (lambda: packed(text=b" " * (5 << 20)), "larger than"),
    "another format": (lambda: packed(about={"format": "x"}), "not that of a pack"),
    "newer": (lambda: packed(about={"format_version": 2}), "upgrade"),
    "version true": (lambda: packed(about={"format_version": True}), "upgrade"),
    "file not listed": (lambda: packed(about={"files": {}}), "not those of the pack"),
    "no hash": (lambda: packed(about={"files": {"weights/best.pt": {"size": 99}}}), "another size|no SHA-256"),
    "no weights": (lambda: packed(about={"weights": "weights/other.pt"}), "no weights"),
    "weights outside": (lambda: packed(about={"weights": "/etc/passwd"}), "no weights"),
    "module outside": (lambda: packed(about={"modules": ["/tmp/x.py"]}), "not in the pack"),
    "module elsewhere in it": (
        lambda: packed({**W, "x.py": b"1"}, {"modules": ["x.py"]}),
        "not in the pack",
    ),
    "module of a mapping": (lambda: packed(about={"modules": {"a": 1}}), "not in the pack"),
}  # fmt: skip


def test_what_was_written_is_read(tmp_path: Path) -> None:
    pack = open_pack(good(tmp_path / "a.zip"))
    assert {name: pack.read(name) for name in pack.files} == FILES
    assert (pack.weights, pack.modules, pack.about["task"]) == ("weights/best.pt", ("modules/blocks.py",), "detect")
    assert is_pack(pack.path) and sorted(os.listdir(tmp_path)) == ["a.zip"]
    with pytest.raises(CheckpointError, match="the pack has no"):
        pack.read("weights/../x")
    with zipfile.ZipFile(pack.path) as z:  # other tools read it too
        assert z.testzip() is None and z.namelist()[0] == MANIFEST


def test_the_maker_of_hostile_packs_makes_good_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(packed())
    assert open_pack(path).read("weights/best.pt") == W["weights/best.pt"]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_packs_are_refused(tmp_path: Path, name: str) -> None:
    make, why = HOSTILE[name]
    path = tmp_path / "a.zip"
    path.write_bytes(make())
    assert is_pack(path)
    with pytest.raises(CheckpointError, match=why) as caught:
        open_pack(path)
    lines = str(caught.value).splitlines()
    assert str(path) in lines[0] and len(lines) <= 3 and os.listdir(tmp_path) == ["a.zip"]


def test_another_content_than_the_manifest_says_is_refused(tmp_path: Path) -> None:
    path = good(tmp_path / "a.zip")
    data = path.read_bytes()
    path.write_bytes(data.replace(b"weightsweights", b"weightsWeights", 1))
    with pytest.raises(CheckpointError, match="damaged"):  # by its CRC
        open_pack(path).read("weights/best.pt")
    path.write_bytes(packed(about={"files": listed({"weights/best.pt": b"v" * 99})}))
    with pytest.raises(CheckpointError, match="SHA-256"):
        open_pack(path).read("weights/best.pt")


@pytest.mark.parametrize("seed", range(4))
def test_any_changed_byte_is_refused_or_without_effect(tmp_path: Path, seed: int) -> None:
    path = good(tmp_path / "a.zip")
    data = path.read_bytes()
    for at in range(seed, len(data), 4):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x15]) + data[at + 1 :])
        try:
            pack = open_pack(path)
            found = {name: pack.read(name) for name in pack.files}
        except CheckpointError:
            continue
        assert all(found.get(name) == content for name, content in FILES.items() if name in found)


def test_a_pack_has_a_largest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = good(tmp_path / "a.zip")
    monkeypatch.setattr(pack_file, "MAX_SIZE", 100)
    with pytest.raises(CheckpointError, match="at most 100"):
        open_pack(path)


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    old = good(tmp_path / "a.zip").read_bytes()
    with pytest.raises(FileNotFoundError):
        write_pack(tmp_path / "a.zip", {"weights/w.pt": tmp_path / "missing"}, "weights/w.pt", [], {})
    assert os.listdir(tmp_path) == ["a.zip"] and (tmp_path / "a.zip").read_bytes() == old
