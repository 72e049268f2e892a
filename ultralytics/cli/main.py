"""The command line `yolo` (also `ultralytics`, and `python -m ultralytics`).

Tokens become a task, a mode and arguments; the method of the model that has the mode's name is called.
Nothing here imports torch, so help, version, cfg and settings are fast.
"""

from __future__ import annotations

import errno
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ultralytics
from ultralytics.cfg import kinds
from ultralytics.cfg.schema import KEYS, MODES, TASKS
from ultralytics.cli.grammar import (
    at_most_one,
    call_arguments,
    check_dashes,
    join_pieces,
    open_model,
    parse_overrides,
    task_of,
    user_arguments,
    value_of,
    weight_paths,
)
from ultralytics.cli.help import help_on, overview
from ultralytics.cli.tools import TOOLS
from ultralytics.utils.checks import print_checks
from ultralytics.utils.config.absent import ABSENT_TASKS, absence
from ultralytics.utils.config.paths import DEFAULT_CFG_PATH
from ultralytics.utils.config.settings import SETTINGS
from ultralytics.utils.errors import ConfigError, UserError
from ultralytics.utils.files import atomic_write, resumed_file
from ultralytics.utils.log import LOGGER, mute, write_text

COPY_NAME = "default_copy.yaml"
DEFAULT_MODEL = {"detect": "rtdetr-l.yaml", "classify": "shvit_s1.yaml"}
DEFAULT_DATA = "demo.yaml"


FILE_SYSTEM_ERRORS = frozenset(
    (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOTDIR, errno.EISDIR)
) | {errno.ENAMETOOLONG, errno.EIO, errno.EMFILE, errno.ENOENT, errno.EEXIST, errno.ELOOP}
"""What a system reports of a folder that cannot be written, a full disk or a wrong path: not a bug."""
_REMEDY = "choose a folder that can be written to (project=, save_dir=) with enough space"


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn a UserError into at most three lines on standard error and exit status 1.

    A run that a signal has stopped ends with 128 and its number: Ctrl-C 130, SIGTERM 143, SIGHUP 129. What the system
    says of a full disk or a folder that cannot be written is one error too. Any other exception is a bug and keeps its
    traceback.
    """
    try:
        with _stop_signals():
            yield
    except UserError as e:
        lines = str(e).strip().splitlines()[:3] or [type(e).__name__]
        _say("ERROR ❌ " + "\n".join(lines) + "\n")
        raise SystemExit(1) from None
    except KeyboardInterrupt as e:
        _say("\ninterrupted\n")
        number = e.args[0] if e.args and isinstance(e.args[0], int) else signal.SIGINT
        raise SystemExit(128 + int(number)) from None
    except BrokenPipeError:  # the reader of `yolo cfg | head` has gone
        mute(sys.stdout)
        raise SystemExit(1) from None
    except OSError as e:
        if e.errno not in FILE_SYSTEM_ERRORS:
            raise
        _say(f"ERROR ❌ {e.strerror}: {e.filename or 'a file of this run'}\n{_REMEDY}\n")
        raise SystemExit(1) from None


@contextmanager
def _stop_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise KeyboardInterrupt with their number, as Ctrl-C does, so that files are closed.

    What the process ignores or handles already stays, and outside of the main thread nothing is changed.
    """

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt(number)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    alone = threading.current_thread() is threading.main_thread()
    taken = [n for n in numbers if alone and signal.getsignal(n) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _say(text: str) -> None:
    """Write to standard error, which a closed terminal takes away."""
    try:
        if sys.stderr is not None:
            write_text(sys.stderr, text)
    except (OSError, ValueError):
        mute(sys.stderr)


def entrypoint(argv: Sequence[str] | None = None) -> None:
    """Run the command line; `argv` defaults to the process's arguments. Exits with 1 on a user's mistake."""
    with user_errors():
        pieces = list(sys.argv[1:] if argv is None else argv)
        check_dashes(pieces)
        _run(join_pieces(pieces))


def _run(tokens: Sequence[str]) -> None:
    """Execute the joined tokens."""
    special = next((t for t in tokens if t.lstrip("-").lower() in _SPECIAL), None)
    if special is not None or not tokens:
        rest = [t for t in tokens if t != special]
        _SPECIAL["help" if special is None else special.lstrip("-").lower()](rest)
        return
    _check_present(tokens)
    run = any(t in MODES for t in tokens)  # then `show` is the switch of that name
    tool = at_most_one([t for t in tokens if not (run and t in KEYS)], tuple(TOOLS), "tool")
    if tool is not None:
        TOOLS[tool]([t for t in tokens if t != tool])
        return
    mode, task = at_most_one(tokens, MODES, "mode"), at_most_one(tokens, TASKS, "task")
    weights = weight_paths(tokens) if mode == "val" else []
    if len(weights) > 1 or (weights and any(t.startswith("model=") for t in tokens)):
        TOOLS["compare"]([t for t in tokens if t != mode])
        return
    overrides = parse_overrides([t for t in tokens if t not in {*TASKS, *MODES, *weights}])
    overrides = overrides if task is None else {**overrides, "task": task}
    _call_model(mode, {**overrides, "model": weights[0]} if weights else overrides)


def _check_present(tokens: Sequence[str]) -> None:
    """Raise ConfigError for a command or task of the interface that this package does not have."""
    for token in tokens:
        why = absence(token) or (f"{ABSENT_TASKS[token]} is not part of this package" if token in ABSENT_TASKS else "")
        if why:
            raise ConfigError(f"{token!r}: {why}\nAvailable: {', '.join((*TASKS, *MODES, *TOOLS))}.")


def _call_model(mode: str | None, overrides: Mapping[str, Any]) -> None:
    """Build the model and call its method of the mode's name with the arguments."""
    values = user_arguments(overrides)
    mode = mode or values.get("mode") or _default_mode(values)
    name = _required_model(mode, values)
    task, model = task_of(name, values), open_model(name, values)
    values = call_arguments(values)
    if mode == "train":
        model.train(**_with_data(values, model, task))
    elif mode == "val":
        model.val(**values)
    elif mode == "track":
        _track(model, values)
    else:
        for _ in model.predict(**{"save": True, **values, "stream": True}):
            pass  # a generator, so that a long video does not fill the memory


def _track(model: Any, values: Mapping[str, Any]) -> None:
    """Track in a source, or with `data` in a folder of MOT sequences, whose scores are logged."""
    if values.get("data") is not None and values.get("source") is None:
        model.track_mot(**values)
        return
    for _ in model.track(**{"save": True, **values, "stream": True}):
        pass


def _default_mode(values: Mapping[str, Any]) -> str:
    """Predict where there is a source, else train."""
    mode = "predict" if values.get("source") is not None else "train"
    others = ", ".join(m for m in (*MODES, *TOOLS) if m != mode)
    LOGGER.warning(f"no mode in the command; using {mode}. Others: {others}")
    return mode


def _with_data(values: dict[str, Any], model: Any, task: str) -> dict[str, Any]:
    """The arguments of training, with a small drawn data set where neither they nor the weights name one."""
    known = values.get("data") or values.get("resume") or getattr(model, "overrides", {}).get("data")
    if known or task != "detect":
        return values
    LOGGER.warning(f"data= is missing; using {DEFAULT_DATA}, a small drawn set")
    return {**values, "data": DEFAULT_DATA}


def _required_model(mode: str, values: Mapping[str, Any]) -> str:
    """The model argument; only training has a default."""
    if values.get("model") is not None:
        return str(values["model"])
    if mode != "train":
        raise ConfigError(f"{mode} needs model=, a weights file such as runs/detect/train/weights/best.pt")
    if values.get("resume"):
        return str(resumed_file(values["resume"], values.get("project")))
    default = DEFAULT_MODEL[values.get("task", "detect")]
    LOGGER.warning(f"model= is missing; using {default}")
    return default


def _print_help(rest: Sequence[str]) -> None:
    """The help on a mode, tool or argument among the tokens, else the overview."""
    topics = [t.lower() for t in rest if "=" not in t and t.lower() not in TASKS]
    unknown = [t for t in topics if t not in {*MODES, *TOOLS, *KEYS}]
    if unknown:
        raise ConfigError(f"there is no help on {unknown[0]!r}\nTopics: {', '.join((*MODES, *TOOLS))}, any argument.")
    named = [t for t in topics if t in {*MODES, *TOOLS}] or topics
    write_text(sys.stdout, help_on(named[0]) if named else overview())


def _print_version(rest: Sequence[str]) -> None:
    write_text(sys.stdout, f"{ultralytics.__version__}\n")


def _checks(rest: Sequence[str]) -> None:
    print_checks()


def _print_cfg(rest: Sequence[str]) -> None:
    write_text(sys.stdout, DEFAULT_CFG_PATH.read_text(encoding="utf-8"))


def copy_default_cfg() -> None:
    """Write a copy of the default arguments into the working folder; ConfigError where there is one already."""
    target = Path(COPY_NAME)
    if target.exists():
        raise ConfigError(f"{target.resolve()} exists already\nRename or delete it first.")
    with atomic_write(target) as f:
        f.write(DEFAULT_CFG_PATH.read_text(encoding="utf-8"))
    LOGGER.info(f"{target.resolve()} written; use it as: yolo train cfg={COPY_NAME} model=... data=...")


def _copy_cfg(rest: Sequence[str]) -> None:
    copy_default_cfg()


def change_settings(rest: Sequence[str]) -> None:
    """Show, reset or change the settings."""
    if list(rest) == ["reset"]:
        SETTINGS.reset()
    elif rest:
        pairs = [t.partition("=") for t in rest]
        wrong = [key for key, equals, _ in pairs if not equals]
        if wrong:
            raise ConfigError(f"{wrong[0]!r} is not a key=value pair\nyolo settings [reset | key=value ...]")
        SETTINGS.update({key: _setting_value(key, value) for key, _, value in pairs})
    LOGGER.info(str(SETTINGS))


def _setting_value(key: str, text: str) -> Any:
    """String settings stay strings; switches take true and false."""
    return value_of(text, kinds.TEXT if isinstance(SETTINGS[key], str) else None)


_SPECIAL: Mapping[str, Callable[[Sequence[str]], None]] = {
    **dict.fromkeys(("help", "h"), _print_help),
    **dict.fromkeys(("version", "v"), _print_version),
    **dict.fromkeys(("checks", "check"), _checks),
    **dict.fromkeys(("settings", "setting"), change_settings),
    "cfg": _print_cfg,
    **dict.fromkeys(("copy-cfg", "c"), _copy_cfg),
}
"""Commands that need no model."""
