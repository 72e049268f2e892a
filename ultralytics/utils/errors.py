"""Errors meant for a user: each states the value, the bound and the remedy, and where the value came from.

Every class also derives from the built-in exception that callers of the upstream interface already catch. The command
line prints the message of a `UserError` alone (at most three lines) and exits with status 1; anything else is a bug and
keeps its traceback.
"""

from __future__ import annotations

import re

_CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Colour codes, and what else would steer a terminal: a value may come from a file."""


class UserError(Exception):
    """Base of all errors that the user can correct."""

    def __str__(self) -> str:
        return _CONTROL.sub("", "\n".join(str(a) for a in self.args))


class ConfigError(UserError, ValueError):
    """An argument has a value outside its bounds, or two arguments contradict each other."""


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


class DeviceError(UserError, ValueError):
    """A requested device does not exist on this machine."""


class TrainingError(UserError, RuntimeError):
    """Training cannot continue: non-finite loss, no memory."""


class MissingPackageError(UserError, ImportError):
    """An optional package is not installed; the message says how to install it."""
