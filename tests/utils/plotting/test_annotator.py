"""Drawing: where the pixels change, that labels stay inside the image and can be read, and that files are whole."""

import cv2
import numpy as np
import pytest
import torch

from ultralytics.utils.plotting import annotator as module
from ultralytics.utils.plotting.annotator import Annotator, Colors, colors, write_image

RED, BLUE = (0, 0, 255), (255, 0, 0)


def _changed(before, after):
    """xyxy of the pixels that differ, or None."""
    y, x = np.nonzero((before != after).any(-1))
    return None if not len(x) else (x.min(), y.min(), x.max(), y.max())


# --------------------------------------------------------------------------------------------------------- colours
def test_colors_repeat_and_differ():
    assert len(set(colors.palette)) == colors.n == 20
    assert colors(3) == colors(3 + colors.n) == colors(3, bgr=True)[::-1]
    assert Colors.hex2rgb("#0a0B0c") == (10, 11, 12)


@pytest.mark.parametrize("i", range(20))
def test_letters_contrast(i):
    """The relative luminance (WCAG) of letter and background differ by a ratio of at least 3: large text is legible."""

    def luminance(bgr):
        b, g, r = (v / 255 / 12.92 if v <= 10 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in bgr)
        return 0.0722 * b + 0.7152 * g + 0.2126 * r

    color = colors(i, bgr=True)
    a, b = sorted((luminance(color), luminance(module._contrast(color))))
    assert (b + 0.05) / (a + 0.05) >= 3


# --------------------------------------------------------------------------------------------------------- canvas
@pytest.mark.parametrize(
    "im",
    [
        np.zeros((20, 30), np.uint8),
        np.zeros((20, 30, 1), np.uint8),
        np.zeros((20, 30, 4), np.uint8),
        np.zeros((20, 30, 3), np.float32),
        np.zeros((20, 30, 3), np.uint8)[:, ::-1],
        np.zeros((20, 0, 3), np.uint8),
    ],
    ids=["grey", "one channel", "alpha", "float", "not contiguous", "no pixels"],
)
def test_any_image_becomes_a_copy(im):
    drawn = Annotator(im)
    assert drawn.result().shape == (*im.shape[:2], 3) and drawn.result().dtype == np.uint8
    if im.size:
        drawn.box_label([2, 2, 10, 10], "x", RED)
        assert drawn.result().any() and not im.any()


def test_box_lies_where_it_should():
    im = np.zeros((100, 100, 3), np.uint8)
    drawn = Annotator(im, line_width=1)
    drawn.box_label(np.array([20.4, 30.6, 60, 80]), color=RED)
    assert _changed(im, drawn.result()) == (20, 31, 60, 80)
    assert drawn.result()[50, 40].tolist() == [0, 0, 0] and drawn.result()[31, 40].tolist() == list(RED)


# --------------------------------------------------------------------------------------------------------- labels
@pytest.mark.parametrize("size", [(40, 40), (67, 90), (480, 640), (3000, 4000), (30, 800), (800, 30)])
@pytest.mark.parametrize("where", ["left top", "right top", "right bottom", "outside"])
def test_labels_stay_inside_and_are_legible(size, where):
    h, w = size
    corner = {"left top": (0, 0), "right top": (w - 8, 0), "right bottom": (w - 8, h - 8), "outside": (-50, h + 9)}[
        where
    ]
    drawn = Annotator(np.zeros((h, w, 3), np.uint8))
    drawn._label(corner, "person 0.87", RED, (255, 255, 255))
    y, x = np.nonzero(drawn.result()[..., 2])  # the filled background
    assert len(x), "nothing was drawn"
    filled = (x.max() - x.min() + 1) * (y.max() - y.min() + 1)
    assert len(x) == filled, "the label was cut by the image's edge"
    if min(size) > 60:
        assert 7 <= y.max() - y.min() <= h / 4
    letters = (drawn.result() > 128).all(-1)
    assert letters.any()
    # there is background on all sides of the letters
    ly, lx = np.nonzero(letters)
    assert x.min() < lx.min() and lx.max() < x.max() and y.min() <= ly.min() and ly.max() <= y.max()


def test_label_is_above_the_box_where_it_fits():
    im = np.zeros((200, 200, 3), np.uint8)
    drawn = Annotator(im, line_width=1)
    drawn._label((50, 100), "cat", RED, (255, 255, 255))
    assert _changed(im, drawn.result())[3] < 100


def test_text_anchors():
    im = np.full((100, 200, 3), 128, np.uint8)
    top, bottom = Annotator(im), Annotator(im)
    top.text((10, 50), "name.jpg")
    bottom.text((10, 50), "name.jpg", anchor="bottom")
    assert _changed(im, top.result())[1] == 50
    assert _changed(im, bottom.result())[3] < 50


@pytest.mark.parametrize("version, want", [("4.10.0", "?? cat ?"), ("5.0.0", "红白 cat é")])
def test_names_beyond_ascii(monkeypatch, version, want):
    monkeypatch.setattr(module.cv2, "__version__", version)
    assert module._printable("红白 cat é") == want


# --------------------------------------------------------------------------------------------------------- files
@pytest.mark.parametrize("name", ["a.png", "b.jpg", "sub/ü é.webp", "c.bmp"])
def test_write_image(tmp_path, name):
    im = np.full((12, 9, 3), (10, 200, 90), np.uint8)
    assert write_image(tmp_path / name, im) == str(tmp_path / name)
    back = cv2.imdecode(np.fromfile(tmp_path / name, np.uint8), cv2.IMREAD_COLOR)
    assert back.shape == im.shape and np.abs(back.astype(int) - im).max() < 12
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [tmp_path / name]


@pytest.mark.parametrize("name", ["a.xyz", "noending"])
def test_write_image_unknown_type(tmp_path, name):
    with pytest.raises(ValueError, match="cannot write"):
        write_image(tmp_path / name, np.zeros((4, 4, 3), np.uint8))
    assert not list(tmp_path.iterdir())


def test_save_and_rectangle(tmp_path):
    drawn = Annotator(np.zeros((20, 20, 3), np.uint8))
    drawn.rectangle((2, 2, 10, 10), BLUE)
    assert cv2.imread(drawn.save(tmp_path / "x.png"))[2, 5].tolist() == list(BLUE)


def test_arguments_of_the_interface():
    image = np.zeros((40, 60, 3), np.uint8)
    annotator = Annotator(torch.from_numpy(image), line_width=0.5, font="Arial.ttf", pil=False, example="names")
    assert annotator.lw == 1
    annotator.text((2, 2), "x", box_color=(0, 0, 255))
    assert (annotator.result() == (0, 0, 255)).all(-1).any()
    assert annotator.result(pil=True).size == (60, 40)


@pytest.mark.parametrize("edge", [float("nan"), float("inf"), 1e30])
def test_boxes_of_diverged_weights_are_left_out_or_cut_off(edge):
    annotator = Annotator(np.zeros((40, 60, 3), np.uint8))
    annotator.box_label([edge, 2, 20, 30], "a")
    annotator.box_label([1, 2, edge, 30], "caf\udce9")
    assert annotator.result().shape == (40, 60, 3)
