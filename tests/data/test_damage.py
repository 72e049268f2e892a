"""A folder with one of each kind of damage: named by the doctor, left out of training, and never changed on disk."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import pytest

from tests.data.damage import DAMAGES, damaged_set, state
from tests.data.sets import hyp
from ultralytics.data import YOLODataset, build_dataloader
from ultralytics.data.build import batches_of
from ultralytics.data.doctor.run import Report, doctor
from ultralytics.data.utils import check_det_dataset
from ultralytics.utils.errors import DatasetError


@pytest.fixture(scope="module")
def examined(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, dict[str, Path], bool]:
    root = tmp_path_factory.mktemp("damaged")
    places = damaged_set(root / "set")
    before = state(root / "set")
    report = doctor(root / "set" / "data.yaml", imgsz=640, save_dir=root / "report")
    return report, places, state(root / "set") == before


def test_there_are_enough_kinds() -> None:
    assert len(DAMAGES) >= 30 and len({d.name for d in DAMAGES}) == len(DAMAGES)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda d: d.name)
def test_the_doctor_names_each(examined: tuple[Report, dict[str, Path], bool], damage: Any) -> None:
    report, _, _ = examined
    found = [f for f in report.findings if f.code == damage.code and f.split == damage.split]
    assert found, f"{damage.code} not among {sorted(report.codes)}"
    assert any(f"{damage.name}." in place for f in found for place in f.examples), found


def test_good_images_are_in_no_error(examined: tuple[Report, dict[str, Path], bool]) -> None:
    report, _, unchanged = examined
    assert unchanged and not report.safe
    firsts = [place.split(":")[0] for f in report.findings for place in f.examples]
    assert not [p for p in firsts if Path(p).name.startswith("good")]


def dataset(root: Path, strict: bool = True, save_dir: Path | None = None) -> YOLODataset:
    data = check_det_dataset(root / "data.yaml")
    rates = hyp(mosaic=0.5, fliplr=0.5, scale=0.2)
    return YOLODataset(data["train"], imgsz=64, hyp=rates, data=data, strict=strict, save_dir=save_dir)


@pytest.mark.parametrize("fatal", [False, True])
def test_training_continues_with_the_rest(tmp_path: Path, fatal: bool) -> None:
    root = tmp_path / "set"
    damaged_set(root, fatal)
    before = state(root)
    data = dataset(root, strict=not fatal, save_dir=tmp_path / "run")
    listed = (tmp_path / "run" / "data_report.txt").read_text(encoding="utf-8")
    used = {Path(f).stem for f in data.im_files}
    for damage in (d for d in DAMAGES if d.split == "train" and (fatal or d.fate != "stops")):
        assert (damage.name in used) == (damage.fate != "gone"), damage.name
        if damage.fate == "gone" and damage.name != "no_image":
            assert damage.name in listed, damage.name
    batches = list(build_dataloader(data, 4, 0))
    assert sum(len(b["im_file"]) for b in batches) == len(data)
    assert all(b["bboxes"].isfinite().all() and (b["cls"] < 2).all() for b in batches)
    after = {k: v for k, v in state(root).items() if not k.endswith(".cache")}
    changed = [k for k in after if after[k] != before.get(k) and not Path(k).is_dir()]
    assert not changed and before.keys() <= after.keys()


@pytest.mark.parametrize("damage", [d for d in DAMAGES if d.fate == "stops"], ids=lambda d: d.name)
def test_some_stop_a_strict_run(tmp_path: Path, damage: Any) -> None:
    places = damaged_set(tmp_path, fatal=False)
    image = places["good0"].with_suffix(".png")
    damage.make(image, tmp_path / "labels" / "train" / "good0.txt")
    with pytest.raises(DatasetError, match=r"good0.txt:3: "):
        dataset(tmp_path)


def test_a_body_that_its_checksum_hides(tmp_path: Path) -> None:
    """The scan trusts the checksums of a PNG; the doctor decodes, and a run names the file, also from a worker."""
    damaged_set(tmp_path, fatal=False)
    image = tmp_path / "images" / "train" / "good0.png"
    damaged = bytes([9] * (96 * 3 + 1)) * 96  # 9 is not a filter of PNG's
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", 96, 96, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(damaged)),
        (b"IEND", b""),
    )
    chunks = (struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in parts)
    image.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    report = doctor(tmp_path / "data.yaml", imgsz=640, save_dir=tmp_path / "report")
    (found,) = [f for f in report.findings if f.code == "decode"]
    assert found.severity == "error" and found.examples == (str(image),)
    for workers in (0, 2):
        loader = build_dataloader(dataset(tmp_path), 4, workers)
        with pytest.raises(DatasetError, match=r"good0\.png: image cannot be decoded") as e:
            list(batches_of(loader))
        assert len(str(e.value).splitlines()) <= 2
