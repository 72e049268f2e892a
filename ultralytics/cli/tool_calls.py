"""A tool of the command line: how its tokens are parsed and checked. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ultralytics.cfg.keys import Key
from ultralytics.cfg.renames import OLD_NAMES
from ultralytics.cfg.schema import KEYS, TASKS
from ultralytics.cli.grammar import call_arguments, open_model, parse_overrides, user_arguments, value_of
from ultralytics.utils.checks import nearest
from ultralytics.utils.errors import ConfigError, UnknownArgumentError


@dataclass(frozen=True)
class ToolCall:
    """The parsed tokens of a tool: its files, its own arguments, and those of a run.

    `direct` are the arguments of a run on the command line itself; `values` include those of a `cfg=` file.
    """

    files: Sequence[str]
    own: Mapping[str, Any]
    direct: Mapping[str, Any]
    values: Mapping[str, Any]

    @property
    def model(self) -> Any:
        """The opened model of `model=`."""
        return open_model(str(self.values["model"]), self.values)

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments beside the model, the tool's own over those of a run."""
        return {**call_arguments(self.values), **self.own}


@dataclass(frozen=True)
class Tool:
    """A tool: its own keys, the arguments of a run that it takes (None: all), what it needs, and what it does.

    `files` are the suffixes of files that may be named without a key, with `folders` also folders that exist.
    """

    name: str
    purpose: str
    run: Callable[[ToolCall], None]
    example: str
    own: tuple[Key, ...] = ()
    run_keys: tuple[str, ...] | None = ()
    required: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    folders: bool = False

    @property
    def known(self) -> tuple[str, ...]:
        """The names that the tool lists in its errors."""
        return tuple(dict.fromkeys([key.name for key in self.own] + list(self.run_keys or ())))

    def __call__(self, tokens: Sequence[str]) -> None:
        """Parse the tokens after the tool's name, and run it."""
        self.run(self.parse(tokens))

    def parse(self, tokens: Sequence[str]) -> ToolCall:
        """Sort the tokens into files, own arguments and arguments of a run; a bare task stands for `task=`.

        Raises:
            UnknownArgumentError: an argument that the tool does not take.
            ConfigError: a wrong value, an argument without effect on the tool, or a required one is missing.
        """
        tokens = [f"task={t}" if t in TASKS else t for t in tokens if t not in TASKS or self.run_keys != ()]
        rows = {key.name: key for key in self.own}
        files = [t for t in tokens if "=" not in t and self._is_file(t)]
        pairs = {key: text for key, equals, text in (t.partition("=") for t in tokens) if equals and key in rows}
        own = {key: rows[key].check(value_of(text, rows[key].kind)) for key, text in pairs.items()}
        rest = [t for t in tokens if t not in files and t.partition("=")[0] not in pairs]
        self._check_names(rest)
        direct = parse_overrides(rest)
        values = user_arguments(direct)
        self._check_effect(direct)
        missing = [name for name in self.required if own.get(name) is None and values.get(name) is None]
        if missing:
            raise ConfigError(f"{self.name} needs {', '.join(f'{name}=' for name in missing)}", self.example)
        return ToolCall(files, own, direct, values)

    def _is_file(self, token: str) -> bool:
        """Whether a bare token names a file or folder that the tool takes."""
        if self.folders and Path(token).is_dir():
            return True
        return bool(self.files) and token.lower().endswith(self.files)

    def _check_names(self, tokens: Sequence[str]) -> None:
        """Raise UnknownArgumentError for the first token that the tool does not take, unless it takes all of a run."""
        if self.run_keys is None:
            return
        for name in (t.partition("=")[0] for t in tokens):
            of_a_run = name in KEYS or name in OLD_NAMES
            if name not in self.run_keys and not (self.run_keys and of_a_run):
                near = nearest(name, self.known)
                hint = f"did you mean {' or '.join(near)}?" if near else self.example
                raise UnknownArgumentError(f"{self.name} takes {', '.join(self.known)}, not {name!r}\n{hint}")

    def _check_effect(self, direct: Mapping[str, Any]) -> None:
        """Raise ConfigError for the first argument of a run that the tool does not use."""
        if self.run_keys:
            check_used(self.name, direct, self.run_keys, f"{self.name} takes {', '.join(f'{n}=' for n in self.known)}")


def check_used(tool: str, direct: Mapping[str, Any], used: Sequence[str], remedy: str) -> None:
    """Raise ConfigError for the first argument that is not used; a letter as `scale` is the scale of the model."""
    for name, value in direct.items():
        if name not in used or (name == "scale" and not isinstance(value, str)):
            raise ConfigError(f"{name}={value} has no effect on {tool}", remedy)
