"""The confusion matrix against a simulation in plain Python, and its pictures and tables."""

import json

import cv2
import numpy as np
import pytest
import torch

from ultralytics.utils.metrics import ConfusionMatrix, box_iou


def _image(boxes=(), conf=(), cls=()):
    """Detections, or targets without `conf`."""
    return {
        "bboxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "conf": torch.tensor(conf, dtype=torch.float32),
        "cls": torch.tensor(cls, dtype=torch.float32),
    }


A, B, C = [0, 0, 10, 10], [20, 20, 40, 40], [50, 50, 60, 60]
# (detections, targets, {(row, column): count}); two classes, 2 is the background
CASES = {
    "empty": (_image(), _image(), {}),
    "missed": (_image(), _image([A], cls=[1]), {(2, 1): 1}),
    "invented": (_image([A], [0.9], [0]), _image(), {(0, 2): 1}),
    "right": (_image([A, B], [0.9, 0.8], [0, 1]), _image([A, B], cls=[0, 1]), {(0, 0): 1, (1, 1): 1}),
    "wrong class": (_image([A], [0.9], [1]), _image([A], cls=[0]), {(1, 0): 1}),
    "below conf": (_image([A], [0.25], [0]), _image([A], cls=[0]), {(2, 0): 1}),
    "second is surplus": (_image([A, A], [0.5, 0.9], [0, 1]), _image([A], cls=[0]), {(1, 0): 1, (0, 2): 1}),
    "elsewhere": (_image([C], [0.9], [0]), _image([A], cls=[0]), {(2, 0): 1, (0, 2): 1}),
}


@pytest.mark.parametrize("name", CASES)
def test_one_image(name):
    detections, targets, want = CASES[name]
    matrix = ConfusionMatrix(["a", "b"])
    matrix.process_batch(detections, targets)
    got = {(int(i), int(j)): int(matrix.matrix[i, j]) for i, j in zip(*np.nonzero(matrix.matrix), strict=True)}
    assert got == want


def _slow(detections, targets, nc, conf, threshold):
    """The same in loops."""
    matrix, free = np.zeros((nc + 1, nc + 1), int), set(range(len(targets["cls"])))
    iou = box_iou(detections["bboxes"], targets["bboxes"]).tolist()
    for i in sorted(range(len(detections["conf"])), key=lambda i: -detections["conf"][i].item()):
        if detections["conf"][i] <= conf:
            continue
        able = [(iou[i][j], j) for j in free if iou[i][j] > threshold]
        j = max(able)[1] if able else None
        free -= {j}
        matrix[int(detections["cls"][i]), nc if j is None else int(targets["cls"][j])] += 1
    for j in free:
        matrix[nc, int(targets["cls"][j])] += 1
    return matrix


@pytest.mark.parametrize("seed", range(10))
def test_against_loops(seed):
    rng, total = np.random.default_rng(seed), ConfusionMatrix({i: f"c{i}" for i in range(4)})
    want = np.zeros((5, 5), int)
    for _ in range(4):
        corner, count = rng.random((9, 2)) * 30, rng.integers(0, 9)
        boxes = np.concatenate([corner, corner + rng.random((9, 2)) * 20 + 4], 1)
        moved = (boxes[rng.integers(0, 9, 14)] + rng.normal(0, 2, (14, 4))).tolist()
        detections = _image(moved, rng.random(14).tolist(), rng.integers(0, 4, 14).tolist())
        targets = _image(boxes[:count].tolist(), cls=rng.integers(0, 4, count).tolist())
        total.process_batch(detections, targets, conf=0.3, iou_thres=0.4)
        want += _slow(detections, targets, 4, 0.3, 0.4)
    np.testing.assert_array_equal(total.matrix, want)
    tp, fp = total.tp_fp()
    assert (tp + fp).tolist() == want[:-1].sum(1).tolist()


def test_tables(tmp_path, caplog):
    matrix = ConfusionMatrix(["cat", "cat", "background"])  # equal names keep columns of their own
    matrix.matrix[0, 0], matrix.matrix[1, 0], matrix.matrix[3, 1] = 3, 1, 2
    rows = matrix.summary(normalize=True)
    assert len(rows) == 4 and all(len(r) == 5 for r in rows)
    assert rows[0]["cat"] == 0.75 and rows[1]["cat"] == 0.25
    assert json.loads(matrix.to_json())[0]["cat"] == 3
    assert matrix.to_df().shape == (4, 5) and matrix.to_csv().count("\n") == 5


@pytest.mark.parametrize("nc", [1, 120])
def test_plot(tmp_path, nc):
    matrix, drawn = ConfusionMatrix([f"class {i}" for i in range(nc)]), []
    matrix.matrix += np.eye(nc + 1, dtype=int) * 7
    for normalize in (True, False):
        file = matrix.plot(normalize, tmp_path, drawn.append)
        assert cv2.imread(str(file)) is not None
    assert [f.name for f in drawn] == ["confusion_matrix_normalized.png", "confusion_matrix.png"]
    assert sorted(f.name for f in tmp_path.iterdir()) == ["confusion_matrix.png", "confusion_matrix_normalized.png"]


def test_plot_without_counts(tmp_path):
    assert ConfusionMatrix(["a"]).plot(True, tmp_path).is_file()
