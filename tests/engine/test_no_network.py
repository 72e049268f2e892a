"""Nothing is fetched unasked: an audit hook sees no address looked up and no connection made.

AF_UNIX sockets are those of torch's own loader workers.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.engine.tiny import TINY, write_dataset
from ultralytics.utils.config.yaml_io import YAML
from ultralytics.utils.errors import MissingPackageError, UserError

ROOT = Path(__file__).parents[2]
EVENTS = {"socket.getaddrinfo", "socket.gethostbyname", "socket.connect", "socket.sendto", "urllib.Request"}
USE = """
from ultralytics import RTDETR
model = RTDETR("tiny.yaml")
model.info(verbose=False)
model.train(data="set/data.yaml", epochs=1, imgsz=64, batch=2, workers=0, plots=False, device="cpu", project="runs")
model.val(plots=False)
model.predict("set/images/val", imgsz=64, save=True)
model.export(format="torchscript", imgsz=64)
RTDETR.contents(model.ckpt_path)
from ultralytics.utils.errors import NotFoundError
for name in ("rtdetr-r18.pt", "rtdetr-l.pt", "hf:owner/name"):
    for use in (RTDETR, model.load, RTDETR.contents):
        try:
            use(name)
        except NotFoundError as e:
            assert "yolo fetch" in str(e)
        else:
            raise AssertionError(name)
"""
CONNECT = """
import urllib.request
try:
    urllib.request.urlopen("http://127.0.0.1:9/x", timeout=1)
except OSError:
    pass
"""
pytestmark = pytest.mark.slow  # processes of their own: some ten seconds each
BUILD = """
from ultralytics.utils.errors import UserError
for name in sorted(p.name for p in CFG_DIR.joinpath("models").rglob("*.yaml")):
    try:
        plan_model(load_model_yaml(name))
    except UserError as e:
        print(name, type(e).__name__, e)
"""


def run_under_hook(code: str, folder: Path) -> dict[str, Any]:
    """Run code in a process of its own under the hook; return the events, and what it printed."""
    hook = (
        "import json, sys\nseen = []\n"
        f"events = {sorted(EVENTS)!r}\n"
        "def look(event, args):\n"
        "    if event in events and not (event == 'socket.connect' and isinstance(args[1], (str, bytes))):\n"
        "        seen.append([event, str(args)[:200]])\n"
        "sys.addaudithook(look)\n"
        "from ultralytics.utils.config.paths import CFG_DIR\n"
        "from ultralytics.nn.build.builder import plan_model\n"
        "from ultralytics.nn.build.spec import load_model_yaml\n"
    )
    script = hook + code + "\nprint('EVENTS' + json.dumps(seen))\n"
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    output, _, events = done.stdout.rpartition("EVENTS")
    return {"events": json.loads(events), "output": output}


def test_a_whole_use_opens_no_socket(tmp_path: Path) -> None:
    """Published weights that are absent included; at the end of the process the hook sees a connection."""
    write_dataset(tmp_path / "set")
    YAML.save(tmp_path / "tiny.yaml", TINY)
    seen = run_under_hook(USE + CONNECT, tmp_path)
    assert [event for event, _ in seen["events"]] == ["urllib.Request", "socket.getaddrinfo", "socket.connect"]


def test_no_shipped_network_opens_a_socket_while_it_is_planned(tmp_path: Path) -> None:
    """Without timm its rows are refused by name; nothing else is."""
    seen = run_under_hook(BUILD, tmp_path)
    assert seen["events"] == []
    refused = [line.split()[1] for line in str(seen["output"]).splitlines() if line.count(" ") > 1]
    assert set(refused) <= {MissingPackageError.__name__, UserError.__name__}
