"""The data set: what it leaves out, what a sample holds, and that a sample depends on seed, epoch and index alone."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from tests.data.sets import data_dict, hyp, late_exif, make_set, picture, write_set
from ultralytics.data.dataset import YOLODataset
from ultralytics.utils.errors import ConfigError, DatasetError

GOOD = "1 0.5 0.5 0.2 0.2\n"
REPORT_FILE = "data_report.txt"


def dataset(root: Path, split: str = "train", **options) -> YOLODataset:
    base = {"imgsz": 64, "augment": False, "letterbox": False, "data": data_dict(root)}
    return YOLODataset(str(root / "images" / split), **{**base, **options})


# ---- what it consists of ----


def test_backgrounds_stay_and_damage_is_listed(tmp_path: Path) -> None:
    rows = {"bg": None, "empty": "", "good": GOOD, "half": GOOD + "1 0.5 0.5 0.1 0\n", "torn": GOOD}
    images = write_set(tmp_path, rows)
    (images / "torn.png").write_bytes((images / "torn.png").read_bytes()[:200])
    ds = dataset(tmp_path)
    assert [Path(f).stem for f in ds.im_files] == ["bg", "empty", "good", "half"]
    assert [len(label["cls"]) for label in ds.labels] == [0, 0, 1, 1]
    assert {(Path(i.file).name, i.line) for i in ds.report} == {("half.txt", 2), ("torn.png", 0)}
    batch = ds.collate_fn([ds[i] for i in range(4)])
    assert batch["batch_idx"].tolist() == [2, 3] and batch["img"].shape == (4, 3, 64, 64)


def test_the_report_is_logged_short_and_written_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_set(tmp_path, {f"i{k:02d}": GOOD * 2 for k in range(15)})
    (tmp_path / "run").mkdir()
    ds = dataset(tmp_path, save_dir=tmp_path / "run", prefix="train: ")
    out = capsys.readouterr().out
    assert "15 finding(s)" in out and out.count("same object") == 10 and "and 5 more" in out and REPORT_FILE in out
    lines = (tmp_path / "run" / REPORT_FILE).read_text().splitlines()
    assert len(lines) == len(ds.report) == 15 and lines[0].startswith("train: ") and "i00.txt:2:" in lines[0]
    dataset(tmp_path, save_dir=tmp_path / "run", prefix="train: ")
    assert len((tmp_path / "run" / REPORT_FILE).read_text().splitlines()) == 15, "from the cache, not doubled"


@pytest.mark.parametrize("row", ["7 0.5 0.5 0.1 0.1", "1 0.5 0.5 0.1", "1 0.5 0.5 -0.1 0.1"])
def test_rows_that_stop_a_strict_run(tmp_path: Path, row: str) -> None:
    """Issue of a new user: the error names file, line and remedy; nothing is written."""
    write_set(tmp_path, {"a": GOOD, "b": f"{GOOD}{row}\n"})
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    with pytest.raises(DatasetError) as caught:
        dataset(tmp_path)
    assert "b.txt:2:" in str(caught.value) and len(str(caught.value).splitlines()) <= 3
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before
    ds = dataset(tmp_path, strict=False)
    assert [len(label["cls"]) for label in ds.labels] == [1, 1] and len(ds.report) == 1


def test_nothing_usable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = write_set(tmp_path, {"a": None})
    with pytest.raises(DatasetError, match="no labels found"):
        dataset(tmp_path, augment=True)
    assert len(dataset(tmp_path)) == 1 and "no labels found" in capsys.readouterr().out
    (images / "a.png").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"none of 1 images is usable[^\n]*\n.*0 bytes"):
        dataset(tmp_path)
    (images / "a.png").unlink()
    with pytest.raises(DatasetError, match="no images found"):
        dataset(tmp_path)


def test_pixel_coordinates_are_called_by_name(tmp_path: Path) -> None:
    write_set(tmp_path, {"a": "1 320 240 50 60\n"})
    with pytest.raises(DatasetError, match="fractions of the image"):
        dataset(tmp_path, augment=True)


def test_label_cache_is_used_and_renewed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_set(tmp_path)
    first = dataset(tmp_path)
    cache = tmp_path / "labels/train.cache"
    assert first.cache_path == cache and cache.exists()
    capsys.readouterr()
    again = dataset(tmp_path)
    assert "train.cache" in capsys.readouterr().out
    for a, b in zip(first.labels, again.labels, strict=True):
        np.testing.assert_array_equal(a["bboxes"], b["bboxes"])
    (tmp_path / "labels/train/im0.txt").write_text(GOOD)
    np.testing.assert_allclose(dataset(tmp_path).labels[0]["bboxes"], [[0.5, 0.5, 0.2, 0.2]])


def test_text_lists_have_a_cache_of_their_own(tmp_path: Path) -> None:
    images = make_set(tmp_path)
    for name, numbers in (("train", (0, 1, 2)), ("val", (3, 4))):
        (tmp_path / f"{name}.txt").write_text("".join(f"{images}/im{i}.png\n" for i in numbers))
    sizes = []
    for name in ("train", "val"):
        ds = YOLODataset(str(tmp_path / f"{name}.txt"), 64, augment=False, data=data_dict(tmp_path))
        sizes.append(len(ds))
        assert (tmp_path / f"{name}.cache").exists()
    assert sizes == [3, 2]


def test_class_filter_single_class_and_fraction(tmp_path: Path) -> None:
    two = "0 0.5 0.5 0.2 0.2\n1 0.3 0.3 0.2 0.2\n"
    write_set(tmp_path, {"a": two, "b": "2 0.5 0.5 0.2 0.2\n", "c": GOOD, "d": GOOD})
    assert [label["cls"].ravel().tolist() for label in dataset(tmp_path, classes=[1]).labels] == [[1], [], [1], [1]]
    assert [label["cls"].ravel().tolist() for label in dataset(tmp_path, classes=2).labels] == [[], [2], [], []]
    single = dataset(tmp_path, single_cls=True)
    assert all((label["cls"] == 0).all() for label in single.labels)
    assert len(dataset(tmp_path, fraction=0.5)) == 2 and len(dataset(tmp_path, fraction=3)) == 3


def test_a_class_filter_may_not_leave_a_training_without_objects(tmp_path: Path, capsys) -> None:
    write_set(tmp_path, {"a": "1 .5 .5 .2 .2\n", "b": "0 .5 .5 .2 .2\n"})
    with pytest.raises(DatasetError, match=r"no object of classes=\[2\]"):
        dataset(tmp_path, augment=True, hyp=hyp(), classes=[2])
    capsys.readouterr()
    assert not len(dataset(tmp_path, classes=[2]).labels.cls.values)
    assert "no object of classes=[2]" in capsys.readouterr().out
    with pytest.raises(DatasetError, match="with single_cls=True all objects are of class 0"):
        dataset(tmp_path, augment=True, hyp=hyp(), classes=[1], single_cls=True)
    assert len(dataset(tmp_path, augment=True, hyp=hyp(), classes=1).labels.cls.values) == 1


def test_other_tasks_are_refused(tmp_path: Path) -> None:
    make_set(tmp_path)
    with pytest.raises(DatasetError, match="segment"):
        dataset(tmp_path, task="segment")


# ---- one sample ----


@pytest.mark.parametrize("letterbox", [False, True])
def test_a_validation_sample(tmp_path: Path, letterbox: bool) -> None:
    """Stretched or letterboxed, the boxes stay where the pixels are."""
    images = write_set(tmp_path, {"a": "1 0.25 0.5 0.5 1.0\n"}, h=48, w=96)
    half = np.zeros((48, 96, 3), np.uint8)
    half[:, :48] = (10, 20, 250)
    cv2.imwrite(str(images / "a.png"), half)
    sample = dataset(tmp_path, letterbox=letterbox)[0]
    assert sample["img"].shape == (3, 64, 64) and sample["img"].dtype == torch.uint8
    assert sample["ori_shape"] == (48, 96) and sample["resized_shape"] == (64, 64)
    ys, _ = np.nonzero(sample["img"][0].numpy() > 200)
    x, y, w, h = (sample["bboxes"][0] * 64).tolist()
    np.testing.assert_allclose([x - w / 2, y - h / 2, x + w / 2, y + h / 2], [0, ys.min(), 32, ys.max() + 1], atol=1.01)
    gains, offset = sample["ratio_pad"]
    np.testing.assert_allclose(gains, (64 / 96, 64 / 96) if letterbox else (64 / 48, 64 / 96))
    assert tuple(offset) == ((0, 16) if letterbox else (0, 0))


@pytest.mark.parametrize("augment", [False, True])
def test_an_image_of_other_channels_is_named(tmp_path: Path, augment: bool) -> None:
    images = make_set(tmp_path, 3)
    for i in (0, 2):
        cv2.imwrite(str(images / f"im{i}.png"), np.zeros((48, 64, 4), np.uint8))
    found = dataset(tmp_path, augment=augment, channels=4, hyp=hyp())
    assert found[0]["img"].shape == (4, 64, 64)
    with pytest.raises(DatasetError, match=r"im1\.png: 3 channel\(s\), where channels=4"):
        found[1]


def test_grey_images(tmp_path: Path) -> None:
    write_set(tmp_path, {"a": GOOD})
    assert dataset(tmp_path, channels=1)[0]["img"].shape == (1, 64, 64)
    assert dataset(tmp_path, channels=1, augment=True, hyp=hyp(mosaic=1.0, degrees=5.0))[0]["img"].shape == (1, 64, 64)


def test_batch_layout(tmp_path: Path) -> None:
    make_set(tmp_path)
    ds = dataset(tmp_path)
    batch = ds.collate_fn([ds[i] for i in (0, 1, 2)])
    assert list(batch) == sorted(batch)
    assert batch["cls"].shape == (6, 1) and batch["bboxes"].shape == (6, 4)
    assert batch["batch_idx"].tolist() == [0, 1, 1, 2, 2, 2] and batch["batch_idx"].dtype == torch.float32
    assert batch["im_file"] == tuple(ds.im_files[:3]) and batch["ori_shape"] == ((48, 64),) * 3
    torch.testing.assert_close(batch["bboxes"][:1], torch.tensor(ds.labels[0]["bboxes"]), atol=1e-6, rtol=0)


def equal(a: dict, b: dict) -> bool:
    return torch.equal(a["img"], b["img"]) and torch.equal(a["bboxes"], b["bboxes"]) and torch.equal(a["cls"], b["cls"])


AUGMENT = hyp(mosaic=0.5, mixup=0.3, hsv_h=0.1, hsv_s=0.5, hsv_v=0.4, fliplr=0.5, translate=0.1, scale=0.5)


def test_a_sample_is_a_function_of_seed_epoch_and_index(tmp_path: Path) -> None:
    make_set(tmp_path)
    a, b = (dataset(tmp_path, augment=True, hyp=AUGMENT) for _ in range(2))
    forward = {key: a[key] for key in [(e, i) for e in range(3) for i in range(6)]}
    np.random.seed(5)
    torch.manual_seed(5)
    for key in sorted(forward, reverse=True):
        assert equal(b[key], forward[key])
    assert equal(a[2], forward[0, 2])
    assert not equal(forward[0, 2], forward[1, 2])
    other = dataset(tmp_path, augment=True, hyp=AUGMENT, seed=1)
    assert not all(equal(other[key], forward[key]) for key in forward)


def test_labels_survive_their_use(tmp_path: Path) -> None:
    make_set(tmp_path)
    ds = dataset(tmp_path, augment=True, hyp=AUGMENT)
    before = pickle.dumps(ds.labels)
    for e in range(3):
        for i in range(len(ds)):
            ds[e, i]
    assert pickle.dumps(ds.labels) == before


def test_closing_the_mosaic(tmp_path: Path) -> None:
    make_set(tmp_path)
    flips = hyp(mosaic=1.0, mixup=1.0, fliplr=0.5)
    ds = dataset(tmp_path, augment=True, hyp=flips)
    plain = dataset(tmp_path, augment=True, hyp=hyp(fliplr=0.5))
    assert not any(equal(ds[0, i], plain[0, i]) for i in range(6))
    ds.close_mosaic(flips)
    for i in range(6):
        assert len(ds[0, i]["cls"]) == len(plain[0, i]["cls"]) == len(ds.labels[i]["cls"])


@pytest.mark.parametrize("mode", ["ram", "disk", True])
@pytest.mark.parametrize("letterbox", [False, True])
def test_cached_images_change_nothing(tmp_path: Path, mode: str | bool, letterbox: bool) -> None:
    make_set(tmp_path, h=50, w=90)
    options = {"augment": True, "hyp": AUGMENT, "letterbox": letterbox}
    plain, cached = dataset(tmp_path, **options), dataset(tmp_path, cache=mode, **options)
    keys = [(e, i) for e in range(2) for i in range(6)]
    assert all(equal(plain[k], cached[k]) and plain[k]["ori_shape"] == cached[k]["ori_shape"] for k in keys)


def test_rect_batches_hold_their_images_with_little_border(tmp_path: Path) -> None:
    shapes = {"wide": (30, 60), "wider": (24, 60), "tall": (60, 30), "square": (60, 60)}
    images = write_set(tmp_path, dict.fromkeys(shapes, GOOD))
    for name, (h, w) in shapes.items():
        cv2.imwrite(str(images / f"{name}.png"), picture(h, w))
    ds = dataset(tmp_path, rect=True, batch_size=2, stride=32, pad=0.0, imgsz=64)
    assert [Path(f).stem for f in ds.im_files] == ["wider", "wide", "square", "tall"]
    assert [tuple(ds[i]["img"].shape[1:]) for i in range(4)] == [(32, 64), (32, 64), (64, 64), (64, 64)]
    train = dataset(tmp_path, rect=True, batch_size=2, pad=0.0, augment=True, hyp=hyp(mosaic=1.0, fliplr=0.5))
    assert tuple(train[0]["img"].shape[1:]) == (32, 64)
    torch.testing.assert_close(ds[1]["bboxes"][0], torch.tensor([0.5, 0.5, 0.2, 0.2]), atol=1e-5, rtol=0)


def test_an_image_that_breaks_later_is_named(tmp_path: Path) -> None:
    images = make_set(tmp_path)
    ds = dataset(tmp_path)
    (images / "im1.png").write_bytes(b"gone")
    with pytest.raises(DatasetError, match=r"im1\.png"):
        ds[1]


# ---- the image cache ----


def test_disk_cache_is_renewed_when_an_image_changes(tmp_path: Path) -> None:
    images = make_set(tmp_path)
    dataset(tmp_path, cache="disk")
    files = sorted(images.glob("*.npy"))
    assert [f.name for f in files] == [f"im{i}.png.64s3.npy" for i in range(6)]
    stamp = files[0].stat().st_mtime_ns
    files[1].write_bytes(b"damaged")
    cv2.imwrite(str(images / "im0.png"), picture(48, 64, 77))
    os.utime(images / "im0.png", ns=(stamp + 10**9, stamp + 10**9))
    cached, plain = dataset(tmp_path, cache="disk"), dataset(tmp_path)
    assert all(equal(cached[i], plain[i]) for i in range(6))
    assert len(plain.im_files) == 6, "cache files are not images"


def test_a_cache_that_does_not_fit_is_not_made(tmp_path: Path, monkeypatch, capsys) -> None:
    make_set(tmp_path)
    monkeypatch.setattr("ultralytics.data.image_cache.free_memory", lambda: 1000)
    ds = dataset(tmp_path, cache="ram")
    assert ds.images.mode is None and "images are read each time" in capsys.readouterr().out
    (tmp_path / "images/train").chmod(0o555)
    try:
        assert dataset(tmp_path, cache="disk").images.mode is None
    finally:
        (tmp_path / "images/train").chmod(0o755)
    assert not list(tmp_path.rglob("*.npy"))


def test_disk_cache_sees_that_another_image_took_the_name(tmp_path: Path) -> None:
    """Whatever its time: images that are renamed or unpacked bring an old one."""
    images = make_set(tmp_path)
    dataset(tmp_path, cache="disk", letterbox=True)
    for i in (1, 2):
        (images / f"im{i}.png").rename(images / f"im{i - 1}.png")
    cv2.imwrite(str(images / "im4.png"), picture(80, 40, 9))
    os.utime(images / "im4.png", (1e9, 1e9))
    for _ in range(2):
        cached, plain = dataset(tmp_path, cache="disk", letterbox=True), dataset(tmp_path, letterbox=True)
        assert len(plain) == 5 and all(equal(cached[i], plain[i]) for i in range(5))
    assert cached[3]["ori_shape"] == (80, 40)


def test_disk_cache_knows_the_decoded_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    late_exif(make_set(tmp_path, 1) / "im0.png")
    plain = dataset(tmp_path)
    assert plain[0]["ori_shape"] == (64, 48)
    dataset(tmp_path, cache="disk")
    monkeypatch.setattr("ultralytics.data.base.imread", lambda *a: pytest.fail("decoded again"))
    assert dataset(tmp_path, cache="disk")[0]["ori_shape"] == (64, 48)


@pytest.mark.parametrize("damage", [lambda b: b[:-10], lambda b: b[:300], lambda b: b[:64] + bytes(9), lambda b: b""])
def test_a_damaged_file_of_the_disk_cache_is_written_again(tmp_path: Path, damage) -> None:
    images = make_set(tmp_path, 2)
    plain = dataset(tmp_path, cache="disk")
    file = next(images.glob("im0.png.*.npy"))
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert equal(dataset(tmp_path, cache="disk")[0], plain[0]) and file.read_bytes() == whole


def test_a_disk_cache_that_is_there_needs_no_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = make_set(tmp_path)
    dataset(tmp_path, cache="disk")
    usage = SimpleNamespace(total=10**6, used=10**6 - 15_000, free=15_000)
    monkeypatch.setattr("ultralytics.data.image_cache.shutil.disk_usage", lambda path: usage)
    assert dataset(tmp_path, cache="disk").images.mode == "disk"
    next(images.glob("im0.png.*.npy")).unlink()  # 64 * 64 * 3 bytes
    assert dataset(tmp_path, cache="disk").images.mode == "disk"
    for file in images.glob("*.npy"):
        file.unlink()
    assert dataset(tmp_path, cache="disk").images.mode is None


def test_unknown_cache_modes(tmp_path: Path) -> None:
    make_set(tmp_path)
    for wrong in ("tape", 3, [1]):
        with pytest.raises(ConfigError, match="'ram' or 'disk'"):
            dataset(tmp_path, cache=wrong)


# ---- reading at reduced size ----


def big_jpeg(root: Path, h: int, w: int, suffix: str = "jpg") -> Path:
    """Write one smooth picture with a box."""
    images = write_set(root, {"a": GOOD})
    (images / "a.png").unlink()
    y, x = np.mgrid[:h, :w]
    wave = np.stack([np.sin(x / 25 + i) * np.cos(y / 30) * 100 + 128 for i in range(3)], -1).astype(np.uint8)
    assert cv2.imwrite(str(images / f"a.{suffix}"), wave, [cv2.IMWRITE_JPEG_QUALITY, 98])
    return images / f"a.{suffix}"


@pytest.mark.parametrize("letterbox", [False, True])
@pytest.mark.parametrize(("shape", "reduced"), [((256, 320), True), ((258, 322), True), ((257, 321), False)])
def test_a_reduced_sample_differs_in_its_pixels_only(
    tmp_path: Path, shape: tuple[int, int], letterbox: bool, reduced: bool
) -> None:
    big_jpeg(tmp_path, *shape)
    whole, small = (dataset(tmp_path, letterbox=letterbox, reduced_decode=on)[0] for on in (False, True))
    for key in whole:
        if key != "img":
            same = torch.equal(whole[key], small[key]) if isinstance(whole[key], torch.Tensor) else None
            assert same or whole[key] == small[key], key
    difference = (whole["img"].float() - small["img"].float()).abs()
    assert whole["img"].shape == small["img"].shape and difference.mean() < 2
    assert bool(difference.max() > 0) is reduced


@pytest.mark.parametrize("suffix", ["png", "bmp"])
def test_other_files_are_read_whole(tmp_path: Path, suffix: str) -> None:
    big_jpeg(tmp_path, 256, 320, suffix)
    whole, small = (dataset(tmp_path, reduced_decode=on)[0] for on in (False, True))
    assert torch.equal(whole["img"], small["img"])


def test_a_size_that_the_scan_did_not_see_is_read_whole(tmp_path: Path) -> None:
    big_jpeg(tmp_path, 256, 320)
    data = dataset(tmp_path, reduced_decode=True)
    data.labels.set_shape(0, (320, 256))
    first, second, whole = data[0], data[0], dataset(tmp_path)[0]
    assert first["ori_shape"] == (256, 320) and torch.equal(first["img"], whole["img"])
    assert not torch.equal(second["img"], whole["img"])  # now its size is known


def test_caches_of_both_ways_are_apart(tmp_path: Path) -> None:
    path = big_jpeg(tmp_path, 256, 320)
    for on in (False, True):
        data = dataset(tmp_path, cache="disk", reduced_decode=on)
        assert np.array_equal(data.images[0], dataset(tmp_path, reduced_decode=on).images[0])
    assert len(list(path.parent.glob("a.jpg.*.npy"))) == 2


def test_labels_beside_their_images_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = write_set(tmp_path, {"a": GOOD, "b": None})
    (images / "b.txt").write_text(GOOD)
    dataset(tmp_path)
    out = capsys.readouterr().out
    assert "1 images count as backgrounds" in out and str(images / "b.txt") in out


def test_errors_carry_no_colour_codes(tmp_path: Path) -> None:
    write_set(tmp_path, {"a": None})
    with pytest.raises(DatasetError) as caught:
        dataset(tmp_path, augment=True, prefix="\x1b[34m\x1b[1mtrain: \x1b[0m")
    assert str(caught.value).startswith("train: no labels found")
