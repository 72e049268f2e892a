"""Results: everything that can be asked of a prediction, on no box, some boxes, tracked boxes, tensors and arrays."""

import json

import cv2
import numpy as np
import pytest
import torch

from ultralytics.engine.results.boxes import Boxes
from ultralytics.engine.results.results import Results
from ultralytics.utils.errors import ConfigError

NAMES = {0: "cat", 1: "dog", 2: "emu"}
ROWS = np.array([[10, 20, 60, 80, 0.9, 2], [0, 0, 30, 30, 0.8, 0], [100, 50, 199, 99, 0.75, 2]], dtype=np.float32)
IMAGE = np.full((100, 200, 3), 90, np.uint8)


def _results(rows=ROWS, path="folder/photo.png", tensor=True):
    data = torch.from_numpy(np.array(rows)) if tensor else np.array(rows)
    return Results(IMAGE, path, NAMES, data)


def test_attributes():
    r = _results()
    assert r.orig_shape == (100, 200) and r.names == NAMES and r.path == "folder/photo.png" and len(r) == 3
    assert r.speed == {"preprocess": None, "inference": None, "postprocess": None} and r.save_dir is None
    assert r.masks is None and r.probs is None and r.keypoints is None and r.obb is None
    assert "2 emus" in repr(r)


@pytest.mark.parametrize("boxes", [None, torch.zeros(0, 6), np.zeros((0, 7))], ids=["no task", "none", "none tracked"])
def test_nothing_found(boxes, tmp_path):
    r = Results(IMAGE, "x.jpg", NAMES, boxes)
    assert len(r) == 0 and list(r) == [] and r.summary() == [] and json.loads(r.to_json()) == []
    assert r.verbose() == "(no detections), "
    assert (r.plot() == IMAGE).all() and r.plot() is not IMAGE
    r.save_txt(tmp_path / "x.txt")
    assert r.save_crop(tmp_path) == [] and not list(tmp_path.iterdir())
    assert list(r.to_df().columns)[:7] == ["name", "class", "confidence", "x1", "y1", "x2", "y2"]


def test_indexing_keeps_everything_else():
    r = _results()
    r.save_dir = "runs/x"
    for index, count in ((0, 1), (slice(1, 3), 2), ([0], 1), (r.boxes.conf > 0.77, 2)):
        part = r[index]
        assert isinstance(part, Results) and len(part) == count
        assert part.orig_img is r.orig_img and part.save_dir == "runs/x"
    assert [int(x.boxes.cls) for x in r] == [2, 0, 2]
    assert len(r.new()) == 0


def test_moving():
    r = _results()
    assert isinstance(r.numpy().boxes.data, np.ndarray) and isinstance(r.boxes.data, torch.Tensor)
    assert r.cpu().boxes.data.device.type == "cpu" and r.to(torch.float64).boxes.data.dtype == torch.float64
    assert len(r.new().numpy().cpu().to("cpu")) == 0


@pytest.mark.parametrize("tensor", [True, False])
def test_update_clips(tensor):
    r = _results()
    rows = np.array([[-5, -5, 250, 50, 0.5, 1.0]])
    r.update(boxes=torch.from_numpy(rows) if tensor else rows)
    assert isinstance(r.boxes, Boxes) and r.boxes.data.tolist() == [[0, 0, 200, 50, 0.5, 1]]
    r.update()
    assert len(r) == 1


@pytest.mark.parametrize(
    "rows, want",
    [(ROWS, "1 cat, 2 emus, "), (ROWS[:1], "1 emu, "), ([[0, 0, 1, 1, 0.5, 9]], "1 9, ")],
    ids=["several", "one", "no name"],
)
def test_verbose(rows, want):
    assert _results(rows).verbose() == want


# --------------------------------------------------------------------------------------------------------- drawing
def test_plot_draws_boxes_in_class_colours():
    from ultralytics.utils.plotting.annotator import colors

    drawn = _results().plot(line_width=1)
    assert (IMAGE == 90).all() and drawn.shape == IMAGE.shape
    assert drawn[60, 10].tolist() == list(colors(2, bgr=True)) and drawn[30, 20].tolist() == list(colors(0, bgr=True))
    instance = _results().plot(line_width=1, color_mode="instance")
    assert instance[60, 10].tolist() == list(colors(0, bgr=True)) and instance[99, 150].tolist() == list(
        colors(2, bgr=True)
    )


def test_plot_options(tmp_path):
    r = _results()
    plain = r.plot()
    assert (r.plot(boxes=False) == IMAGE).all()
    assert not np.array_equal(plain, r.plot(labels=False)) and not np.array_equal(plain, r.plot(conf=False))
    assert not np.array_equal(plain, r.plot(line_width=5)) and not np.array_equal(plain, r.plot(font_size=20))
    assert not np.array_equal(plain, r.plot(txt_color=(1, 250, 1)))
    other = np.zeros((100, 200, 3), np.uint8)
    assert r.plot(img=torch.from_numpy(other))[0, 199].tolist() == [0, 0, 0]
    pil = r.plot(pil=True)
    np.testing.assert_array_equal(np.asarray(pil)[..., ::-1], plain)
    r.plot(save=True, filename=tmp_path / "p.png")
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "p.png")), plain)


def test_plot_tracks_differ():
    tracked = np.insert(ROWS, 4, [1, 2, 3], axis=1)
    assert not np.array_equal(_results(tracked).plot(), _results().plot())
    assert _results(tracked).summary()[1]["track_id"] == 2
    assert _results(tracked).to_df()["track_id"].tolist() == [1, 2, 3]


def test_plot_refuses_unknown_colour_mode():
    with pytest.raises(ConfigError, match="'class' or 'instance'"):
        _results().plot(color_mode="rainbow")


def test_best_score_is_drawn_last():
    rows = np.array([[10, 10, 60, 60, 0.9, 0], [10, 10, 60, 60, 0.1, 1]], dtype=np.float32)
    drawn, alone = _results(rows).plot(labels=False), _results(rows[:1]).plot(labels=False)
    np.testing.assert_array_equal(drawn, alone)


def test_show(monkeypatch):
    shown = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "imshow", lambda name, im: shown.append((name, im.shape)))
    monkeypatch.setattr(cv2, "waitKey", lambda delay: shown.append(delay))
    monkeypatch.setattr(cv2, "destroyWindow", lambda name: shown.append(name))
    _results().show(labels=False)
    assert shown == [("folder/photo.png", (100, 200, 3)), 0, "folder/photo.png"]


# --------------------------------------------------------------------------------------------------------- storing
@pytest.mark.parametrize("path, want", [("a/b.png", "results_b.png"), ("image0", "results_image0.jpg"), ("", None)])
def test_save_default_name(tmp_path, monkeypatch, path, want):
    monkeypatch.chdir(tmp_path)
    want = want or "results_image.jpg"
    assert _results(path=path).save() == want and (tmp_path / want).is_file()


def test_save_makes_the_folder(tmp_path):
    file = tmp_path / "new" / "x.jpg"
    assert _results().save(file) == str(file) and cv2.imread(str(file)).shape == IMAGE.shape


def test_save_txt_appends_and_reads_back(tmp_path):
    file = tmp_path / "labels" / "x.txt"
    r = _results()
    assert r.save_txt(file) == str(file)
    rows = np.loadtxt(file)
    np.testing.assert_allclose(rows[:, 0], [2, 0, 2])
    np.testing.assert_allclose(rows[:, 1:], r.boxes.xywhn, atol=1e-5)
    r.save_txt(file, save_conf=True)
    lines = file.read_text().splitlines()
    assert len(lines) == 6 and [len(line.split()) for line in lines] == [5] * 3 + [6] * 3
    assert float(lines[3].split()[5]) == pytest.approx(0.9)


def test_save_txt_of_tracks(tmp_path):
    _results(np.insert(ROWS, 4, [1, 2, 3], axis=1)).save_txt(tmp_path / "x.txt", save_conf=True)
    assert [line.split()[6] for line in (tmp_path / "x.txt").read_text().splitlines()] == ["1", "2", "3"]


def test_save_crop(tmp_path):
    files = _results().save_crop(tmp_path, "photo.png")
    relative = [f[len(str(tmp_path)) + 1 :] for f in files]
    assert relative == ["emu/photo.jpg", "cat/photo.jpg", "emu/photo-2.jpg"]
    assert cv2.imread(files[0]).shape == (71, 61, 3)  # 60 x 50 by 1.02, plus 10 pixels
    assert cv2.imread(files[1]).shape == (35, 35, 3)  # cut at the image's corner


@pytest.mark.parametrize("name, folder", [("../../up", "_.._up"), ("a/b", "a_b"), ("..", "0")])
def test_save_crop_class_name_is_not_a_path(tmp_path, name, folder):
    r = Results(IMAGE, "x.jpg", {0: name}, ROWS[1:2])
    (file,) = r.save_crop(tmp_path / "crops")
    assert file == str(tmp_path / "crops" / folder / "im.jpg")


@pytest.mark.parametrize("box", [[50, 50, 50, 50], [200, 100, 200, 100], [0, 0, 0, 0], [300, 300, 400, 400]])
def test_crop_of_a_degenerate_box(tmp_path, box):
    (file,) = Results(IMAGE, "x.jpg", NAMES, np.array([[*box, 0.5, 0]], float)).save_crop(tmp_path)
    assert min(cv2.imread(file).shape) >= 1


@pytest.mark.parametrize("tensor", [True, False])
def test_summary_and_tables(tensor):
    r = _results(tensor=tensor)
    first = r.summary()[0]
    assert first == {
        "name": "emu", "class": 2, "confidence": 0.9, "box": {"x1": 10.0, "y1": 20.0, "x2": 60.0, "y2": 80.0},
    }  # fmt: skip
    assert r.summary(normalize=True, decimals=3)[0]["box"] == {"x1": 0.05, "y1": 0.2, "x2": 0.3, "y2": 0.8}
    assert json.loads(r.to_json()) == json.loads(r.tojson()) == r.summary()
    frame = r.to_df(normalize=True)
    assert frame.shape == (3, 7) and frame["name"].tolist() == ["emu", "cat", "emu"]
    assert r.to_csv().splitlines()[1] == "emu,2,0.9,10.0,20.0,60.0,80.0"


def test_grey_image(tmp_path):
    r = Results(np.zeros((50, 60), np.uint8), "g.png", NAMES, ROWS[:1])
    assert r.plot().shape == (50, 60, 3) and r.orig_shape == (50, 60)
    assert r.save_crop(tmp_path)
