"""Importing has no effects. Users import this package in servers, notebooks and tests of their own, and rely on it.

Third parties do open files and set variables when they are imported, so they are imported before the watch begins.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.source import modules

WATCH = """
import importlib, json, os, random, sys, warnings
import cv2, matplotlib, numpy, pandas, scipy.optimize, torch, torchvision, yaml
import torch.utils.flop_counter, torch.utils.data, torch.distributed, torchvision.ops

seen = []
def hook(event, args):
    if event == "open":
        path, mode = str(args[0]), args[1]
        if mode and set(mode) & set("wax+") and "__pycache__" not in path and path != os.devnull:
            seen.append(["write", path])
    elif event in {"os.mkdir", "os.putenv", "os.unsetenv", "os.remove", "os.rename", "os.system", "subprocess.Popen",
                   "socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.bind", "urllib.Request"}:
        seen.append([event, str(args)[:200]])

def state():
    return {
        "environment": dict(os.environ), "filters": [str(f) for f in warnings.filters],
        "excepthook": repr(sys.excepthook),
        "torch.save": repr(torch.save), "torch.load": repr(torch.load), "torch threads": torch.get_num_threads(),
        "torch dtype": str(torch.get_default_dtype()), "cudnn": torch.backends.cudnn.benchmark,
        "torch print": str(torch._tensor_str.PRINT_OPTS), "numpy print": str(numpy.get_printoptions()),
        "numpy errors": str(numpy.geterr()), "cv2 threads": cv2.getNumThreads(), "cv2.imread": repr(cv2.imread),
        "random": str(random.getstate()), "numpy random": str(numpy.random.get_state()),
        "torch random": torch.get_rng_state().tolist(), "backend": matplotlib.rcParams._get_backend_or_none(),
    }

before = state()
sys.addaudithook(hook)
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
after = state()
print(json.dumps({"seen": seen, "changed": [k for k in before if before[k] != after[k]]}))
"""

NO_TORCH = """
import sys
sys.argv = ["yolo", *sys.argv[1:]]
from ultralytics.cli.main import entrypoint
entrypoint()
print("LOADED", *sorted({"torch", "cv2", "numpy", "pandas", "matplotlib", "scipy", "torchvision"} & set(sys.modules)))
"""


def run(code: str, *args: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-B", "-c", code, *args]
    return subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", cwd=cwd, env={**os.environ, "PYTHONUTF8": "1", **env}
    )


def watch(names: list[str], tmp_path: Path) -> dict[str, list[object]]:
    result = run(WATCH, json.dumps(names), YOLO_CONFIG_DIR=str(tmp_path / "config"))
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout.splitlines()[-1])
    assert result.stdout.count("\n") == 1, f"something was printed:\n{result.stdout}"
    assert not (tmp_path / "config").exists()
    return dict(report)


def test_importing_every_module_has_no_effects(tmp_path: Path) -> None:
    names = sorted(m for m in modules() if not m.endswith("__main__"))
    assert watch(names, tmp_path) == {"seen": [], "changed": []}


def test_the_watch_sees_effects(tmp_path: Path) -> None:
    """A module that does everything wrong is caught, so that the test above can fail."""
    (tmp_path / "loud.py").write_text(
        "import os, pathlib, random, socket, warnings\n"
        "os.environ['LOUD'] = '1'\n"
        "warnings.simplefilter('ignore')\n"
        "random.random()\n"
        "pathlib.Path(__file__).with_name('loud.txt').write_text('x')\n"
        "socket.socket().close()\n"
        "try:\n    socket.getaddrinfo('localhost', 1)\nexcept OSError:\n    pass\n"
    )
    result = run(WATCH, json.dumps(["loud"]), PYTHONPATH=str(tmp_path))
    report = json.loads(result.stdout.splitlines()[-1])
    assert {"environment", "filters", "random"} <= set(report["changed"])
    assert {"write", "os.putenv", "socket.getaddrinfo"} <= {event for event, _ in report["seen"]}


@pytest.mark.parametrize("arguments", [["help"], ["version"], ["settings"], ["cfg"], []])
def test_light_commands_load_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    result = run(NO_TORCH, *arguments, YOLO_CONFIG_DIR=str(tmp_path / "config"))
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1].strip() == "LOADED"
    assert not (tmp_path / "config").exists()


@pytest.mark.parametrize(
    "module",
    ["ultralytics", "ultralytics.cli.main", "ultralytics.cfg", "ultralytics.utils", "ultralytics.models"]
    + [
        f"ultralytics.utils.{m}"
        for m in ("errors", "log", "config.settings", "config.yaml_io", "checks", "files", "downloads")
    ]
    + ["ultralytics.utils.dist", "ultralytics.utils.callbacks"],
)
def test_light_modules_do_not_import_torch(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'torch', 'cv2', 'numpy', 'pandas'}} & set(sys.modules)))"
    assert run(code).stdout.strip() == "[]"


def test_the_command_line_does_not_import_what_few_commands_need() -> None:
    rare = {"packaging", "importlib.metadata", "email"}
    code = f"import sys, ultralytics.cli.main; print(sorted({rare} & set(sys.modules)))"
    assert run(code).stdout.strip() == "[]"
