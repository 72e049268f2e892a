"""Errors meant for a user: each states the value, the bound and the remedy, and where the value came from.

Every class also derives from the built-in exception that callers of the upstream interface already catch. The command
line prints the message of a `UserError` alone (at most three lines) and exits with status 1; anything else is a bug and
keeps its traceback.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_SEQUENCE = r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)?"
_CONTROL = re.compile(_SEQUENCE + r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Escape sequences, and what else would steer a terminal or turn the order of letters: a value may come from a file."""
_BREAKS = re.compile(r"[\t\n\u2028\u2029]+")
MAX_LINE = 500
"""Characters of a line of a message; a value of a file may have millions."""


def printable(text: object) -> str:
    """Return a string that came from a file as one line that may be shown.

    Control characters and escape sequences are left out, breaks become a blank, and what is not Unicode, such as the
    bytes of a file name in another encoding, is written as an escape.

    >>> printable("\\x1b[31mred\\x1b[0m\\nfox"), printable("caf\\udce9")
    ('red fox', 'caf\\\\udce9')
    """
    shown = _BREAKS.sub(" ", _CONTROL.sub("", str(text)))
    return shown.encode("utf-8", "backslashreplace").decode()


def _shortened(line: str) -> str:
    """Return a line with its middle left out where it is longer than `MAX_LINE`."""
    if len(line) <= MAX_LINE:
        return line
    return f"{line[: MAX_LINE - 100]} ... ({len(line):,} characters) ... {line[-60:]}"


class UserError(Exception):
    """Base of all errors that the user can correct."""

    def __str__(self) -> str:
        text = _CONTROL.sub("", "\n".join(str(a) for a in self.args))
        return "\n".join(map(_shortened, text.split("\n")))


class ConfigError(UserError, ValueError):
    """An argument has a value outside its bounds, or two arguments contradict each other."""


class ImageSizeError(ConfigError):
    """A network does not take images of a size; it takes square ones of `side` px."""

    def __init__(self, *lines: str, side: int = 0) -> None:
        super().__init__(*lines)
        self.side = side


class ConfigTypeError(UserError, TypeError):
    """An argument has a value of the wrong type."""


class UnknownArgumentError(UserError, SyntaxError):
    """An argument name does not exist; the message names the nearest ones."""

    def __str__(self) -> str:
        return UserError.__str__(self)


class NotFoundError(UserError, FileNotFoundError):
    """A file, folder or model name does not exist."""

    def __str__(self) -> str:
        return UserError.__str__(self)


class DatasetError(UserError, RuntimeError):
    """A data set cannot be used: no images, bad YAML, unusable labels."""


class ModelYAMLError(UserError, ValueError):
    """A model YAML cannot be built; the message names the layer index, the file and the line."""


class CheckpointError(UserError, RuntimeError):
    """A weights file cannot be read, or does not fit."""


class FinishedRunError(CheckpointError):
    """A run that is to be resumed has trained all its epochs, or hours."""


class DeviceError(UserError, ValueError):
    """A requested device does not exist on this machine."""


class TrainingError(UserError, RuntimeError):
    """Training cannot continue: non-finite loss, no memory."""


class WorkerError(UserError, RuntimeError):
    """A worker process of a loader has ended before its time."""


class MissingPackageError(UserError, ImportError):
    """An optional package is not installed; the message says how to install it."""


def refuse_uncalled(cls: type[object], table: Mapping[str, str]) -> None:
    """Raise `ConfigError` when a class defines a method of the interface that is never called: it would do nothing.

    `table` names these methods, and what to replace instead.
    """
    for name, instead in table.items():
        owner = next((c for c in cls.__mro__ if name in vars(c)), object)
        if owner is not object and owner.__module__.partition(".")[0] != __name__.partition(".")[0]:
            raise ConfigError(f"{cls.__name__}.{name} is never called here", f"replace {instead}")
