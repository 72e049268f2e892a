"""Data YAML files: paths, classes, missing data, and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from pathlib import Path

import pytest

from tests.data.sets import make_set
from ultralytics.data import utils
from ultralytics.data.utils import (
    check_det_dataset,
    find_data_yaml,
    img2label_paths,
    list_images,
    pick_fraction,
)
from ultralytics.utils.errors import ConfigError, DatasetError, NotFoundError, UserError

NAMES = "names: [a, b, c]\n"
SPLITS = "train: images/train\nval: images/val\n"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with both splits; settings point below it, and the working directory is elsewhere."""
    monkeypatch.setattr(utils, "SETTINGS", {"datasets_dir": str(tmp_path / "shared")})
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    make_set(tmp_path / "set", 2)
    make_set(tmp_path / "set", 2, "val")
    return tmp_path


def yaml(root: Path, text: str, name: str = "set/data.yaml") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "path, want",
    [
        ("a/images/train/x.jpg", "a/labels/train/x.txt"),
        ("images/x.jpg", "labels/x.txt"),
        ("/images/images/x.tar.png", "/images/labels/x.tar.txt"),
        ("flat/x.jpg", "flat/x.txt"),
        ("my_images/x.jpg", "my_images/x.txt"),
        ("a/images/b/images/c/x.jpg", "a/images/b/labels/c/x.txt"),
        ("images/v1.2/x", "labels/v1.2/x.txt"),
        ("images/.jpg", "labels/.jpg.txt"),
        ("images/..jpg", "labels/..jpg.txt"),
        ("images/x..jpg", "labels/x..txt"),
        ("images/x.a b", "labels/x.txt"),
    ],
)
def test_label_paths(path: str, want: str) -> None:
    assert img2label_paths([path.replace("/", os.sep)]) == [want.replace("/", os.sep)]
    assert img2label_paths([]) == []


def test_label_files_of_several_folders() -> None:
    paths = [
        "a/images/x/1.jpg",
        "b/2.jpg",
        "a/images/x/3.v.PNG",
        "4.jpg",
        "/5.jpg",
        "images/6.jpg",
        "a/images/y/1.jpg",
    ]
    want = ["a/labels/x/1.txt", "b/2.txt", "a/labels/x/3.v.txt", "4.txt", "/5.txt", "labels/6.txt", "a/labels/y/1.txt"]
    assert img2label_paths([p.replace("/", os.sep) for p in paths]) == [w.replace("/", os.sep) for w in want]


@pytest.mark.parametrize(
    "names, want",
    [
        ("names: [a, 7, true]", {0: "a", 1: "7", 2: "True"}),
        ("names: {0: a, 1: a}", {0: "a", 1: "a"}),
        ("names: {1: b, 0: a}", {0: "a", 1: "b"}),
        ("names: {0: 0, 1: 1}", {0: "0", 1: "1"}),
        ("nc: 2", {0: "class_0", 1: "class_1"}),
        ("nc: 2.0", {0: "class_0", 1: "class_1"}),
        ("nc: '1'\nnames: [x]", {0: "x"}),
    ],
)
def test_class_names(root: Path, names: str, want: dict[int, str]) -> None:
    data = check_det_dataset(yaml(root, SPLITS + names))
    assert data["names"] == want and data["nc"] == len(want)


def test_what_comes_back(root: Path) -> None:
    data = check_det_dataset(yaml(root, SPLITS + NAMES + "author: me\n"))
    assert data["path"] == root / "set" and data["author"] == "me" and data["channels"] == 3
    assert data["train"] == str(root / "set/images/train") and data["yaml_file"] == str(root / "set/data.yaml")


@pytest.mark.parametrize(
    "text, folder",
    [
        ("path: ../set\n", "."),
        ("path: {root}/set\n", "."),
        ("", "set"),
    ],
)
def test_root_folder(root: Path, text: str, folder: str) -> None:
    name = "set/d.yaml" if folder == "set" else "yamls/d.yaml"
    data = check_det_dataset(yaml(root, text.format(root=root) + SPLITS + NAMES, name))
    assert Path(data["val"]).samefile(root / "set/images/val")


def test_the_yaml_folder_wins_over_the_shared_one(root: Path) -> None:
    file = yaml(root, "path: demo\n" + SPLITS + NAMES, "d.yaml")
    make_set(root / "shared/demo", 1, "val")
    assert check_det_dataset(file)["path"] == root / "shared/demo"
    make_set(root / "demo", 1, "val")
    assert check_det_dataset(file)["path"] == root / "demo"


def test_lists_of_folders_and_roboflow_paths(root: Path) -> None:
    text = "train: [images/train, images/val]\nvalidation: ../images/val\n"
    data = check_det_dataset(yaml(root, text + NAMES))
    assert [Path(p).name for p in data["train"]] == ["train", "val"] and len(list_images(data["train"])) == 4
    assert data["val"] == str(root / "set/images/val")


@pytest.mark.parametrize(
    "text, error, message",
    [
        ("train: images/train\n" + NAMES, DatasetError, "'val:' is missing"),
        (SPLITS, DatasetError, "no classes"),
        (SPLITS + "names: []", DatasetError, "no classes"),
        (SPLITS + "names: {0: a, 2: b}", DatasetError, ":3: names: ids must run from 0 to 1"),
        (SPLITS + "names: {x: a}", DatasetError, "integers"),
        (SPLITS + NAMES + "nc: 5\n", DatasetError, ":4: nc: 5 but 3 names"),
        (SPLITS + NAMES + "nc: many\n", DatasetError, "not an integer"),
        (SPLITS + "nc: 2.5\n", DatasetError, ":3: nc: 2.5 is not an integer"),
        (SPLITS + "nc: true\n", DatasetError, ":3: nc: True is not an integer"),
        (SPLITS + "nc: '2.5'\n", DatasetError, "not an integer"),
        (SPLITS + "nc: .inf\n", DatasetError, "not an integer"),
        (SPLITS + "names: a", DatasetError, "names: must be list or dict, not str"),
        ("train: 5\nval: images/val\n" + NAMES, DatasetError, ":1: train: must be str or list"),
        (SPLITS + NAMES + "path: [a]\n", DatasetError, "path: must be str"),
        ("train: images/train\nval: ' '\n" + NAMES, DatasetError, ":2: the key 'val:' is missing"),
        ("train: images/train\nval: ['']\n" + NAMES, DatasetError, ":2: val: '' is not a folder"),
        ("train: images/train\nval: [images/val, 3]\n" + NAMES, DatasetError, ":2: val: 3 is not a folder"),
        ("train: [images/train, null]\nval: images/val\n" + NAMES, DatasetError, ":1: train: None is not"),
        ("train: images/train\nval: nowhere\n" + NAMES, NotFoundError, ":2: val:"),
        (SPLITS + "names: [a", ConfigError, "data.yaml:"),
        (SPLITS + "names: {true: a, 0.5: b}", DatasetError, "integers"),
        (SPLITS + "nc: 100000000\n", DatasetError, "at most 1,000,000"),
        (SPLITS + NAMES + "channels: 0\n", DatasetError, ":4: channels: 0; images have 1 to 1024"),
        (SPLITS + NAMES + "channels: 99999999999\n", DatasetError, "images have 1 to 1024"),
        (SPLITS + NAMES + 'names2: !!float ""\n', ConfigError, "data.yaml"),
    ],
)
def test_errors_name_file_line_and_remedy(root: Path, text: str, error: type[UserError], message: str) -> None:
    with pytest.raises(error) as caught:
        check_det_dataset(yaml(root, text))
    assert message in str(caught.value) and "data.yaml" in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 3


@pytest.mark.parametrize("path", ["~nobody-here/x", "a" * 300, "a\0b"], ids=["user", "long", "null"])
def test_paths_that_no_system_has(root: Path, path: str) -> None:
    quoted = json.dumps(path)
    for text in (f"path: {quoted}\n{SPLITS}", f"train: images/train\nval: {quoted}\n"):
        with pytest.raises(UserError) as caught:
            check_det_dataset(yaml(root, text + NAMES))
        assert len(str(caught.value)) < 600


def test_a_split_that_is_asked_for_must_exist(root: Path) -> None:
    file = yaml(root, SPLITS + NAMES)
    assert check_det_dataset(file, split="train")["train"]
    with pytest.raises(NotFoundError, match=r"no split 'test'.*train, val"):
        check_det_dataset(file, split="test")


def test_finding_the_yaml(root: Path) -> None:
    file = yaml(root, SPLITS + NAMES)
    assert find_data_yaml(root / "set") == file
    yaml(root, "", "set/other.yaml")
    with pytest.raises(ConfigError, match="several"):
        find_data_yaml(root / "set")
    named = yaml(root, "", "set/set.yml")
    named.rename(named.with_suffix(".yaml"))
    assert find_data_yaml(root / "set").name == "set.yaml"
    assert find_data_yaml("coco").name == "coco.yaml"
    for missing in (root / "cwd", root / "none.yaml", "bcd.yaml"):
        with pytest.raises(NotFoundError):
            find_data_yaml(missing)
    with pytest.raises(ConfigError):
        find_data_yaml("set.zip")


# ---- download ----


@pytest.mark.parametrize(
    "how, message",
    [
        ("import os; os.system('touch {root}/ran')", "neither a generator name"),
        ("bash touch {root}/ran", "never run"),
        ("demoo", "did you mean 'demo'"),
        ("[a, b]", "never run"),
        ("{{url: 'https://example.org/a.zip'}}", "no sha256"),
        ("{{url: 'https://example.org/a.zip', sha256: null}}", "by hand"),
    ],
)
def test_nothing_is_run_or_fetched_without_a_hash(root: Path, how: str, message: str) -> None:
    text = f"path: new\n{SPLITS}{NAMES}download: {how.format(root=root)!r}\n" if "{{" not in how else ""
    text = text or f"path: new\n{SPLITS}{NAMES}download: {how.format(root=root)}\n"
    with pytest.raises(DatasetError) as caught:
        check_det_dataset(yaml(root, text))
    assert message in str(caught.value) and ":5:" in str(caught.value) and len(str(caught.value).splitlines()) <= 3
    assert not (root / "ran").exists() and not (root / "set/new").exists()


def test_a_generator_is_called_only_when_data_are_missing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def generate(folder: Path) -> Path:
        calls.append(folder)
        make_set(folder, 1)
        make_set(folder, 1, "val")
        return folder

    monkeypatch.setattr(utils, "GENERATORS", {"demo": generate})
    file = yaml(root, f"path: new\n{SPLITS}{NAMES}download: demo\n")
    with pytest.raises(NotFoundError):
        check_det_dataset(file, autodownload=False)
    for _ in range(2):
        assert check_det_dataset(file)["path"] == root / "set/new"
    assert calls == [root / "set/new"]


def test_an_archive_is_fetched_with_its_hash(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_set(root / "packed/new", 1, "val")
    archive = root / "new.zip"
    with zipfile.ZipFile(archive, "w") as z:
        for file in (root / "packed").rglob("*.*"):
            z.write(file, file.relative_to(root / "packed"))
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    calls = []

    def fake(url: str, dst: Path, sha256: str, unzip: bool) -> None:
        calls.append((url, sha256, unzip))
        with zipfile.ZipFile(archive) as z:
            z.extractall(dst)

    monkeypatch.setattr(utils, "download", fake)
    text = f"path: new\n{SPLITS}{NAMES}download:\n  url: https://example.org/new.zip\n  sha256: {digest}\n"
    data = check_det_dataset(yaml(root, text))
    assert calls == [("https://example.org/new.zip", digest, True)] and len(list_images(data["val"])) == 1


def test_shipped_entries_live_below_the_shared_folder(root: Path) -> None:
    for name in ("coco", "bccd"):
        with pytest.raises(DatasetError, match="no sha256"):
            check_det_dataset(name)
    data = check_det_dataset("demo")
    assert data["path"] == root / "shared/demo" and len(list_images(data["train"])) == 24


# ---- lists ----


def test_lists_of_images(root: Path) -> None:
    folder = root / "set/images"
    (folder / "train/notes.md").write_text("x")
    (folder / "train/deep").mkdir()
    (folder / "val/im0.png").rename(folder / "train/deep/UPPER.PNG")
    assert [Path(p).name for p in list_images(str(folder / "train"))] == ["UPPER.PNG", "im0.png", "im1.png"]
    assert len(list_images(str(folder / "**/*.png"))) == 3
    assert list_images(str(folder / "val/im1.png")) == [str(folder / "val/im1.png")]
    text = root / "set/list.txt"
    text.write_text(f"\ufeff./images/train/im0.png\n\nimages/train/im1.png\n{folder}/val/im1.png\n", encoding="utf-8")
    assert [Path(p).is_file() for p in list_images(str(text))] == [True] * 3
    assert len(list_images([str(text), str(folder / "train/deep")])) == 4
    with pytest.raises(NotFoundError):
        list_images(str(root / "none"))


def test_fractions_are_seeded_and_keep_order() -> None:
    files = [f"{i:03d}" for i in range(100)]
    for fraction, n in ((1.0, 100), (0.25, 25), (7, 7), (0.001, 1), (1000, 100)):
        picked = pick_fraction(files, fraction, seed=3)
        assert len(picked) == n and picked == sorted(picked) and picked == pick_fraction(files, fraction, seed=3)
    assert pick_fraction(files, 0.25, 3) not in (files[:25], pick_fraction(files, 0.25, 4))


@pytest.mark.parametrize("blank", ["test:", "test: ''", "test: ' '", "test: []", "test: null"])
def test_a_split_left_blank_is_absent(root: Path, blank: str) -> None:
    file = yaml(root, SPLITS + NAMES + blank + "\n")
    with pytest.raises(NotFoundError, match=r"there is no split 'test' \(the file has train, val\)"):
        check_det_dataset(file, split="test")


def test_a_full_width_comma_between_names_is_reported(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_det_dataset(yaml(root, SPLITS + "names: [a\uff0c b]\n"))["nc"] == 1
    assert "is one class; between two names write a plain comma" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("names: [a, [b, c]]", "class 1 is .* not a string or a number"),
        ("names: {0: a, 1: {b: 2}}", "class 1 is .* not a string or a number"),
        ('names: [a, "b\\e[31m"]', "characters that cannot be shown"),
        ("nc: 100000000", "at most 1,000,000"),
    ],
)
def test_names_that_are_not_names(root: Path, names: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        check_det_dataset(yaml(root, SPLITS + names + "\n"))
