"""Folders of class folders: description, listing, reproducible augmentation, loaders."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from tests.data.sets import late_exif
from ultralytics.cfg import get_cfg
from ultralytics.data import classify
from ultralytics.data.classify import (
    ClassificationDataset,
    build_classify_loader,
    check_cls_dataset,
    classify_augmentations,
    eval_transforms,
    to_image,
    to_tensor,
)
from ultralytics.data.image_cache import ImageCache
from ultralytics.utils.errors import ConfigError, DatasetError, NotFoundError

NAMES = {0: "blue", 1: "red"}


def write_set(
    root: Path, splits: tuple[str, ...] = ("train", "val"), each: int = 3, size: tuple[int, int] = (40, 48)
) -> Path:
    """Write noisy images, blue or red, of (height, width) `size`."""
    rng = np.random.default_rng(0)
    for split in splits:
        for c, name in NAMES.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(each):
                image = rng.integers(0, 90, (*size, 3), dtype=np.uint8)
                image[..., 2 * c] += 150  # BGR
                cv2.imwrite(str(folder / f"{i}.png"), image)
    return root


def args(**changes: Any) -> Any:
    return get_cfg(overrides={"task": "classify", "imgsz": 32, "auto_augment": None, **changes})


def dataset(root: Path, split: str = "train", **changes: Any) -> ClassificationDataset:
    return ClassificationDataset(root / split, args(**changes), NAMES, "train" if split == "train" else "val")


# ------------------------------------------------------------------------------------------------------ description
def test_description(tmp_path):
    write_set(tmp_path)
    data = check_cls_dataset(tmp_path)
    assert data["names"] == NAMES and data["nc"] == 2 and data["channels"] == 3 and data["test"] is None
    assert [Path(data[s]).name for s in ("train", "val")] == ["train", "val"]


@pytest.mark.parametrize("folder", ["test", "validation"])
def test_another_folder_stands_in_for_val(tmp_path, folder, capsys):
    write_set(tmp_path, ("train", folder))
    assert Path(check_cls_dataset(tmp_path)["val"]).name == folder
    assert f"'{folder}' is used" in capsys.readouterr().out


def empty(root: Path) -> None:
    (root / "train").mkdir()
    (root / "val").mkdir()


def extra_class(root: Path) -> None:
    write_set(root)
    (root / "val" / "green").mkdir()


@pytest.mark.parametrize(
    ("make", "split", "error", "text"),
    [
        (empty, "val", DatasetError, "no class folders"),
        (lambda root: (root / "val").mkdir(), "val", NotFoundError, "no folder 'train'"),
        (lambda root: write_set(root, ("train",)), "val", NotFoundError, "no folder 'val'"),
        (write_set, "test", NotFoundError, "no folder 'test'"),
        (extra_class, "val", DatasetError, "green"),
    ],
)
def test_descriptions_that_cannot_be_used(tmp_path, make, split, error, text):
    make(tmp_path)
    with pytest.raises(error, match=text) as e:
        check_cls_dataset(tmp_path, split)
    assert str(tmp_path) in str(e.value) and len(str(e.value).splitlines()) <= 3
    with pytest.raises(NotFoundError, match="nowhere"):
        check_cls_dataset(tmp_path / "nowhere")


# ---------------------------------------------------------------------------------------------------------- samples
def test_samples(tmp_path):
    data = dataset(write_set(tmp_path), "val")
    assert len(data) == 6 and data.counts == [3, 3] and data.report == []
    sample = data[4]
    assert sample["img"].shape == (3, 32, 32) and sample["img"].dtype == torch.uint8
    assert (
        sample["cls"] == 1
        and Path(sample["im_file"]).parts[-2:] == ("red", "1.png")
        and sample["ori_shape"] == (40, 48)
    )
    assert sample["img"][0].float().mean() > sample["img"][2].float().mean() + 100, "RGB order"
    assert torch.equal(sample["img"], data[(7, 4)]["img"]), "validation has no randomness"


def test_a_class_without_images_in_a_split_keeps_its_number(tmp_path):
    write_set(tmp_path)
    for file in (tmp_path / "val" / "blue").iterdir():
        file.unlink()
    data = dataset(tmp_path, "val")
    assert data.counts == [0, 3] and data.targets.tolist() == [1, 1, 1]


def test_what_cannot_be_read_is_left_out_and_listed(tmp_path, capsys):
    write_set(tmp_path)
    bad = [tmp_path / "train" / "red" / "0.png", tmp_path / "train" / "blue" / "2.png"]
    bad[0].write_bytes(b"")
    bad[1].write_bytes(bad[1].read_bytes()[:100])
    (tmp_path / "train" / "red" / "notes.txt").write_text("not an image")
    data = dataset(tmp_path)
    assert data.counts == [2, 2] and {issue.file for issue in data.report} == {str(b) for b in bad}
    out = capsys.readouterr().out
    assert "2 finding(s)" in out and str(bad[0]) in out and "empty file" in out
    data.write_report(tmp_path)
    assert len((tmp_path / "data_report.txt").read_text().splitlines()) == 2


def test_the_second_start_reads_what_the_first_found(tmp_path, monkeypatch):
    write_set(tmp_path)
    (tmp_path / "train" / "red" / "0.png").write_bytes(b"")
    first = dataset(tmp_path)
    looked = []
    verify = classify.verify_rows
    monkeypatch.setattr(classify, "verify_rows", lambda *args: looked.append(args[0]) or verify(*args))
    again = dataset(tmp_path)
    assert not looked and (tmp_path / "train.cache").exists()
    assert again.im_files == first.im_files and again.report == first.report and len(again.report) == 1
    assert again.targets.tolist() == first.targets.tolist() == [0, 0, 0, 1, 1]
    assert [again[i]["ori_shape"] for i in range(5)] == [first[i]["ori_shape"] for i in range(5)]

    shutil.copy(tmp_path / "train" / "red" / "1.png", tmp_path / "train" / "red" / "0.png")
    assert dataset(tmp_path).counts == [3, 3] and len(looked) == 6, "a file was repaired"
    renumbered = ClassificationDataset(tmp_path / "train", args(), {0: "red", 1: "blue"}, "train")
    assert renumbered.targets.tolist() == [1, 1, 1, 0, 0, 0] and "blue" in renumbered.im_files[0]


def test_nothing_usable(tmp_path):
    write_set(tmp_path, each=1)
    for file in (tmp_path / "train").rglob("*.png"):
        file.write_bytes(b"x")
    with pytest.raises(DatasetError, match="none of 2 images is usable"):
        dataset(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"auto_augment": "randaugment"},
        {"auto_augment": "augmix", "degrees": 20.0, "translate": 0.1, "shear": 5.0},
        {"auto_augment": "autoaugment", "scale": [0.3, 0.8], "flipud": 0.5, "erasing": 1.0},
    ],
)
def test_a_sample_depends_on_seed_epoch_and_index_alone(tmp_path, changes):
    data = dataset(write_set(tmp_path), **changes)
    before = torch.get_rng_state()
    first = data[(3, 1)]["img"]
    assert torch.equal(torch.get_rng_state(), before), "the global generator is left alone"
    data[(0, 0)], torch.rand(5)
    assert torch.equal(data[(3, 1)]["img"], first) and first.shape == (3, 32, 32)
    assert not torch.equal(data[(4, 1)]["img"], first)
    other = dataset(tmp_path, seed=1, **changes)
    assert not torch.equal(other[(3, 1)]["img"], first)


@pytest.mark.parametrize("cache", ["ram", "disk"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_cache_changes_nothing(tmp_path, cache, split):
    plain, cached = (dataset(write_set(tmp_path) if c is False else tmp_path, split, cache=c) for c in (False, cache))
    for i in range(6):
        assert torch.equal(plain[(1, i)]["img"], cached[(1, i)]["img"])


@pytest.mark.parametrize(("split", "size"), [("train", (100, 2000)), ("train", (30, 40)), ("val", (100, 2000))])
def test_the_memory_that_a_cache_needs_is_known(tmp_path, monkeypatch, split, size):
    needed = []
    monkeypatch.setattr(ImageCache, "_fits", lambda self, mode, sizes: needed.extend(sizes) or True)
    data = dataset(write_set(tmp_path, size=size), split, cache="ram")
    assert needed == [data.images[i].nbytes for i in range(6)]


def test_the_shape_is_that_of_the_decoded_image(tmp_path):
    write_set(tmp_path)
    late_exif(tmp_path / "val/blue/0.png")
    for cache in (False, "ram", "disk", "disk"):
        data = dataset(tmp_path, "val", cache=cache)
        assert data[0]["img"].shape == (3, 32, 32) and data[0]["ori_shape"] == (48, 40)


def test_no_augmentation_is_a_plain_resize():
    off = args(scale=0.0, fliplr=0.0, hsv_h=0.0, hsv_s=0.0, hsv_v=0.0, erasing=0.0, translate=0.0)
    image = torch.arange(3 * 32 * 32, dtype=torch.uint8).view(3, 32, 32)
    assert torch.equal(classify_augmentations(32, off)(image), image)


def test_unknown_policy():
    with pytest.raises(ConfigError, match="randaugment, autoaugment, augmix"):
        classify_augmentations(32, args(auto_augment="magic"))


@pytest.mark.parametrize(("h", "w"), [(32, 32), (64, 96), (20, 90), (90, 20)])
def test_evaluation_sees_the_middle(h, w):
    image = np.zeros((h, w, 3), np.uint8)
    image[h // 2 - 1 : h // 2 + 1, w // 2 - 1 : w // 2 + 1] = (10, 20, 200)  # BGR
    out = eval_transforms(32)(to_tensor(image))
    assert out.shape == (3, 32, 32) and int(out.sum(0).view(-1).argmax()) // 32 in (15, 16)
    assert np.array_equal(to_image(to_tensor(image)), image)


# ---------------------------------------------------------------------------------------------------------- loaders
def test_loader_and_workers_agree(tmp_path):
    data = dataset(write_set(tmp_path))
    batches = []
    for workers in (0, 2):
        loader = build_classify_loader(data, 4, workers, shuffle=True)
        loader.sampler.set_epoch(2)
        batches.append(list(loader))
    for a, b in zip(*batches, strict=True):
        assert torch.equal(a["img"], b["img"]) and torch.equal(a["cls"], b["cls"]) and a["im_file"] == b["im_file"]
    assert batches[0][0]["img"].shape == (4, 3, 32, 32) and batches[0][0]["cls"].dtype == torch.int64


@pytest.mark.parametrize(
    ("batch", "shuffle", "sizes"), [(5, True, [5]), (5, False, [5, 1]), (4, True, [4, 2]), (9, True, [6])]
)
def test_no_training_batch_of_one_image(tmp_path, batch, shuffle, sizes):
    loader = build_classify_loader(dataset(write_set(tmp_path)), batch, 0, shuffle=shuffle)
    assert [len(b["cls"]) for b in loader] == sizes and len(loader) == len(sizes)


def test_training_on_single_images_is_refused(tmp_path):
    data = dataset(write_set(tmp_path))
    with pytest.raises(ConfigError, match="batch=2"):
        build_classify_loader(data, 1, 0, shuffle=True)
    assert len(build_classify_loader(data, 1, 0, shuffle=False)) == 6
