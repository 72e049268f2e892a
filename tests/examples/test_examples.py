"""The examples: each gives the boxes of `predict`, and the notebook runs from top to bottom."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from tests.engine.tiny import spread_network
from ultralytics import RTDETR
from ultralytics.data.demo import draw_scene
from ultralytics.nn.checkpoint.format import pack_model, save_checkpoint

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CONF = 0.02
SIZE = (128, 160)  # of the network's input
BOX_PX, SCORE = 0.5, 1e-3  # largest differences
MAX_LINES = 200  # of a C++ file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, three images of other sizes than its input as PPM, which holds their very pixels."""
    folder = tmp_path_factory.mktemp("examples")
    save_checkpoint(folder / "best.pt", {"model": pack_model(spread_network())})
    for i, (h, w) in enumerate(((200, 300), (90, 70), SIZE)):
        cv2.imwrite(str(folder / f"{i}.ppm"), draw_scene(np.random.default_rng(i), h, w)[0])
    return folder


def run(*command: str | Path, cwd: Path | None = None, **env: str) -> str:
    """The output of a program that must succeed."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


def boxes_of(text: str) -> npt.NDArray[np.float64]:
    """Rows (n, 6) of lines: class, corners, score."""
    rows = [line.split()[:6] for line in text.splitlines() if re.match(r"\d+ [\d.]+ [\d.]+ ", line)]
    return np.array(rows, dtype=np.float64).reshape(-1, 6)


def check_boxes(got: npt.NDArray[np.float64], file: Path, image: Path) -> None:
    """Compare rows with those of `predict`, each with the nearest of its class; those near the bound may be missing."""
    found = RTDETR(str(file)).predict(cv2.imread(str(image)), conf=CONF, verbose=False)[0].boxes
    want = found.data.double().numpy()[:, [5, 0, 1, 2, 3, 4]]  # (n, 6)
    for a, b in ((want, got), (got, want)):
        sure = a[a[:, 5] > CONF + SCORE]
        assert len(sure) > 5
        for row in sure:
            same = b[b[:, 0] == row[0]]
            gaps = np.stack([np.abs(same[:, 1:5] - row[1:5]).max(1), np.abs(same[:, 5] - row[5])], 1)
            assert (gaps <= (BOX_PX, SCORE)).all(1).any(), (row, gaps.min(0))


def exported(folder: Path, format: str, letterbox: bool) -> Path:
    """A file or folder that `export` wrote; the gate of exports compares it with the PyTorch model."""
    target = folder / f"{format}-{letterbox}"
    target.mkdir(exist_ok=True)
    shutil.copy(folder / "best.pt", target)
    return Path(RTDETR(str(target / "best.pt")).export(format=format, imgsz=list(SIZE), letterbox=letterbox))


@pytest.mark.parametrize("letterbox", [False, True])
def test_python_with_onnx_runtime(folder: Path, letterbox: bool) -> None:
    pytest.importorskip("onnxruntime")
    file = exported(folder, "onnx", letterbox)
    sys.path.insert(0, str(EXAMPLES / "onnxruntime_python"))
    try:
        import detect
    finally:
        sys.path.pop(0)
    detector = detect.Detector(file)
    for image in sorted(folder.glob("*.ppm")):
        rows = [(b.cls, b.x1, b.y1, b.x2, b.y2, b.score) for b in detector(cv2.imread(str(image)), CONF)]
        check_boxes(np.array(rows, dtype=np.float64), file, image)
    assert detector.names == {0: "red", 1: "green", 2: "blue"}
    code = "import sys; sys.path.insert(0, '.'); import detect; print('torch' in sys.modules)"
    assert run(sys.executable, "-c", code, cwd=EXAMPLES / "onnxruntime_python").split() == ["False"]


def cmake_options(name: str, folder: Path) -> Sequence[str]:
    """What CMake needs to find the runtime, with what is made for it in `folder`; skips where it is not here."""
    if shutil.which("cmake") is None or shutil.which("c++") is None:
        pytest.skip("needs cmake and a C++ compiler")
    if name == "cpp_openvino":
        openvino = pytest.importorskip("openvino")
        return [f"-DOpenVINO_DIR={Path(openvino.__file__).parent / 'cmake'}"]
    include = os.environ.get("ONNXRUNTIME_INCLUDE")
    runtime = pytest.importorskip("onnxruntime")
    libraries = sorted((Path(runtime.__file__).parent / "capi").glob("libonnxruntime.so.*"))
    if include is None or not libraries:
        pytest.skip("needs the headers of ONNX Runtime: ONNXRUNTIME_INCLUDE=folder")
    named = folder / "onnxruntime" / "libonnxruntime.so.1"  # the name that programs ask for; the wheel lacks it
    named.parent.mkdir(exist_ok=True)
    if not named.exists():
        named.symlink_to(libraries[-1])
    return [f"-DONNXRUNTIME_INCLUDE={include}", f"-DONNXRUNTIME_LIBRARY={named}"]


@pytest.mark.slow  # compiles
@pytest.mark.parametrize("letterbox", [False, True])
@pytest.mark.parametrize(("name", "format"), [("cpp_openvino", "openvino"), ("cpp_onnxruntime", "onnx")])
def test_cpp(folder: Path, name: str, format: str, letterbox: bool) -> None:
    options = cmake_options(name, folder)
    build = folder / name
    if not build.exists():
        run("cmake", "-S", EXAMPLES / name, "-B", build, *options)
        run("cmake", "--build", build)
    written = exported(folder, format, letterbox)
    file = next(written.glob("*.xml")) if written.is_dir() else written
    for image in sorted(folder.glob("*.ppm")):
        check_boxes(boxes_of(run(build / "detect", file, image, str(CONF))), written, image)
    failed = subprocess.run([str(build / "detect"), str(file), str(file)], capture_output=True, text=True, check=False)
    assert failed.returncode == 1 and "PPM" in failed.stderr


@pytest.mark.parametrize("name", ["cpp_openvino", "cpp_onnxruntime"])
def test_a_cpp_example_is_one_short_file(name: str) -> None:
    sources = [p for p in (EXAMPLES / name).iterdir() if p.suffix in {".cpp", ".h", ".hpp"}]
    assert [p.name for p in sources] == ["detect.cpp"]
    lines = sources[0].read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MAX_LINES and max(map(len, lines)) <= 120


def cells(path: Path) -> list[str]:
    """The code cells of a notebook."""
    found = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in found if cell["cell_type"] == "code"]


def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path) -> None:
    """In a process of its own: some ten seconds, most of them imports; what users run first must run."""
    code = cells(EXAMPLES / "notebook" / "quickstart.ipynb")
    shown = [f"{cell}\nprint('cell {i}')" for i, cell in enumerate(code)]
    (tmp_path / "quickstart.py").write_text("\n".join(shown), encoding="utf-8")
    root = str(EXAMPLES.parent)
    out = run(sys.executable, "quickstart.py", cwd=tmp_path, PYTHONPATH=root, YOLO_CONFIG_DIR=str(tmp_path / "config"))
    assert [f"cell {i}" for i in range(len(code))] == re.findall(r"(?m)^cell \d+$", out)
    assert {"quickstart.zip", "quickstart.torchscript", "runs", "demo"} <= set(os.listdir(tmp_path))
