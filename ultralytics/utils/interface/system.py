"""Facts about the system, and decorators, under the names of the interface."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import inspect
import os
import platform
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ultralytics.utils.checks import installed_version
from ultralytics.utils.log import LOGGER

Result = TypeVar("Result")

MACOS, LINUX, WINDOWS = (platform.system() == name for name in ("Darwin", "Linux", "Windows"))
ARM64 = platform.machine().lower() in {"arm64", "aarch64"}
PYTHON_VERSION = platform.python_version()


def env_bool(name: str, default: bool = False) -> bool:
    """Whether an environment variable says yes: 1, true, yes, on, y or t."""
    value = os.getenv(name)
    return default if value is None else value.strip().lower() in {"1", "true", "yes", "on", "y", "t"}


def package_version(package: str) -> str:
    """Version of an installed package, without importing it; 0.0.0 where there is none."""
    return installed_version(package) or "0.0.0"


def is_colab() -> bool:
    """Whether this is a notebook of Google Colab."""
    return "COLAB_RELEASE_TAG" in os.environ


def is_kaggle() -> bool:
    """Whether this is a notebook of Kaggle."""
    return os.environ.get("KAGGLE_URL_BASE") == "https://www.kaggle.com"


def is_jupyter() -> bool:
    """Whether this process is a kernel of Jupyter."""
    return "ipykernel" in sys.modules


def is_docker() -> bool:
    """Whether this process runs in a container of Docker."""
    return Path("/.dockerenv").exists()


def get_ubuntu_version() -> str | None:
    """Return the version of Ubuntu, such as 24.04; None on another system."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:  # the system has no such file
        return None
    return release.get("VERSION_ID") if release["ID"] == "ubuntu" else None


def is_ubuntu() -> bool:
    """Whether this is Ubuntu."""
    return get_ubuntu_version() is not None


def is_raspberrypi() -> bool:
    """Whether this is a Raspberry Pi, by the name that its device tree gives."""
    model = Path("/proc/device-tree/model")
    return model.is_file() and "Raspberry Pi" in model.read_text(errors="replace")


def is_pip_package(filepath: str = "ultralytics.utils") -> bool:
    """Whether a module lies in a folder of installed packages."""
    spec = importlib.util.find_spec(filepath)
    parts = Path(spec.origin).parts if spec is not None and spec.origin else ()
    return "site-packages" in parts or "dist-packages" in parts


def is_github_action_running() -> bool:
    """Whether this process is a step of a GitHub workflow."""
    return "GITHUB_ACTIONS" in os.environ and "GITHUB_WORKFLOW" in os.environ


def is_pytest_running() -> bool:
    """Whether this process runs tests by pytest."""
    return "PYTEST_CURRENT_TEST" in os.environ or "pytest" in sys.modules


def is_online() -> bool:
    """False: the network is never asked for without a download that the user wants."""
    return False


def is_dir_writeable(dir_path: str | Path) -> bool:
    """Whether files can be written into a folder."""
    return os.access(dir_path, os.W_OK)


def is_ascii(s: object) -> bool:
    """Whether the text of a value is ASCII."""
    return str(s).isascii()


def remove_colorstr(input_string: str) -> str:
    """Return a string without the colours of a terminal.

    >>> remove_colorstr("\\x1b[34m\\x1b[1mval: \\x1b[0mdone")
    'val: done'
    """
    return re.sub(r"\x1b\[[0-9;]*m", "", input_string)


def deprecation_warn(arg: str, new_arg: str | None = None) -> None:
    """Log that an argument has another name, or none."""
    LOGGER.warning(f"'{arg}' is deprecated{f'; use {new_arg!r}' if new_arg else ''}")


def get_default_args(func: Callable[..., object]) -> dict[str, Any]:
    """Return the arguments of a function that have defaults."""
    parameters = inspect.signature(func).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


def print_args(args: Mapping[str, Any] | None = None, show_file: bool = True, show_func: bool = False) -> None:
    """Log arguments, by default those of the calling function, with its file and name."""
    frame = inspect.currentframe()
    caller = frame.f_back if frame is not None else None
    name, function, values = "", "", dict(args or {})
    if caller is not None:
        name, function = Path(caller.f_code.co_filename).stem, caller.f_code.co_name
        info = inspect.getargvalues(caller)
        values = values or {k: info.locals[k] for k in info.args}
    parts = [name] * show_file + [function] * show_func
    LOGGER.info(": ".join([*parts, ", ".join(f"{k}={v}" for k, v in values.items())]))


def threaded(func: Callable[..., Result]) -> Callable[..., threading.Thread | Result]:
    """Run a function in a thread, which the call returns; with `threaded=False` as usual."""

    @functools.wraps(func)
    def call(*args: object, **kwargs: object) -> threading.Thread | Result:
        if not kwargs.pop("threaded", True):
            return func(*args, **kwargs)
        thread = threading.Thread(target=func, args=args, kwargs=kwargs, daemon=True)
        thread.start()
        return thread

    return call


def plt_settings(
    rcparams: Mapping[str, Any] | None = None, backend: str = "Agg"
) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Decorate a function that draws by pyplot: it runs with these settings and this backend, which are then undone."""

    def decorate(func: Callable[..., Result]) -> Callable[..., Result]:
        @functools.wraps(func)
        def call(*args: object, **kwargs: object) -> Result:
            import matplotlib.pyplot as plt

            before = plt.get_backend()
            values: Any = dict(rcparams or {"font.size": 11})  # matplotlib's stubs list each key
            plt.switch_backend(backend)
            try:
                with plt.rc_context(values):
                    return func(*args, **kwargs)
            finally:
                plt.switch_backend(before)

        return call

    return decorate


class ThreadingLocked:
    """A decorator: one thread at a time is in the function."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __call__(self, func: Callable[..., Result]) -> Callable[..., Result]:
        """Wrap the function."""

        @functools.wraps(func)
        def call(*args: object, **kwargs: object) -> Result:
            with self.lock:
                return func(*args, **kwargs)

        return call


class SimpleClass:
    """A base whose objects print their public attributes."""

    def __str__(self) -> str:
        lines = [f"{k}: {v!r}" for k, v in vars(self).items() if not k.startswith("_")]
        return "\n".join([f"{type(self).__module__}.{type(self).__name__} with attributes", *lines])

    def __repr__(self) -> str:
        return str(self)


class TryExcept(contextlib.ContextDecorator):
    """A block, or a function, whose errors are logged and do not leave it."""

    def __init__(self, msg: str = "", verbose: bool = True) -> None:
        self.msg, self.verbose = msg, verbose

    def __enter__(self) -> TryExcept:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: object) -> bool:
        if value is None or not isinstance(value, Exception):
            return False
        if self.verbose:
            LOGGER.warning(f"{self.msg}{': ' if self.msg else ''}{value}")
        return True


class Retry:
    """A function that is called again after an error, at most `times`; the last error leaves it."""

    def __init__(self, times: int = 3, delay: float = 2.0, verbose: bool = True) -> None:
        self.times, self.delay, self.verbose = times, delay, verbose

    def __call__(self, func: Callable[..., Result]) -> Callable[..., Result]:
        """Wrap the function."""

        @functools.wraps(func)
        def call(*args: object, **kwargs: object) -> Result:
            for attempt in range(1, self.times):
                with TryExcept(f"attempt {attempt} of {self.times}", self.verbose):
                    return func(*args, **kwargs)
                time.sleep(self.delay * 2 ** (attempt - 1))
            return func(*args, **kwargs)

        return call
