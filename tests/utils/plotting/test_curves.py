"""Figures: that they exist, are whole, show the data where it belongs, and leave matplotlib's global state alone."""

import sys

import cv2
import numpy as np
import pytest
import torch

from tests.utils.plotting.svg import ODD_NAMES, caught
from ultralytics.utils.errors import ConfigError, NotFoundError
from ultralytics.utils.plotting import curves as plotting
from ultralytics.utils.plotting.annotator import colors
from ultralytics.utils.plotting.batch import box_shapes
from ultralytics.utils.plotting.curves import (
    plot_confusion_matrix,
    plot_images,
    plot_labels,
    plot_mc_curve,
    plot_pr_curve,
    plot_results,
)

NAMES = {0: "disc", 1: "square"}


def _picture(file):
    """Read a picture that was written; it is the only file in its folder."""
    assert [f.name for f in file.parent.iterdir() if f.suffix in {file.suffix, ".tmp"}] == [file.name]
    im = cv2.imread(str(file))
    assert im is not None and im.std() > 1
    return im


# --------------------------------------------------------------------------------------------------------- batches
@pytest.mark.parametrize("as_float", [False, True])
def test_batch_boxes_and_colours(tmp_path, as_float):
    images = torch.full((3, 3, 300, 360), 128, dtype=torch.uint8)
    images[:, 0] = 200  # RGB: red is the strongest
    boxes = torch.tensor([[0.5, 0.5, 0.5, 0.5], [0.5, 0.6, 0.2, 0.2]])
    owner, cls = torch.tensor([0.0, 2.0]), torch.tensor([[0.0], [1.0]])
    file = plot_images(images / 255 if as_float else images, owner, cls, boxes, fname=tmp_path / "b.png", names=NAMES)
    im = _picture(file)
    assert im.shape == (600, 720, 3)  # two columns, two rows; the fourth cell is white
    assert (im[450:570, 390:690] == 255).all()
    assert im[60, 600].tolist() == [128, 128, 200]  # BGR of the second image, which has no box
    near = np.abs(im.astype(int) - colors(0, bgr=True)).sum(-1) < 20
    y, x = np.nonzero(near[:300, :360])
    assert 88 <= x.min() <= 92 and 268 <= x.max() <= 272 and 223 <= y.max() <= 227
    assert not near[:, 360:].any()


def test_batch_shows_at_most_max_subplots(tmp_path):
    images = torch.rand(9, 3, 32, 32)
    none = torch.zeros(0)
    file = plot_images(images, none, none, torch.zeros(0, 4), fname=tmp_path / "b.jpg", max_subplots=4)
    assert _picture(file).shape == (640, 640, 3)  # small images are enlarged to 320 px


def test_long_names_are_cut_in_small_cells(tmp_path):
    im = np.zeros((1, 3, 320, 320), np.uint8)
    box = np.array([[0.5, 0.5, 0.5, 0.5]])
    wide, cut, short = (
        _picture(plot_images(im, np.zeros(1), np.zeros(1), box, fname=tmp_path / "b.png", names={0: name}))
        for name in ("platelets of a cell", "platelets o.", "plate")
    )
    assert (wide == cut).all() and (wide != short).any()


def test_batch_scores_paths_and_big_images(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (4, 3, 1500, 1000), dtype=np.uint8)
    boxes = np.full((4, 4), 0.5)
    file = plot_images(
        images,
        np.arange(4),
        np.zeros(4),
        boxes,
        confs=np.full(4, 0.9),
        paths=["a/b/c.jpg"] * 4,
        fname=tmp_path / "b.jpg",
    )
    assert max(_picture(file).shape) == 1920


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_batch_channels(tmp_path, channels):
    images = torch.rand(2, channels, 32, 32)
    none = torch.zeros(0)
    _picture(plot_images(images, none, none, torch.zeros(0, 4), fname=tmp_path / "b.jpg"))


def test_batch_of_nothing(tmp_path):
    none = torch.zeros(0)
    file = plot_images(torch.zeros(0, 3, 32, 32), none, none, torch.zeros(0, 4), fname=tmp_path / "b.png")
    assert (cv2.imread(str(file)) == 255).all()


def test_box_shapes_share_a_centre():
    boxes = np.array([[0.1, 0.9, 0.5, 0.25]])
    y, x = np.nonzero((box_shapes(boxes, np.zeros(1, int), size=400) != 255).any(-1))
    assert (x.min(), x.max(), y.min(), y.max()) == (100, 300, 150, 250)


# ---------------------------------------------------------------------------------------------------------- labels
@pytest.mark.parametrize("n", [0, 1, 3000])
@pytest.mark.parametrize("nc", [2, 60])
def test_labels(tmp_path, n, nc):
    rng = np.random.default_rng(0)
    file = plot_labels(rng.random((n, 4)), rng.integers(0, nc, n), {i: f"name {i}" for i in range(nc)}, tmp_path)
    assert file.name == "labels.jpg"
    _picture(file)


# --------------------------------------------------------------------------------------------------------- results
HEAD = (
    "epoch,time,train/giou_loss,train/cls_loss,train/l1_loss,metrics/precision(B),metrics/recall(B),metrics/mAP50(B),"
    "metrics/mAP50-95(B),val/giou_loss,val/cls_loss,val/l1_loss,lr/pg0"
)


@pytest.mark.parametrize("epochs", [1, 2, 30])
def test_results(tmp_path, epochs):
    rows = [f"{e},{e}," + ",".join(f"{1 / e + i:.4g}" for i in range(11)) for e in range(1, epochs + 1)]
    (tmp_path / "results.csv").write_text("\n".join([HEAD, *rows]) + "\n")
    file = plot_results(tmp_path / "results.csv")
    assert file == tmp_path / "results.png"
    _picture(file)


def test_results_with_gaps_and_spaces(tmp_path):
    (tmp_path / "results.csv").write_text("epoch,  train/loss, metrics/x\n1, 0.5, nan\n2, , 0.25\n")
    _picture(plot_results(tmp_path / "results.csv"))


def test_results_failures(tmp_path):
    with pytest.raises(NotFoundError, match=r"results\.csv"):
        plot_results(tmp_path / "results.csv")
    (tmp_path / "results.csv").write_text("epoch,time\n1,2\n")
    with pytest.raises(ConfigError, match="no column"):
        plot_results(tmp_path / "results.csv")
    assert not (tmp_path / "results.png").exists()


# ---------------------------------------------------------------------------------------------------------- curves
@pytest.mark.parametrize("classes", [0, 1, 3, 30])
def test_curves(tmp_path, classes):
    x = np.linspace(0, 1, 1000)
    curves = np.linspace(1, 0.2, classes)[:, None] * (1 - x)
    (tmp_path / "pr").mkdir()
    _picture(plot_pr_curve(x, curves, np.full(classes, 0.5), tmp_path / "pr" / "PR.png", {0: "a"}))
    _picture(plot_mc_curve(x, curves, tmp_path / "F1.png", ylabel="F1"))


def test_only_the_mean_of_many_classes_is_named(tmp_path, monkeypatch):
    found = caught(monkeypatch, plotting)
    x = np.linspace(0, 1, 1000)
    plot_pr_curve(x, np.ones((30, 1000)), np.ones(30), tmp_path / "PR.png", {i: f"class{i}" for i in range(30)})
    assert [w for w in found[0] if "class" in w] == ["all classes 1.000 mAP@0.5"]


def test_names_are_drawn_as_they_are(tmp_path, monkeypatch):
    """In legends and at ticks; a name is text, no formula, and none is left out."""
    found = caught(monkeypatch, plotting)
    x, names = np.linspace(0, 1, 1000), list(ODD_NAMES.values())
    plot_pr_curve(x, np.ones((3, 1000)), np.full(3, 0.5), tmp_path / "PR.png", ODD_NAMES)
    plot_mc_curve(x, np.ones((3, 1000)), tmp_path / "F1.png", ODD_NAMES)
    plot_confusion_matrix(np.eye(3), names, tmp_path / "m.png", normalized=True)
    plot_labels(np.full((3, 4), 0.5), np.arange(3), ODD_NAMES, tmp_path)
    shown = [[w for w in picture if w.partition(" 0.5")[0] in names] for picture in found]
    assert shown == [[f"{name} 0.500" for name in names], names, names * 2, names]


def test_no_global_state(tmp_path):
    """Drawing does not import pyplot, so it picks no backend and keeps no figure alive."""
    import matplotlib

    had, backend = "matplotlib.pyplot" in sys.modules, matplotlib.rcParams.copy()
    x = np.linspace(0, 1, 1000)
    plot_mc_curve(x, x[None], tmp_path / "a.png")
    assert ("matplotlib.pyplot" in sys.modules) == had
    assert matplotlib.rcParams.copy() == backend
