"""Logger, colours and progress bar of the command line.

Everything goes to standard output as it is at the moment of writing, so a redirected or captured stream is honoured.
Importing this module creates logging objects and nothing else.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Generic, TextIO, TypeVar, cast

from ultralytics.utils.dist import rank

T = TypeVar("T")

NAME = "ultralytics"
_ESCAPE = re.compile(r"\033\[\d*m")
_STEERING = re.compile(r"\033(?!\[\d*m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f]")
"""What would steer a terminal; the colours of this module and line breaks are left."""
_PREFIX = {logging.WARNING: "WARNING ⚠️ ", logging.ERROR: "ERROR ❌ ", logging.CRITICAL: "ERROR ❌ "}
_STYLES = {
    "black": "30",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
    "cyan": "36",
    "white": "37",
    "bright_black": "90",
    "bright_red": "91",
    "bright_green": "92",
    "bright_yellow": "93",
    "bright_blue": "94",
    "bright_magenta": "95",
    "bright_cyan": "96",
    "bright_white": "97",
    "end": "0",
    "bold": "1",
    "underline": "4",
}


def colorstr(*args: str) -> str:
    """Wrap a string in terminal styles: the last argument is the string, those before it are style names.

    A string alone becomes blue and bold. Unknown style names raise KeyError.

    >>> colorstr("red", "hi")
    '\\x1b[31mhi\\x1b[0m'
    """
    *styles, text = args if len(args) > 1 else ("blue", "bold", args[0])
    return "".join(f"\033[{_STYLES[s]}m" for s in styles) + f"{text}\033[0m"


def write_text(stream: TextIO | None, text: str, lead: str = "") -> None:
    """Write to a stream: colours only on a terminal; characters that its encoding lacks become `?`.

    Control characters are left out: names and paths come from files. `lead` is written as it is. Nothing is written to
    None, which stands for a closed standard stream (`yolo cfg >&-`).
    """
    if stream is None:
        return
    text = lead + _STEERING.sub("", text)
    if not stream.isatty() or os.getenv("NO_COLOR"):
        text = _ESCAPE.sub("", text)
    try:
        stream.write(text)
    except UnicodeEncodeError:
        encoding = stream.encoding or "ascii"
        stream.write(text.encode(encoding, "replace").decode(encoding))
    stream.flush()


def mute(stream: TextIO) -> None:
    """Send what is written to a stream nowhere: its reader has gone (`yolo predict | head -1`), or its disk is full."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
    except (OSError, ValueError):  # not a stream of the system
        pass


class ConsoleHandler(logging.Handler):
    """Writes to whatever `sys.stdout` is when a record arrives."""

    def __init__(self) -> None:
        super().__init__()
        self._open = 0  # letters of a progress line that has not ended

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if sys.stdout is not None:
                write_text(sys.stdout, self.format(record) + "\n", lead=self._cleared(sys.stdout))
        except OSError:  # the run is worth more than its messages
            mute(sys.stdout)
        except ValueError:
            self.handleError(record)

    def draw(self, line: str, final: bool) -> None:
        """Draw a progress line over the one before where that is possible; elsewhere the final one alone."""
        stream = sys.stdout
        if stream is None:
            return
        try:
            if stream.isatty() or in_notebook(stream):
                lead = "\r\033[K" if stream.isatty() else self._cleared(stream)
                self._open = 0 if final else len(line)
                write_text(stream, line + ("\n" if final else ""), lead=lead)
            elif final:
                write_text(stream, line + "\n")
        except OSError:
            mute(stream)

    def _cleared(self, stream: TextIO) -> str:
        """What removes an open progress line, so that a message does not stand behind it."""
        width, self._open = self._open, 0
        if not width:
            return ""
        return "\r\033[K" if stream.isatty() else f"\r{' ' * width}\r"


def in_notebook(stream: object) -> bool:
    """Whether a stream is shown below a cell of a notebook, where a carriage return goes back to the line's start."""
    return type(stream).__module__.partition(".")[0] == "ipykernel"


class _Formatter(logging.Formatter):
    """The plain message; warnings and errors carry a prefix."""

    def format(self, record: logging.LogRecord) -> str:
        return _PREFIX.get(record.levelno, "") + super().format(record)


def verbose_default() -> bool:
    """Whether messages are shown: on unless `YOLO_VERBOSE` is off."""
    return os.getenv("YOLO_VERBOSE", "true").lower() in {"1", "true", "yes", "on", "y", "t"}


def get_logger(name: str = NAME) -> logging.Logger:
    """Return the logger, with its one handler attached on the first call.

    INFO on a single process or on rank 0, ERROR on the other ranks and when `YOLO_VERBOSE` is false.
    """
    logger = logging.getLogger(name)
    if not any(isinstance(h, ConsoleHandler) for h in logger.handlers):
        handler = ConsoleHandler()
        handler.setFormatter(_Formatter("%(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO if verbose_default() and rank() in {-1, 0} else logging.ERROR)
        logger.propagate = False
    return logger


LOGGER = get_logger()


@contextmanager
def log_level(level: int) -> Iterator[None]:
    """Log nothing below `level` (as in `logging`) until the block ends."""
    before = LOGGER.level
    LOGGER.setLevel(level)
    try:
        yield
    finally:
        LOGGER.setLevel(before)


def clock_text(seconds: float) -> str:
    """Seconds as `m:ss` or `h:mm:ss`."""
    minutes, s = divmod(int(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"


class ProgressBar(Generic[T]):
    """A progress line: description, bar, percent, count, rate, elapsed<remaining, and `note`.

    Use it as an iterable, as a context manager with `update`, or both. On a terminal the line is redrawn at most ten
    times a second; elsewhere one plain line is printed when the bar closes, so that logs stay readable.

    `total` defaults to the iterable's length; `disable=None` follows the logger (no bar where INFO is off).
    """

    WIDTH = 12
    INTERVAL = 0.1

    def __init__(
        self,
        iterable: Iterable[T] | None = None,
        *,
        total: int | None = None,
        desc: str = "",
        unit: str = "it",
        disable: bool | None = None,
    ) -> None:
        self.iterable = iterable
        self.total = total if total is not None or not hasattr(iterable, "__len__") else len(cast(Any, iterable))
        self.desc = desc
        self.unit = unit
        self.disable = not LOGGER.isEnabledFor(logging.INFO) if disable is None else disable
        self.n = 0
        self.note = ""
        self.start = time.monotonic()
        self._drawn = 0.0
        self._closed = False

    def __iter__(self) -> Iterator[T]:
        try:
            for item in self.iterable or ():
                yield item
                self.update()
        finally:
            self.close()

    def __len__(self) -> int:
        return self.total or 0

    def __enter__(self) -> ProgressBar[T]:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def update(self, n: int = 1) -> None:
        """Count `n` more items and redraw when due."""
        self.n += n
        if time.monotonic() - self._drawn >= self.INTERVAL:
            self._draw()

    def set_description(self, desc: str) -> None:
        """Replace the text in front of the bar; it shows at the next redraw."""
        self.desc = desc

    def close(self) -> None:
        """Draw the final state and end the line; further calls do nothing."""
        if not self._closed:
            self._closed = True
            self._draw(final=True)

    def text(self) -> str:
        """The line as it would be drawn now, without colours."""
        elapsed = max(time.monotonic() - self.start, 1e-9)
        rate = self.n / elapsed
        front = f"{self.desc} " if self.desc else ""
        speed = f"{rate:.1f}{self.unit}/s" if rate >= 1 or not self.n else f"{1 / rate:.1f}s/{self.unit}"
        if not self.total:
            return f"{front}{self.n}{self.unit} {speed} {clock_text(elapsed)}"
        done = min(self.n / self.total, 1.0)
        cells = int(done * self.WIDTH)
        bar = "━" * cells + "─" * (self.WIDTH - cells)
        left = clock_text((self.total - self.n) / rate) if self.n else "?"
        remaining = "" if self.n >= self.total else f"<{left}"
        return f"{front}{bar} {done:.0%} {self.n}/{self.total} {speed} {clock_text(elapsed)}{remaining}{self.note}"

    def _draw(self, final: bool = False) -> None:
        if self.disable:
            return
        self._drawn = time.monotonic()
        handlers = [h for h in LOGGER.handlers if isinstance(h, ConsoleHandler)] or [ConsoleHandler()]
        handlers[0].draw(self.text(), final)


TQDM = ProgressBar
