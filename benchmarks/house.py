"""Measures of the source tree: sizes of packages, duplicate names, language, types, state and call depth.

    python benchmarks/house.py                    # a table of all measures
    python benchmarks/house.py --show words       # what lies behind one row, with file and line
    python benchmarks/house.py --frames           # adds the call depth of a training step (imports torch, some seconds)
    python benchmarks/house.py --root OTHER       # of another checkout, to compare two commits

`tests/contract/test_house.py` holds the same figures below their ceilings.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.contract import language, measures

ROOT = Path(__file__).resolve().parents[1]


# ----------------------------------------------------------------------------------------------------------- call depth
class _Reached(BaseException):
    """Ends the training run once the class term has been seen; not an Exception, so that nothing handles it."""


_LOSS = re.compile(r"\w*DETR\w*Loss\.forward")
_CLASS_TERM = re.compile(r"\w*Loss\.\w*class\w*")
_TINY = """
nc: 3
backbone:
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
head:
  - [-1, 1, Conv, [32, 1, 1, null, 1, 1, false]]
  - [-1, 1, AIFI, [48, 4]]
  - [[2, 3, 6], 1, RTDETRDecoder, [nc, 32, 30, 4, 4, 2, 64]]
"""


def _stack(frame: FrameType | None, package: Path) -> list[str]:
    """Names of the package's functions from the outermost to `frame`."""
    names: list[str] = []
    while frame is not None:
        code = frame.f_code
        if Path(code.co_filename).is_relative_to(package) and not code.co_qualname.endswith(("<lambda>", "comp>")):
            names.append(code.co_qualname)
        frame = frame.f_back
    return names[::-1]


def training_frames(root: Path) -> dict[str, list[str]]:
    """Frames of the package from `Model.train` to the criterion's `forward` and to its class term, both ends included.

    A tiny network is trained on two drawn images until its first class term. Imports torch and the package at `root`.
    """
    sys.path.insert(0, str(root))
    from ultralytics import RTDETR  # of the tree at `root`

    if sys.version_info < (3, 11):
        raise SystemExit("--frames needs Python 3.11 or newer, whose code objects have qualified names")
    package, seen = (root / measures.PACKAGE).resolve(), {}

    def watch(frame: FrameType, event: str, _: object) -> None:
        if event != "call":
            return
        name = frame.f_code.co_qualname
        if "loss" not in seen and _LOSS.fullmatch(name):
            seen["loss"] = _stack(frame, package)
        elif "loss" in seen and _CLASS_TERM.fullmatch(name):
            seen["class term"] = _stack(frame, package)
            raise _Reached

    with tempfile.TemporaryDirectory() as folder:
        model = RTDETR(str(_draw(Path(folder)) / "tiny.yaml"))
        sys.setprofile(watch)
        try:
            model.train(
                data=f"{folder}/data.yaml", epochs=1, imgsz=64, batch=2, workers=0, device="cpu", amp=False,
                project=folder, plots=False, val=False, verbose=False,
            )  # fmt: skip
        except _Reached:
            pass
        finally:
            sys.setprofile(None)
    return {key: names[names.index("Model.train") :] for key, names in seen.items()}


def _draw(folder: Path) -> Path:
    """Write two grey images with a box each, their data YAML and the network."""
    import cv2
    import numpy as np

    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    for i in range(2):
        cv2.imwrite(str(folder / f"images/{i}.png"), np.full((64, 64, 3), 90 + i, np.uint8))
        (folder / f"labels/{i}.txt").write_text("0 0.5 0.5 0.5 0.5\n", encoding="utf-8")
    names = "names: {0: a, 1: b, 2: c}\n"
    (folder / "data.yaml").write_text(f"path: {folder}\ntrain: images\nval: images\n{names}", encoding="utf-8")
    (folder / "tiny.yaml").write_text(_TINY, encoding="utf-8")
    return folder


# ---------------------------------------------------------------------------------------------------------------- table
def table(root: Path) -> list[tuple[str, str]]:
    """Rows of measure and figure, without the call depth."""
    packages, cx = measures.modules_per_package(root), measures.complexities(root)
    every = list(measures.all_annotations(root))
    args = measures.argument_annotations(root)
    n_any, n_any_args = len(measures.any_annotations(every, root)), len(measures.any_annotations(args, root))
    assigned, used = measures.names_on_self(measures.class_chain(root, "BaseTrainer"))
    denied, writes, duplicates = (
        language.denied_words(root),
        measures.writes_to_args(root),
        measures.duplicate_names(root),
    )
    return [
        ("modules in the fullest packages", ", ".join(f"{p} {n}" for p, n in list(packages.items())[:5])),
        (
            "public names in two or more modules",
            f"{len(duplicates)} ({len(measures.unexplained_duplicates(root))} unexplained)",
        ),
        ("functions named as their module, re-exported", str(len(measures.functions_named_as_modules(root)))),
        ("denied words", f"{len(denied)} in {len({p.path for p in denied})} files"),
        ("plain Any of all annotations", f"{n_any} of {len(every)} ({n_any / len(every):.1%})"),
        ("plain Any of argument annotations", f"{n_any_args} of {len(args)} ({n_any_args / len(args):.1%})"),
        ("names on self of the trainer", f"{len(assigned)} assigned, {len(used)} distinct"),
        ("writes to args.x outside cfg", str(len(writes))),
        (
            "largest complexity",
            f"{cx[0][0]} ({sum(c > measures.MAX_COMPLEXITY for c, _ in cx)} above {measures.MAX_COMPLEXITY})",
        ),
        (f"files over {measures.MAX_LINES} lines", f"{len(measures.long_files(root))} of {len(measures.files(root))}"),
    ]


def places(root: Path, measure: str) -> list[str]:
    """What lies behind a row of the table, one finding a line."""
    listing: dict[str, Iterable[object]] = {
        "packages": (f"{n} {p}" for p, n in measures.modules_per_package(root).items()),
        "names": (f"{n}: {', '.join(str(p) for p in ps)}" for n, ps in measures.unexplained_duplicates(root).items()),
        "modules": measures.functions_named_as_modules(root),
        "words": language.denied_words(root),
        "any": measures.any_annotations(measures.all_annotations(root), root),
        "self": sorted(measures.names_on_self(measures.class_chain(root, "BaseTrainer"))[1]),
        "args": measures.writes_to_args(root),
        "complexity": (f"{c} {p}" for c, p in measures.complexities(root) if c > measures.MAX_COMPLEXITY),
        "files": measures.long_files(root),
    }
    return [str(item) for item in listing[measure]]


MEASURES = ("packages", "names", "modules", "words", "any", "self", "args", "complexity", "files")


def main() -> None:
    """Print the table, or what lies behind one of its rows."""
    parser = argparse.ArgumentParser(description="Measures of the source tree.")
    parser.add_argument("--root", type=Path, default=ROOT, help="checkout to measure (default: this one)")
    parser.add_argument("--show", choices=MEASURES, help="list the findings of one measure")
    parser.add_argument("--frames", action="store_true", help="count the frames of a training step, too")
    options = parser.parse_args()
    root: Path = options.root.resolve()
    if options.show:
        print("\n".join(places(root, options.show)))
        return
    rows = table(root)
    if options.frames:
        depths = training_frames(root)
        rows.append(("frames from Model.train", ", ".join(f"{len(names)} to the {k}" for k, names in depths.items())))
        rows += [(f"  to the {key}", " > ".join(names)) for key, names in depths.items()]
    width = max(len(name) for name, _ in rows)
    print("\n".join(f"{name:<{width}}  {figure}" for name, figure in rows))


if __name__ == "__main__":
    main()
