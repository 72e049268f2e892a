"""Every way in which a transfer can fail ends in one clear message, and leaves no file."""

from __future__ import annotations

import http.client
import http.server
import io
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, NamedTuple

import pytest
import torch

from tests.engine.servers import running
from tests.utils.remote.faulty_server import FaultyHandler
from ultralytics.nn.checkpoint.format import read_checkpoint
from ultralytics.utils.errors import CheckpointError, ConfigError, NotFoundError, UserError
from ultralytics.utils.files import file_sha256
from ultralytics.utils.remote import web
from ultralytics.utils.remote.web import CutTransferError, FetchRule, fetch_file, refuse_page

RULE = FetchRule(max_bytes=1_000_000, hosts=(), weights=True, attempts=2, timeout_s=0.25, pause_s=0.0, min_rate=1000)


class Web(NamedTuple):
    """The server's address, the handler that it uses, and what it was asked."""

    url: str
    body: bytes
    handler: type[FaultyHandler]


@pytest.fixture(scope="module")
def served() -> Iterator[Web]:
    buffer = io.BytesIO()
    torch.save({"weight": torch.arange(8192.0)}, buffer)

    class Handler(FaultyHandler):
        body = buffer.getvalue()
        requests: ClassVar[list[tuple[str, dict[str, str]]]] = []

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.block_on_close = True, False
    with running(server) as address:
        yield Web(f"http://{address}", Handler.body, Handler)


FAULTS: list[tuple[str, type[UserError], str]] = [
    ("status_401", NotFoundError, "not public"),
    ("status_403", NotFoundError, "not public"),
    ("status_404", NotFoundError, "no such file"),
    ("status_410", NotFoundError, "removed"),
    ("status_429", CutTransferError, "status 429"),
    ("status_500", CutTransferError, "status 500"),
    ("status_503", CutTransferError, "status 503"),
    ("closed", CutTransferError, "without response"),
    ("not_http", CutTransferError, "HELLO WORLD"),
    ("cut", CutTransferError, "ended after"),
    ("drip", CutTransferError, "only"),
    ("html", ConfigError, "web page"),
    ("html_as_bytes", ConfigError, "web page"),
    ("pointer", ConfigError, "LFS pointer"),
    ("message", ConfigError, "rate limit"),
    ("empty", ConfigError, "empty"),
    ("to_localhost", ConfigError, "another host, localhost"),
    ("loop", ConfigError, "redirect"),
    ("to_file", ConfigError, "redirect"),
    ("large", ConfigError, "10,000,000,000"),
    ("unbounded", ConfigError, "larger than 1,000,000"),
    ("bad_chunk", CutTransferError, "IncompleteRead"),
    ("cut_chunks", CutTransferError, "IncompleteRead"),
    ("encoded", ConfigError, "gzip"),
    ("noise", CheckpointError, "does not begin like a checkpoint"),
    ("short", CheckpointError, "cut short"),
    ("flipped", CheckpointError, "CRC"),
    ("pickle", CheckpointError, "pickle"),
    ("unasked_range", CutTransferError, "wrong place"),
]


@pytest.mark.parametrize(("behaviour", "error", "said"), FAULTS, ids=[f[0] for f in FAULTS])
def test_a_fault_is_named_and_leaves_nothing(
    behaviour: str, error: type[UserError], said: str, served: Web, tmp_path: Path
) -> None:
    with pytest.raises(error, match=said) as e:
        fetch_file(f"{served.url}/{behaviour}/w.pth", tmp_path / "w.pth", RULE, read_checkpoint)
    assert list(tmp_path.iterdir()) == []
    assert len(str(e.value).splitlines()) <= 3 and "w.pth" in str(e.value)


def test_a_wrong_hash(served: Web, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not the expected"):
        fetch_file(f"{served.url}/good/w.pth", tmp_path / "w.pth", replace(RULE, sha256="0" * 64))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_seen_before_it_is_full(served: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = web.shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(web.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ConfigError, match="has 100 left"):
        fetch_file(f"{served.url}/good/w.pth", tmp_path / "w.pth", RULE)
    assert list(tmp_path.iterdir()) == []


def test_no_server_at_all(served: Web, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="by hand and put it at"):
        fetch_file("http://127.0.0.1:9/w.pth", tmp_path / "w.pth", RULE)
    assert list(tmp_path.iterdir()) == []


def test_an_older_file_stays_after_a_fault(served: Web, tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_text("mine")
    with pytest.raises(UserError):
        fetch_file(f"{served.url}/html/w.pth", tmp_path / "w.pth", RULE)
    assert (tmp_path / "w.pth").read_text() == "mine" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("behaviour", ["good", "moved", "cut_once", "wrong_place", "no_ranges", "not_satisfiable"])
def test_a_file_arrives_whole(behaviour: str, served: Web, tmp_path: Path) -> None:
    served.handler.requests.clear()
    rule = replace(RULE, attempts=3)
    path = fetch_file(f"{served.url}/{behaviour}/w.pth", tmp_path / "w.pth", rule, read_checkpoint)
    assert path.read_bytes() == served.body and list(tmp_path.iterdir()) == [path]
    if behaviour == "cut_once":
        _, second = served.handler.requests[1]
        assert second["range"] == f"bytes={len(served.body) // 2}-" and second["if-range"] == served.handler.tag


@pytest.mark.parametrize("behaviour", ["cut_tagged", "stall"])
@pytest.mark.parametrize("changed", [False, True])
def test_a_later_call_continues(behaviour: str, changed: bool, served: Web, tmp_path: Path) -> None:
    """What arrived stays in a hidden folder; it is taken up only if the server still has that version."""
    address, target = f"{served.url}/good/w.pth", tmp_path / "w.pth"
    with pytest.raises(CutTransferError, match="same command continues"):
        fetch_file(f"{served.url}/{behaviour}/w.pth", target, replace(RULE, attempts=1))
    assert [p.name for p in tmp_path.iterdir()] == [".w.pth.part"]
    state = tmp_path / ".w.pth.part" / "state.json"
    state.write_text(state.read_text().replace(f"/{behaviour}/", "/good/"))
    if changed:
        state.write_text(state.read_text().replace("v1", "v0"))
    served.handler.requests.clear()
    assert fetch_file(address, target, RULE).read_bytes() == served.body
    assert [p.name for p in tmp_path.iterdir()] == ["w.pth"]
    assert "range" in served.handler.requests[0][1]


def test_what_arrived_outlives_a_lost_network(served: Web, tmp_path: Path) -> None:
    address, target = f"{served.url}/cut_tagged/w.pth", tmp_path / "w.pth"
    with pytest.raises(CutTransferError):
        fetch_file(address, target, RULE)
    state = tmp_path / ".w.pth.part" / "state.json"
    state.write_text(state.read_text().replace(address, "http://127.0.0.1:9/w.pth"))
    with pytest.raises(NotFoundError, match="refused"):
        fetch_file("http://127.0.0.1:9/w.pth", target, RULE)
    assert (tmp_path / ".w.pth.part" / "data").stat().st_size == len(served.body) // 2


def test_a_redirect_goes_where_the_rule_allows(served: Web, tmp_path: Path) -> None:
    rule = replace(RULE, hosts=("localhost",), token="secret")
    served.handler.requests.clear()
    assert fetch_file(f"{served.url}/to_localhost/w.pth", tmp_path / "w.pth", rule).is_file()
    sent = [headers.get("authorization") for _, headers in served.handler.requests]
    assert sent == ["Bearer secret", None]


@pytest.mark.parametrize(
    ("hosts", "host", "allowed"),
    [((), "a.b", False), (("*",), "a.b", True), ((".hf.co",), "cdn.hf.co", True), ((".hf.co",), "evilhf.co", False)],
)
def test_hosts_of_a_rule(hosts: tuple[str, ...], host: str, allowed: bool) -> None:
    assert FetchRule(hosts=hosts).allows(host) is allowed


def test_https_never_becomes_http(served: Web) -> None:
    handler = web._Redirects(FetchRule())
    request = urllib.request.Request("https://example.org/a")
    with pytest.raises(ConfigError, match="without encryption"):
        handler.redirect_request(request, io.BytesIO(), 302, "", http.client.HTTPMessage(), "http://example.org/a")


@pytest.mark.parametrize("start", [b'{"\x00\x00\x00\x00\x00\x00{"a":{}}', b"PK\x03\x04", b"\x10\x00"])
def test_weights_are_not_taken_for_pages(start: bytes) -> None:
    refuse_page(start, "application/octet-stream", "here")


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.write_text("no"), lambda p: p.write_text("[1]")])
def test_a_damaged_state_starts_again(make: Callable[[Path], object], served: Web, tmp_path: Path) -> None:
    part = tmp_path / ".w.pth.part"
    part.mkdir()
    (part / "data").write_bytes(b"other")
    make(part / "state.json")
    target = fetch_file(f"{served.url}/good/w.pth", tmp_path / "w.pth", RULE)
    assert file_sha256(target) and target.read_bytes() == served.body
