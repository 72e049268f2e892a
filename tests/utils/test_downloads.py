from __future__ import annotations

import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from ultralytics.utils.downloads import download, unpack
from ultralytics.utils.errors import ConfigError, NotFoundError, UserError
from ultralytics.utils.files import file_sha256


def zip_bytes(**entries: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as z:
        for name, text in entries.items():
            z.writestr(name, text)
    return buffer.getvalue()


CONTENT = {"/data.bin": b"x" * 3_000_000, "/empty.bin": b"", "/set.zip": zip_bytes(**{"set/a.txt": "A", "b.txt": "B"})}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = CONTENT.get(self.path)
        if self.path == "/cut.bin":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"x" * 10)
        elif body is None:
            self.send_error(404)
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server on loopback with the files of CONTENT."""
    httpd = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_address[1]}"
    httpd.shutdown()
    httpd.server_close()


@pytest.mark.parametrize("name", ["empty.bin", "data.bin"])
@pytest.mark.parametrize("with_hash", [False, True])
def test_download(name: str, with_hash: bool, server: str, tmp_path: Path) -> None:
    body = CONTENT[f"/{name}"]
    digest = hashlib.sha256(body).hexdigest().upper() if with_hash else None
    file = download(f"{server}/{name}", tmp_path, sha256=digest)
    assert file == tmp_path / name and file.read_bytes() == body
    assert download(f"{server}/{name}", tmp_path / "other.bin").read_bytes() == body
    assert {p.name for p in tmp_path.iterdir()} == {name, "other.bin"}


def test_a_file_that_is_there_is_kept_if_it_agrees(server: str, tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_text("mine")
    assert download(f"{server}/data.bin", tmp_path).read_text() == "mine"
    good = hashlib.sha256(CONTENT["/data.bin"]).hexdigest()
    assert file_sha256(download(f"{server}/data.bin", tmp_path, sha256=good)) == good


@pytest.mark.parametrize(
    ("path", "digest", "error", "word"),
    [
        ("/data.bin", "0" * 64, ConfigError, "not the expected"),
        ("/none.bin", None, NotFoundError, "by hand"),
        ("/cut.bin", None, NotFoundError, "10 of 1000"),
        ("", None, ConfigError, "file name"),
    ],
)
def test_a_failed_download_leaves_nothing(
    path: str, digest: str | None, error: type[UserError], word: str, server: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=word) as e:
        download(server + path, tmp_path, sha256=digest)
    assert not list(tmp_path.iterdir()) and len(str(e.value).splitlines()) <= 3


@pytest.mark.parametrize("url", ["", "file:///etc/hostname", "ftp://host/a", "data.zip", "javascript:alert(1)"])
def test_other_addresses_are_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="http"):
        download(url, tmp_path)


def test_unzip(server: str, tmp_path: Path) -> None:
    folder = download(f"{server}/set.zip", tmp_path, unzip=True)
    assert folder == tmp_path / "set"
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.txt")) == ["set/b.txt", "set/set/a.txt"]
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def evil_zip(path: Path, name: str) -> Path:
    path.write_bytes(zip_bytes(**{"good.txt": "x", name: "x"}))
    return path


def tar_of(path: Path, info: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as t:
        t.addfile(info, io.BytesIO(b"x" * info.size))
    return path


@pytest.mark.parametrize("name", ["../out.txt", "a/../../out.txt", "/tmp/out_of_zip.txt", "..\\out.txt"])
def test_a_zip_cannot_write_outside(name: str, tmp_path: Path) -> None:
    archive = evil_zip(tmp_path / "in.zip", name)
    with pytest.raises(ConfigError, match="outside"):
        unpack(archive)
    assert [p.name for p in tmp_path.iterdir()] == ["in.zip"]


def test_a_tar_is_unpacked(tmp_path: Path) -> None:
    info = tarfile.TarInfo("set/a.txt")
    info.size = 3
    folder = unpack(tar_of(tmp_path / "in.tar.gz", info))
    assert (folder / "set/a.txt").read_text() == "xxx"


@pytest.mark.parametrize("python", ["with tarfile's filter", "older"])
@pytest.mark.parametrize("kind", ["up", "link"])
def test_a_tar_cannot_write_outside(kind: str, python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if python == "older":
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    info = tarfile.TarInfo("../out.txt" if kind == "up" else "link")
    if kind == "link":
        info.type, info.linkname = tarfile.SYMTYPE, "/etc"
    else:
        info.size = 1
    with pytest.raises(ConfigError, match="unpacked"):
        unpack(tar_of(tmp_path / "in.tar.gz", info))
    assert [p.name for p in tmp_path.iterdir()] == ["in.tar.gz"]


@pytest.mark.parametrize(
    ("name", "body"), [("a.rar", b"x"), ("a.zip", b""), ("a.zip", b"PK\x03\x04cut"), ("a.tgz", b"x")]
)
def test_damaged_archives(name: str, body: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(body)
    with pytest.raises(ConfigError, match="a"):
        unpack(tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def _archive(kind: str, path: Path) -> None:
    """An archive whose entries cannot be on disk as they are named, or that cannot be read."""
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("a", "text")
        if kind == "file_and_folder":
            z.writestr("a/b", "text")
        elif kind == "long_name":
            z.writestr("x" * 300, "text")
    data = bytearray(path.read_bytes())
    entry, local = data.rfind(b"PK\x01\x02"), data.find(b"PK\x03\x04")
    if kind == "encrypted":
        data[entry + 8] |= 1
        data[local + 6] |= 1
    elif kind == "method":
        data[entry + 10] = data[local + 8] = 97
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("kind", ["file_and_folder", "long_name", "encrypted", "method"])
def test_archives_that_cannot_be_unpacked_are_named(kind: str, tmp_path: Path) -> None:
    _archive(kind, tmp_path / "set.zip")
    with pytest.raises(ConfigError, match=r"set.zip: cannot be unpacked"):
        unpack(tmp_path / "set.zip")
    assert [p.name for p in tmp_path.iterdir()] == ["set.zip"]


def test_absurd_sizes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ultralytics.utils.downloads._MAX_UNPACKED", 10)
    (tmp_path / "a.zip").write_bytes(zip_bytes(a="x" * 11))
    with pytest.raises(ConfigError, match="GiB"):
        unpack(tmp_path / "a.zip")
