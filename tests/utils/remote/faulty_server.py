"""A web server on this machine that sends one file, in every wrong way that is listed here.

A path is `/<behaviour>/<name>`; `good` sends the file with ranges and an entity tag, as a release page does.
"""

from __future__ import annotations

import http.server
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar

HTML = b"<!DOCTYPE html><html><body>Sign in</body></html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
LARGE = 10 * 10**9


class FaultyHandler(http.server.BaseHTTPRequestHandler):
    """Answers by the behaviour that the path names."""

    protocol_version = "HTTP/1.1"
    body = b""
    tag = '"v1"'
    requests: ClassVar[list[tuple[str, dict[str, str]]]]

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self.close_connection = True
        self.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
        with suppress(ConnectionError):
            BEHAVIOURS[self.path.split("/")[1]](self)

    def send(self, body: bytes, status: int = 200, length: int | None = None, **headers: str) -> None:
        """Send a whole answer; `length` is announced in place of the body's own."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def redirect(self, place: str) -> None:
        """Send to another address."""
        self.send(b"", 302, Location=place)

    def chunks(self, *pieces: bytes, end: bytes = b"0\r\n\r\n") -> None:
        """Send with chunked transfer encoding."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in pieces:
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        self.wfile.write(end)

    @property
    def port(self) -> int:
        """Port of the server."""
        return int(self.server.server_address[1])


def _good(h: FaultyHandler) -> None:
    wanted = h.headers.get("Range", "")
    if wanted and h.headers.get("If-Range") == h.tag:
        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        place = f"bytes {start}-{len(h.body) - 1}/{len(h.body)}"
        h.send(h.body[start:], 206, Content_Range=place, ETag=h.tag)
    else:
        h.send(h.body, ETag=h.tag)


def _cut(h: FaultyHandler, tag: str = "") -> None:
    h.send(h.body[: len(h.body) // 2], length=len(h.body), **({"ETag": tag} if tag else {}))


def _cut_once(h: FaultyHandler) -> None:
    if h.headers.get("Range"):
        _good(h)
    else:
        _cut(h, h.tag)


def _wrong_place(h: FaultyHandler) -> None:
    if h.headers.get("Range"):
        h.send(h.body, 206, Content_Range=f"bytes 1-{len(h.body)}/{len(h.body)}", ETag=h.tag)
    elif sum(path == h.path for path, _ in h.requests) == 1:
        _cut(h, h.tag)
    else:
        _good(h)


def _no_ranges(h: FaultyHandler) -> None:
    if sum(path == h.path for path, _ in h.requests) == 1:
        _cut(h, h.tag)
    else:
        h.send(h.body, ETag='"v2"')


def _not_satisfiable(h: FaultyHandler) -> None:
    if h.headers.get("Range"):
        h.send(b"", 416)
    elif sum(path == h.path for path, _ in h.requests) == 1:
        _cut(h, h.tag)
    else:
        _good(h)


def _unbounded(h: FaultyHandler) -> None:
    h.send_response(200)
    h.end_headers()
    while True:
        h.wfile.write(b"PK" + b"x" * 65_536)


def _stall(h: FaultyHandler) -> None:
    _cut(h, h.tag)
    time.sleep(1.0)


def _drip(h: FaultyHandler) -> None:
    h.send(h.body[:10], length=len(h.body))
    for i in range(20):
        time.sleep(0.05)
        h.wfile.write(h.body[10 + i : 11 + i])


def _flipped(body: bytes) -> bytes:
    """One bit in the middle of the largest tensor."""
    place = len(body) // 2
    return body[:place] + bytes([body[place] ^ 4]) + body[place + 1 :]


def _nothing(h: FaultyHandler) -> None:
    """Close the connection without an answer."""


BEHAVIOURS: dict[str, Callable[[FaultyHandler], None]] = {
    "good": _good,
    "cut_once": _cut_once,
    "wrong_place": _wrong_place,
    "no_ranges": _no_ranges,
    "not_satisfiable": _not_satisfiable,
    "moved": lambda h: h.redirect(h.path.replace("moved", "good")),
    "to_localhost": lambda h: h.redirect(f"http://localhost:{h.port}/good/w.pth"),
    **{f"status_{n}": lambda h, n=n: h.send(HTML, n) for n in (401, 403, 404, 410, 429, 500, 503)},  # type: ignore[misc]
    "closed": _nothing,
    "not_http": lambda h: h.wfile.write(b"HELLO WORLD\r\n\r\n"),
    "cut": _cut,
    "cut_tagged": lambda h: _cut(h, h.tag),
    "stall": _stall,
    "drip": _drip,
    "html": lambda h: h.send(HTML, Content_Type="text/html; charset=utf-8"),
    "html_as_bytes": lambda h: h.send(b"  \n" + HTML, Content_Type="application/octet-stream"),
    "pointer": lambda h: h.send(POINTER),
    "message": lambda h: h.send(b'{"error": "rate limit"}', Content_Type="application/json"),
    "empty": lambda h: h.send(b""),
    "loop": lambda h: h.redirect(h.path),
    "to_file": lambda h: h.redirect("file:///etc/hostname"),
    "large": lambda h: h.send(b"PK", length=LARGE),
    "unbounded": _unbounded,
    "bad_chunk": lambda h: h.chunks(h.body[:100], end=b"zz\r\n"),
    "cut_chunks": lambda h: h.chunks(h.body[:100], end=b"ffff\r\nabc"),
    "encoded": lambda h: h.send(h.body, Content_Encoding="gzip"),
    "noise": lambda h: h.send(bytes(range(256)) * 40),
    "short": lambda h: h.send(h.body[:-200]),
    "flipped": lambda h: h.send(_flipped(h.body)),
    "pickle": lambda h: h.send(b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R."),
    "unasked_range": lambda h: h.send(h.body[9:], 206, Content_Range=f"bytes 9-{len(h.body) - 1}/{len(h.body)}"),
}
