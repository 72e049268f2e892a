"""Images and videos at http addresses.

An image is read into memory on each access, so that a camera's still image is always current and nothing
is written. A video is fetched into the working directory, because seeking in it needs a file.
"""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from ultralytics.data.utils import IMG_FORMATS, VID_FORMATS, suffix_of
from ultralytics.utils.downloads import download
from ultralytics.utils.errors import ConfigError, NotFoundError

SCHEMES = ("rtsp://", "rtmp://", "tcp://", "http://", "https://")
TIMEOUT_S = 15
MAX_IMAGE = 512 * 2**20  # bytes; more is not an image
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
    return suffix_of(urlsplit(address).path)


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
    parts = urlsplit(address)
    return PurePosixPath(unquote(parts.path)).name or str(parts.hostname)


def fetch(address: str) -> bytes:
    """Return what lies at a web address.

    Raises:
        NotFoundError: it cannot be read, or is far too large for an image.
    """
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT_S) as response:
            data = response.read(MAX_IMAGE + 1)
    except (urllib.error.URLError, http.client.HTTPException, OSError) as e:
        raise NotFoundError(f"source={address}: cannot be read ({getattr(e, 'reason', e)})") from None
    if len(data) > MAX_IMAGE:
        raise NotFoundError(f"source={address}: more than {MAX_IMAGE >> 20} MiB, too large for an image")
    return bytes(data)


def content_type(address: str) -> str:
    """Return the type that a web server gives for an address, such as image/jpeg; empty when it does not answer."""
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT_S) as response:
            return str(response.headers.get_content_type())
    except (urllib.error.URLError, http.client.HTTPException, OSError):
        return ""


def fetch_video(address: str) -> Path:
    """Fetch a video into the working directory, where one of its name is kept; return the file."""
    return download(address, Path.cwd() / file_name(address))


def refuse_video_site(address: str) -> None:
    """Raise ConfigError for the page of a video site, which is not a stream."""
    host = (urlsplit(address).hostname or "").lower()
    if is_web(address) and any(host == site or host.endswith(f".{site}") for site in VIDEO_SITES):
        raise ConfigError(f"source={address}: a page of {host} is not a video", "download the video and give its file")
