"""Opens every file of a folder under an audit hook, as a process of its own: see `test_hostile_files`."""

from __future__ import annotations

import importlib
import json
import logging
import resource
import sys
from pathlib import Path
from typing import Any

import torch

from ultralytics.nn.tasks import load_checkpoint
from ultralytics.utils.errors import UserError

FORBIDDEN = (
    "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.remove", "os.rename", "os.mkdir", "subprocess.", "socket.",
    "pty.", "ctypes.", "shutil.", "webbrowser.", "pickle.find_class", "exec", "compile", "import",
)  # fmt: skip


def watch(events: list[str], watching: list[bool]) -> None:
    """Add an audit hook that notes forbidden events while `watching` holds True."""

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if not watching[0]:
            return
        if event == "open":
            if any(c in str(args[1]) for c in "wax+"):
                events.append(f"open for writing: {args[0]}")
        elif event == "compile" and args[1] == "<unknown>":
            pass  # ast.literal_eval parses a string of the YAML
        elif event.startswith(FORBIDDEN):
            events.append(f"{event} {str(args)[:200]}")

    sys.addaudithook(hook)


def digest(model: torch.nn.Module) -> str:
    """A number that any changed weight changes."""
    parts = [v.detach().double().mul(i + 1).sum() for i, v in enumerate(model.state_dict().values())]
    return str(float(torch.stack(parts).sum()))


def main(folder: Path) -> None:
    """Print one JSON object: outcome of each file, forbidden events, peak memory in MB."""
    logging.disable(logging.CRITICAL)
    b"\xff".decode("cp437")  # codecs that zip and pickle import at their first use
    "x".encode("raw_unicode_escape")
    b"x".decode("utf-8-sig")  # of the package's own YAML with the names of COCO
    importlib.import_module("safetensors.torch")
    good = digest(load_checkpoint(folder / "good.pth")[0])
    events: list[str] = []
    watching = [False]
    watch(events, watching)
    outcomes = {}
    for path in sorted(p for p in folder.iterdir() if p.suffix in {".pt", ".safetensors"}):
        watching[0] = True
        try:
            outcome = "loaded " + digest(load_checkpoint(path)[0])
        except UserError as e:
            outcome = f"refused {type(e).__name__}: {e}"
        watching[0] = False
        outcomes[path.name] = outcome
    print(json.dumps({"good": good, "outcomes": outcomes, "events": events, "peak_mb": peak_mb()}))


def peak_mb() -> float:
    """Most memory that this program held. Linux carries getrusage's figure over from the parent that forked it."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
