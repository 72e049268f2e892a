"""The images that choose: which they are, and that they are apart from those that train and those that are reported."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.engine.tiny import coco_dataset, write_dataset
from ultralytics.data.paths import list_images
from ultralytics.data.utils import check_det_dataset
from ultralytics.study.tuning.holdout import hold_out, write_tuning_data
from ultralytics.utils.errors import UserError


def write_files(folder: Path, contents: dict[str, str]) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in contents.items():
        (folder / name).write_text(text)
    return [str(folder / name) for name in contents]


def test_the_part_depends_on_the_content_alone(tmp_path: Path) -> None:
    files = write_files(tmp_path / "a", {f"{i}.jpg": f"picture {i}" for i in range(20)})
    kept, held = hold_out(files, 0.25)
    assert len(held) == 5 and sorted(kept + held) == sorted(files)
    other = write_files(tmp_path / "b", {f"x{i}.jpg": f"picture {i}" for i in reversed(range(20))})
    renamed = {Path(path).name.removeprefix("x") for path in hold_out(other, 0.25)[1]}
    assert renamed == {Path(path).name for path in held}
    more = [*files, *write_files(tmp_path / "c", {"new.jpg": "another"})]
    assert len(set(held) - set(hold_out(more, 0.25)[1])) <= 1


def test_copies_stay_together(tmp_path: Path) -> None:
    files = write_files(tmp_path, {f"{i}.jpg": f"picture {i // 3}" for i in range(12)})
    kept, held = hold_out(files, 0.2)
    assert len(held) == 3 and not {Path(p).read_text() for p in kept} & {Path(p).read_text() for p in held}
    with pytest.raises(UserError, match="1 different"):
        hold_out(files[:3], 0.5)


def test_the_data_of_a_search_leave_the_reported_split_out(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "set")
    table = check_det_dataset(write_tuning_data(str(data), 0.25, tmp_path / "tune"))
    train, held = list_images(table["train"]), list_images(table["val"])
    assert len(train) == 3 and len(held) == 1 and not set(train) & set(held)
    assert all("train" in Path(p).parts for p in (*train, *held)) and table["names"] == {
        0: "red",
        1: "green",
        2: "blue",
    }
    with pytest.raises(UserError, match="holdout=1 is not between 0 and 1"):
        write_tuning_data(str(data), 1.0, tmp_path / "tune")


def test_a_coco_file_labels_both_parts(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "set")
    shutil.rmtree(tmp_path / "set" / "labels")
    record = coco_dataset()
    record["images"] = [{"id": i, "file_name": f"{i:03d}.png", "width": 8, "height": 8} for i in range(4)]
    for split in ("train", "val"):
        (tmp_path / f"{split}.json").write_text(json.dumps(record))
    data.write_text(f"{data.read_text()}annotations: {{train: {tmp_path}/train.json, val: {tmp_path}/val.json}}\n")
    table = check_det_dataset(write_tuning_data(str(data), 0.25, tmp_path / "tune"))
    assert table["format"] == "coco" and set(table["annotations"].values()) == {f"{tmp_path}/train.json"}
