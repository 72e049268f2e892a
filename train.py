"""Train RT-DETR-l with SHSA: `python train.py`; any argument may be given on top, as in `python train.py epochs=50`."""

import os
import sys

os.environ.setdefault("KMP_DUPLICATE_LIB_OK", "TRUE")

from ultralytics.cli import parse_overrides, user_errors
from ultralytics.models import RTDETR

WEIGHTS = None  # a weights file to start from; the tensors that fit are transferred

DEFAULTS = {
    "model": "ultralytics/cfg/models/rt-detr/rtdetr-l.yaml",
    "data": "./data.yaml",
    "epochs": 2,
    "batch": 1,
    "device": None,  # GPU 0 where there is one, else the CPU
    "imgsz": 640,
    "workers": 2,
    "cache": False,
    "amp": True,
    "mosaic": False,
    "project": "runs/train",
    "name": "exp",
}


def main() -> None:
    """Build the model and train it with the defaults above and what the command line adds."""
    arguments = {**DEFAULTS, **parse_overrides(sys.argv[1:])}
    model = RTDETR(model=arguments.pop("model"), modules=arguments.get("modules"))
    if WEIGHTS:
        model.load(WEIGHTS)
    model.train(**arguments)


if __name__ == "__main__":
    with user_errors():
        main()
