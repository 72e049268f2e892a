"""VOC files: what real ones hold, damaged ones, and ones that mean harm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.sets import write_set
from ultralytics.data.formats import Split, VocReader
from ultralytics.data.formats.voc import MAX_XML_DEPTH, read_voc, voc_paths, voc_text
from ultralytics.data.labels.parse import RowError
from ultralytics.data.utils import list_images

BOX = "<bndbox><xmin>16</xmin><ymin>12</ymin><xmax>48</xmax><ymax>36</ymax></bndbox>"
GOOD = f"<object><name>b</name>{BOX}</object>"
SIZE = "<size><width>64</width><height>48</height><depth>3</depth></size>"


def scan(root: Path, body: str | None, **options: Any) -> Any:
    write_set(root, {"x": None})
    if body is not None:
        (root / "annotations/train").mkdir(parents=True, exist_ok=True)
        (root / "annotations/train/x.xml").write_text(f"<annotation>\n{body}\n</annotation>", encoding="utf-8")
    folder = str(root / "images" / "train")
    return VocReader(Split(folder, list_images(folder), {0: "a", 1: "B", 2: "c"}, options=options)).scan()


def test_empty_and_missing_files_are_backgrounds(tmp_path: Path) -> None:
    got = scan(tmp_path, None)
    assert got.counts["missing"] == 1 and len(got.labels[0]["cls"]) == 0
    got = scan(tmp_path, SIZE)
    assert got.counts["empty"] == 1 and not got.issues


def test_boxes_by_either_origin(tmp_path: Path) -> None:
    parts = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    got = scan(tmp_path, f"{SIZE}<object><name>b</name>{parts}{BOX}</object>")
    assert got.labels[0]["cls"].tolist() == [[1.0]] and not got.issues
    np.testing.assert_allclose(got.labels[0]["bboxes"], [[0.5, 0.5, 0.5, 0.5]], atol=1e-7)
    got = scan(
        tmp_path,
        SIZE + GOOD.replace("16", "1").replace("12", "1").replace("48", "64").replace("36", "48"),
        voc_origin=1,
    )
    np.testing.assert_allclose(got.labels[0]["bboxes"], [[0.5, 0.5, 1, 1]], atol=1e-7)


@pytest.mark.parametrize(
    ("item", "kind", "fatal"),
    [
        (f"<object><name>b</name><difficult>1</difficult>{BOX}</object>", "crowd", False),
        (f"<object><name>dog</name>{BOX}</object>", "class", True),
        (f"<object>{BOX}</object>", "class", True),
        ("<object><name>b</name></object>", "columns", True),
        (GOOD.replace("<ymax>36</ymax>", ""), "columns", True),
        (GOOD.replace("36", "x"), "number", False),
        (GOOD.replace("36", "nan"), "number", False),
        (GOOD.replace("36", "2"), "negative", True),
        (GOOD.replace("36", "12"), "area", False),
        (GOOD.replace("36", "99"), "outside", False),
        (GOOD, "duplicate", False),
    ],
)
def test_bad_objects_are_named_by_line_and_their_neighbours_stay(
    tmp_path: Path, item: str, kind: str, fatal: bool
) -> None:
    got = scan(tmp_path, f"{SIZE}\n{GOOD}\n{item}\n{GOOD.replace('16', '2')}")
    assert [(i.kind, i.fatal, i.line) for i in got.issues] == [(kind, fatal, 4)] and "x.xml:4: " in str(got.issues[0])
    assert [len(d["cls"]) for d in got.labels] == [2]


@pytest.mark.parametrize(
    ("text", "kind", "reason"),
    [
        ("", "syntax", "not well-formed"),
        ("<annotation><object>", "syntax", "not well-formed"),
        ("<a>" * (MAX_XML_DEPTH + 1), "syntax", "deep"),
        ('<!DOCTYPE a [<!ENTITY b "bb">]><a>&b;</a>', "syntax", "refused"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "syntax", "refused"),
        ("<a>&undefined;</a>", "syntax", "not well-formed"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, text: str, kind: str, reason: str) -> None:
    file = tmp_path / "a.xml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(RowError, match=reason) as caught:
        read_voc(file)
    assert caught.value.kind == kind
    with pytest.raises(RowError, match="cannot be read"):
        read_voc(tmp_path / "none.xml")


def test_a_damaged_file_takes_its_image_out(tmp_path: Path) -> None:
    got = scan(tmp_path, "<object>")
    assert [i.kind for i in got.issues] == ["syntax"] and not got.labels
    got = scan(tmp_path, "<size><width>48</width><height>64</height></size>" + GOOD)
    assert [i.kind for i in got.issues] == ["size"] and not got.labels


def test_other_encodings_and_missing_sizes(tmp_path: Path) -> None:
    file = tmp_path / "a.xml"
    file.write_bytes(
        f'<?xml version="1.0" encoding="ISO-8859-1"?><a><object><name>Zelle ü</name>{BOX}</object></a>'.encode(
            "latin-1"
        )
    )
    content = read_voc(file)
    assert content.size == (0, 0) and content.objects[0].fields["name"] == "Zelle ü"


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = tmp_path / "a.xml"
    file.write_text(voc_text("<&>.png", (48, 64, 3), [("<&> ü", (0.1234567, 2, 30.5, 40))]), encoding="utf-8")
    content = read_voc(file)
    assert content.size == (64, 48) and content.objects[0].fields["name"] == "<&> ü"
    assert [content.objects[0].fields[k] for k in ("xmin", "ymin", "xmax", "ymax")] == ["0.12346", "2", "30.5", "40"]
    file.write_text(voc_text("a", (8, 9, 3), []), encoding="utf-8")
    assert read_voc(file).objects == []


def test_where_files_are_looked_for() -> None:
    assert voc_paths("a.jpg") == ["a.xml"]
    assert len(voc_paths("/d/images/images/a.jpg")) == 4


@pytest.mark.parametrize(
    ("names", "classes", "kinds"),
    [
        (("cat", "Cat", "b"), [0, 1], []),
        (("cat", "dog", "b"), [0, 0], []),
        (("CAT", "cAt", "b"), None, ["class", "class", "labels"]),
        (("cat", "b", "cat"), [0, 0], ["merged"]),
    ],
)
def test_the_exact_name_wins_and_ambiguous_ones_are_reported(
    tmp_path: Path, names: tuple[str, ...], classes: list[int] | None, kinds: list[str]
) -> None:
    write_set(tmp_path, {"x": None})
    (tmp_path / "annotations/train").mkdir(parents=True)
    objects = "".join(GOOD.replace("<name>b", f"<name>{n}").replace("12", f"{i}") for i, n in enumerate(("cat", "Cat")))
    (tmp_path / "annotations/train/x.xml").write_text(f"<annotation>{SIZE}{objects}</annotation>", encoding="utf-8")
    folder = str(tmp_path / "images/train")
    got = VocReader(Split(folder, list_images(folder), dict(enumerate(names)))).scan()
    assert [d["cls"].ravel().tolist() for d in got.labels] == ([] if classes is None else [classes])
    assert [i.kind for i in got.issues] == kinds


@pytest.mark.parametrize("encoding", ["GB2312", "GB18030", "Big5", "Shift-JIS", "UTF-16", "ISO-8859-15"])
def test_the_declared_encoding_is_read(tmp_path: Path, encoding: str) -> None:
    name = "x" if encoding.startswith("ISO") else "\u4eba"
    text = f'<?xml version="1.0" encoding="{encoding}"?><annotation><object><name>{name}</name></object></annotation>'
    file = tmp_path / "a.xml"
    file.write_bytes(text.encode(encoding))
    assert read_voc(file).objects[0].fields["name"] == name


@pytest.mark.parametrize("encoding", ["no-such", "utf-8"])
def test_an_unknown_or_wrong_encoding_is_a_finding(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "a.xml"
    file.write_bytes(f'<?xml version="1.0" encoding="{encoding}"?><a>'.encode() + b"\xff\xc0</a>")
    with pytest.raises(RowError, match="encoding"):
        read_voc(file)
