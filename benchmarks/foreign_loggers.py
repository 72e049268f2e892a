"""Run the logger callbacks of another package of the interface on our trainer, as a black box.

    python benchmarks/foreign_loggers.py /path/to/site-packages/ultralytics wb tensorboard clearml comet

Each module `utils/callbacks/NAME.py` of that folder is executed from its file under a name of its own, beside this
package: what it imports from `ultralytics` are our names. Its table `callbacks` is added to a run of two epochs on
drawn images, offline. One line a module: how often each function was called, and the files of the service. The exit
status is 1 when one of them raised. The services' packages must be installed, and `polars` beside W&B's. In the
offline mode of ClearML 2.1.12 the last call fails: `OutputModel.update_weights` fails there for any file, without this
package too, as ClearML's stand-in of a model lacks the attribute `locked`.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

OFFLINE = {
    "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
    "COMET_MODE": "offline",
    "COMET_API_KEY": "none",
    "COMET_START_ONLINE": "0",
    "CLEARML_OFFLINE_MODE": "1",
}
SETTING_OF = {"wb": "wandb"}
"""Name of the setting that switches a module on, where it is not that of the module."""


def load(path: Path) -> Any:
    """Execute a module file under a name of its own."""
    spec = importlib.util.spec_from_file_location(f"foreign_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path}: not a module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def counted(name: str, function: Callable[[Any], object], calls: Counter[str]) -> Callable[[Any], None]:
    """Return a callback that counts its calls."""

    def call(owner: Any) -> None:
        function(owner)
        calls[name] += 1

    return call


def main() -> None:
    """Run the modules that the command line names."""
    root, *names = sys.argv[1:]
    os.environ.update(OFFLINE)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["YOLO_CONFIG_DIR"] = folder
        from kill import prepare

        from ultralytics import RTDETR
        from ultralytics.utils import SETTINGS

        prepare(Path(folder), "rtdetr")
        failed = False
        for name in names:
            SETTINGS.update({SETTING_OF.get(name, name): True})
            calls: Counter[str] = Counter()
            try:
                module = load(Path(root) / "utils" / "callbacks" / f"{name}.py")
            except ImportError as e:
                print(f"{name}: FAILED {e}", flush=True)
                failed = True
                continue
            SETTINGS.update({SETTING_OF.get(name, name): False})  # ours stays silent
            model = RTDETR("tiny.yaml")
            for event, functions in module.callbacks.items():
                for function in functions if isinstance(functions, (list, tuple)) else [functions]:
                    model.add_callback(event, counted(event, function, calls))
            before = set(Path(folder).rglob("*"))
            try:
                model.train(
                    data="data.yaml", epochs=2, imgsz=64, batch=2, workers=0, device="cpu", amp=False, name=name,
                    project="runs", verbose=False,
                )  # fmt: skip
                state = "ok" if calls else "EMPTY (switched off)"
            except Exception as e:  # the text alone: the traceback would show another's source
                state, failed = f"FAILED {type(e).__name__}: {e}", True
            new = [p for p in set(Path(folder).rglob("*")) - before if p.is_file() and "weights" not in p.parts]
            kinds = Counter(p.relative_to(folder).parts[0] for p in new)
            print(f"{name}: {state}; calls {dict(calls)}; new files {dict(kinds)}", flush=True)
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
