"""Images and videos at http addresses.

An image is read into memory on each access, so that a camera's still image is always current and nothing
is written. A video is fetched into the working directory, because seeking in it needs a file.
"""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from pathlib import Path, PurePosixPath
from urllib.parse import SplitResult, unquote, urlsplit

import cv2

from ultralytics.data.utils import IMG_FORMATS, VID_FORMATS, suffix_of
from ultralytics.utils.downloads import download
from ultralytics.utils.errors import ConfigError, NotFoundError

SCHEMES = ("rtsp://", "rtmp://", "tcp://", "http://", "https://")
TIMEOUT_S = 15
TOTAL_S = 60  # for a whole image; the former is for one answer of the server
_CHUNK = 1 << 16
MAX_IMAGE = 128 * 2**20  # bytes; more is not an image
UNREACHABLE = (urllib.error.URLError, http.client.HTTPException, OSError, ValueError)
"""What an address raises that cannot be read; ValueError: it is not one."""
VIDEO_SITES = ("youtube.com", "youtu.be")


def is_address(text: str) -> bool:
    """Return whether a string is a network address."""
    return text.lower().startswith(SCHEMES)


def is_web(text: str) -> bool:
    """Return whether a string is an http or https address."""
    return text.lower().startswith(("http://", "https://"))


def address_suffix(address: str) -> str:
    """Return the suffix of the file that an address names, without its query.

    >>> address_suffix("https://example.org/a/b.JPG?size=1")
    'jpg'
    """
    return suffix_of(_parts(address).path)


def _parts(address: str) -> SplitResult:
    """Return the parts of an address. Raises ConfigError where it is not one."""
    try:
        return urlsplit(address)
    except ValueError as e:
        raise ConfigError(f"source={address}: not an address ({e})", "check the brackets and the port") from None


def names_image(address: str) -> bool:
    """Return whether a web address ends like an image file."""
    return is_web(address) and address_suffix(address) in IMG_FORMATS


def names_video(address: str) -> bool:
    """Return whether a web address ends like a video file."""
    return is_web(address) and address_suffix(address) in VID_FORMATS


def file_name(address: str) -> str:
    """Return the last part of an address's path, the host when there is none.

    >>> file_name("https://example.org/a/my%20cat.jpg?x=1"), file_name("http://cam:80/")
    ('my cat.jpg', 'cam')
    """
    parts = _parts(address)
    return PurePosixPath(unquote(parts.path)).name or str(parts.hostname)


def fetch(address: str) -> bytes:
    """Return what lies at a web address.

    Raises:
        NotFoundError: it cannot be read, or is far too large for an image.
    """
    data, end = bytearray(), time.monotonic() + TOTAL_S
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT_S) as response:
            while chunk := response.read1(_CHUNK):
                data += chunk
                if len(data) > MAX_IMAGE:
                    raise NotFoundError(f"source={address}: more than {MAX_IMAGE >> 20} MiB, too large for an image")
                if time.monotonic() > end:
                    raise NotFoundError(f"source={address}: not whole after {TOTAL_S} s")
    except UNREACHABLE as e:
        if isinstance(e, NotFoundError):
            raise
        raise NotFoundError(f"source={address}: cannot be read ({getattr(e, 'reason', e)})") from None
    return bytes(data)


def content_type(address: str) -> str:
    """Return the type that a web server gives for an address, such as image/jpeg; empty when it does not answer."""
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT_S) as response:
            return str(response.headers.get_content_type())
    except UNREACHABLE:
        return ""


def fetch_video(address: str) -> Path:
    """Fetch a video into the working directory, where one of its name is kept; return the file.

    Raises:
        NotFoundError: it cannot be read, or is not a video, such as the page of an error; nothing is kept then.
    """
    target = Path.cwd() / file_name(address)
    new = not target.exists()
    file = download(address, target)
    if not cv2.VideoCapture(str(file)).isOpened():
        if new:
            file.unlink()
        raise NotFoundError(f"source={address}: what lies there is not a video")
    return file


def refuse_video_site(address: str) -> None:
    """Raise ConfigError for the page of a video site, which is not a stream."""
    host = (_parts(address).hostname or "").lower()
    if is_web(address) and any(host == site or host.endswith(f".{site}") for site in VIDEO_SITES):
        raise ConfigError(f"source={address}: a page of {host} is not a video", "download the video and give its file")
