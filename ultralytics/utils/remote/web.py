"""One file by HTTP, fetched whole or not at all, and continued where an earlier attempt ended.

What has arrived lies in a hidden folder `.<name>.part` beside the target. It stays there only while it is a correct
beginning of the file; the target appears when the file is complete and its checks have passed.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from ultralytics import __version__
from ultralytics.utils.errors import ConfigError, NotFoundError, UserError, printable
from ultralytics.utils.files import atomic_write, file_sha256
from ultralytics.utils.log import LOGGER, ProgressBar

_CHUNK = 1 << 20
_MAX_STATE = 10_000
MAX_REDIRECTS = 5
ANY_HOST = "*"
PERMANENT = {
    401: "it is not public",
    403: "it is not public",
    404: "there is no such file",
    410: "the file was removed",
}
"""What statuses mean that another attempt would not change."""
_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)")
_PAGES = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<error")
_POINTER = b"version https://git-lfs"
_CUTS = (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError)
"""What ends a transfer that another attempt may complete."""
_HOPELESS = (ConnectionRefusedError, ssl.SSLCertVerificationError)


class CutTransferError(NotFoundError):
    """A transfer ended before its file was complete; what arrived may have been kept."""


@dataclass(frozen=True)
class FetchRule:
    """What a transfer may do.

    Attributes:
        max_bytes: The most that is taken, announced or not; None: any size.
        hosts: Hosts beside the address's own to which redirects may lead; `.example.org` stands for all below it.
        sha256: Expected hash in hex, None where it is unknown.
        remedy: What a user can do about another hash.
        weights: Refuse web pages and pointer files, which are not weights.
        attempts: How often a transfer that was cut is tried.
        timeout_s: Seconds without a byte, after which an attempt ends; it also ends below `min_rate` bytes a second.
        pause_s: Seconds before the second attempt, more before the later ones.
        token: Sent as a bearer token to the address's own host.
    """

    max_bytes: int | None = None
    hosts: tuple[str, ...] = (ANY_HOST,)
    sha256: str | None = None
    remedy: str = "take it from another place, or correct the hash"
    weights: bool = False
    attempts: int = 3
    timeout_s: float = 30.0
    pause_s: float = 1.0
    min_rate: int = 0
    token: str = ""

    def allows(self, host: str) -> bool:
        """Whether a redirect may lead to a host."""
        return any(h in (ANY_HOST, host) or (h[:1] == "." and host.endswith(h)) for h in self.hosts)


def fetch_file(url: str, target: Path, rule: FetchRule, check: Callable[[Path], object] | None = None) -> Path:
    """Fetch an address into a file and return its path; a file that is there is replaced.

    `check` reads the complete file, under its own name in a hidden folder, before it is moved to its place.

    Raises:
        ConfigError: the address, a redirect, the size or the content is not what was asked for.
        CutTransferError: the connection ended; where the server allows it, the next call continues.
        NotFoundError: the address cannot be read.
    """
    check_scheme(url)
    part = _Part(target)
    keep = False
    try:
        _complete(url, part, rule)
        file = part.finish()
        check_sha256(file, rule.sha256, url, rule.remedy)
        if check is not None:
            check(file)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(file, target)
    except (NotFoundError, KeyboardInterrupt):  # the address may be readable again later
        keep = bool(part.version(url))
        raise
    finally:
        if not keep:
            part.remove()
    return target


def is_web_address(text: str) -> bool:
    """Whether a string has the scheme of an http or https address."""
    return urlsplit(text).scheme in {"http", "https"}


def check_scheme(url: str) -> None:
    """Raise ConfigError for what is not a web address."""
    if not is_web_address(url):
        raise ConfigError(f"{url!r} is not an http or https address")


def check_sha256(file: Path, wanted: str | None, origin: str, remedy: str) -> None:
    """Raise ConfigError where a file's hash is not the expected one; None expects nothing."""
    found = file_sha256(file) if wanted else None
    if wanted and found != wanted.lower():
        raise ConfigError(
            f"{origin}: the file is not the expected one\nsha256 {found}, wanted {wanted.lower()}\n{remedy}"
        )


class _Part:
    """The beginning of a file on disk, and by what the server recognises the version that it is of."""

    def __init__(self, target: Path) -> None:
        self.folder = target.with_name(f".{target.name}.part")
        self.data, self.state = self.folder / "data", self.folder / "state.json"
        self.name, self.by_hand = target.name, target

    def start(self, url: str, headers: Mapping[str, str]) -> None:
        """Begin the file again, and note its version."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tag = headers.get("ETag", "")
        version = headers.get("Last-Modified", "") if not tag or tag.startswith("W/") else tag
        with atomic_write(self.state) as f:
            json.dump({"url": url, "version": version}, f)
        self.data.write_bytes(b"")

    @property
    def size(self) -> int:
        """Bytes that have arrived."""
        return self.data.stat().st_size if self.data.is_file() else 0

    def version(self, url: str) -> str:
        """What to send as `If-Range`; an empty string where the file cannot be continued."""
        with suppress(OSError, ValueError, AttributeError):
            state = read_small(self.state, _MAX_STATE)
            if state.get("url") == url and self.size:
                return str(state.get("version") or "")
        return ""

    def finish(self) -> Path:
        """Give the complete file its own name, still in the hidden folder."""
        return self.data.rename(self.folder / self.name)

    def remove(self) -> None:
        """Remove all that has arrived."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _complete(url: str, part: _Part, rule: FetchRule) -> None:
    """Try until the file is complete."""
    for attempt in range(1, rule.attempts + 1):
        try:
            _attempt(url, part, rule)
            return
        except CutTransferError as e:
            if attempt == rule.attempts:
                kept = (
                    f"the same command continues from {part.size:,} bytes" if part.version(url) else "try again later"
                )
                raise CutTransferError(f"{e}\n{kept}, or fetch it by hand and put it at {part.by_hand}") from None
            LOGGER.warning(f"{str(e).splitlines()[0]}; attempt {attempt + 1} of {rule.attempts}")
            time.sleep(rule.pause_s * attempt)


def _attempt(url: str, part: _Part, rule: FetchRule) -> None:
    """Ask for the file, or for the rest of it, and take what comes."""
    try:
        with closing(_open(url, part, rule)) as response:
            _receive(response, url, part, rule)
    except urllib.error.HTTPError as e:
        e.close()
        _refuse_status(e, url, part)
    except urllib.error.URLError as e:
        reason = f"{url}: cannot be read ({printable(e.reason)})"
        if isinstance(e.reason, _CUTS) and not isinstance(e.reason, _HOPELESS):
            raise CutTransferError(reason) from None
        raise NotFoundError(f"{reason}\nFetch it by hand and put it at {part.by_hand}.") from None
    except _CUTS as e:
        raise CutTransferError(f"{url}: {printable(e) or type(e).__name__}") from None
    except ValueError as e:
        if isinstance(e, UserError):
            raise
        raise NotFoundError(f"{url}: cannot be read ({printable(e)})\nCheck the address.") from None


def _refuse_status(error: urllib.error.HTTPError, url: str, part: _Part) -> None:
    """Raise what a status other than success means."""
    code = error.code
    if code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        part.remove()
        raise CutTransferError(f"{url}: the server does not continue this file (status {code})")
    if code in PERMANENT:
        raise NotFoundError(f"{url}: {PERMANENT[code]} (status {code})\nFetch it by hand and put it at {part.by_hand}.")
    if 300 <= code < 400:
        raise ConfigError(f"{url}: a redirect that is not followed (status {code}, {printable(error.msg):.100})")
    raise CutTransferError(f"{url}: the server answers with status {code} ({printable(error.reason):.60})")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to the hosts of a rule, and never from https to http."""

    max_redirections = MAX_REDIRECTS
    max_repeats = 2

    def __init__(self, rule: FetchRule) -> None:
        self.rule = rule

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        host = new.hostname or ""
        if old.scheme == "https" and new.scheme != "https":
            raise ConfigError(f"{req.full_url}: leads to an address without encryption\n{newurl} is not followed")
        if host != old.hostname and not self.rule.allows(host):
            raise ConfigError(f"{req.full_url}: leads to another host, {host}\n{newurl} is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(url: str, part: _Part, rule: FetchRule) -> http.client.HTTPResponse:
    """Send the request; a known beginning is not asked for again."""
    request = urllib.request.Request(url, headers={"User-Agent": f"rtdetr-shsa/{__version__}"})
    request.add_header("Accept-Encoding", "identity")
    if rule.token:
        request.add_unredirected_header("Authorization", f"Bearer {rule.token}")
    if version := part.version(url):
        request.add_header("Range", f"bytes={part.size}-")
        request.add_header("If-Range", version)
    opener = urllib.request.build_opener(_Redirects(rule))
    response: http.client.HTTPResponse = opener.open(request, timeout=rule.timeout_s)
    return response


def _receive(response: http.client.HTTPResponse, url: str, part: _Part, rule: FetchRule) -> None:
    """Append what the server sends to the file."""
    headers = {key: printable(value) for key, value in response.headers.items()}
    total = _begin(response, url, part, headers)
    _check_announced(total, url, part, rule)
    if headers.get("Content-Encoding", "identity") != "identity":
        raise ConfigError(f"{url}: comes encoded as {headers['Content-Encoding']}, which was not asked for")
    start = part.size
    with (
        open(part.data, "ab") as f,
        ProgressBar[bytes](total=-(-total // _CHUNK) or None, desc=part.name, unit="MB") as bar,
    ):
        bar.update(start // _CHUNK)
        for chunk in _chunks(response, rule):
            if f.tell() == 0 and rule.weights:
                refuse_page(chunk, headers.get("Content-Type", ""), url)
            f.write(chunk)
            bar.update(f.tell() // _CHUNK - bar.n)
            _check_size(f.tell(), url, rule)
    if total and part.size != total:
        raise CutTransferError(f"{url}: the connection ended after {part.size} of {total} bytes")
    if rule.weights and not part.size:
        raise ConfigError(f"{url}: the file is empty")


def _begin(response: http.client.HTTPResponse, url: str, part: _Part, headers: Mapping[str, str]) -> int:
    """Start the file or continue it, as the server answers; return its whole size, 0 where it is unknown."""
    stated = headers.get("Content-Length", "")
    length = int(stated) if stated.isascii() and stated.isdecimal() and len(stated) < 19 else 0
    if response.status == http.HTTPStatus.PARTIAL_CONTENT:
        match = _RANGE.fullmatch(headers.get("Content-Range", ""))
        if match is None or int(match[1]) != part.size:
            part.remove()
            raise CutTransferError(f"{url}: the server continues at the wrong place; the file is begun again")
        return int(match[2]) if match[2] != "*" else part.size + length
    part.start(url, headers)
    return length


def _chunks(response: http.client.HTTPResponse, rule: FetchRule) -> Iterator[bytes]:
    """Pieces as they arrive; an attempt that is too slow ends."""
    began, taken = time.monotonic(), 0
    while chunk := response.read1(_CHUNK):
        yield chunk
        taken += len(chunk)
        elapsed = time.monotonic() - began
        if elapsed > rule.timeout_s and taken < rule.min_rate * elapsed:
            raise TimeoutError(f"only {taken} bytes in {elapsed:.0f} s")


def _check_announced(total: int, url: str, part: _Part, rule: FetchRule) -> None:
    """Raise ConfigError for a size that is not allowed, or that the disk cannot hold."""
    _check_size(total, url, rule)
    free = shutil.disk_usage(part.folder).free
    if total - part.size > free:
        raise ConfigError(f"{url}: has {total:,} bytes, the disk of {part.folder.parent} has {free:,} left")


def _check_size(size: int, url: str, rule: FetchRule) -> None:
    if rule.max_bytes is not None and size > rule.max_bytes:
        raise ConfigError(
            f"{url}: is larger than {rule.max_bytes:,} bytes ({size:,} so far or announced)\n"
            "nothing was kept; give a higher limit if the address is right"
        )


def refuse_page(start: bytes, kind: str, origin: str) -> None:
    """Raise ConfigError for the beginning of a web page, an error message or a pointer file in the place of weights."""
    text = start[:512].lstrip().lower()
    if kind.startswith("text/html") or text.startswith(_PAGES):
        raise ConfigError(f"{origin}: is a web page, not weights\nopen it in a browser: it may ask for a login")
    if text.startswith(_POINTER):
        raise ConfigError(f"{origin}: is a Git LFS pointer, not weights\ntake the address of the file itself")
    if kind.startswith("application/json") or (text.startswith(b'{"') and b"\0" not in start[:8]):
        said = printable(text[:120].decode("latin-1"))
        raise ConfigError(f"{origin}: is a message of the server, not weights: {said}")


def read_small(file: Path, limit: int) -> Any:
    """The JSON of a small file; ValueError for one that is larger or not JSON, OSError where it cannot be read."""
    with file.open(encoding="utf-8") as f:
        text = f.read(limit + 1)
    if len(text) > limit:
        raise ValueError(f"has more than {limit:,} characters")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("is nested too deep") from None
