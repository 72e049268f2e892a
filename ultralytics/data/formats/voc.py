"""Pascal VOC's XML: one file for each image, objects by class name with corners in pixels.

The files are read by a bare expat parser that takes no document type and no entities, so a file cannot make it open
others or grow. Corners are the edges of the box, counted from 0, as today's labelling tools write them; the original
VOC sets count pixels from 1: give `voc_origin: 1` in the data YAML for these.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import escape

from ultralytics.data.formats.base import LabelReader, Split
from ultralytics.data.formats.coco import ClassNames, noted_size, same_names
from ultralytics.data.images import is_transient
from ultralytics.data.labels.parse import (
    Issue,
    LabelRows,
    RowCollector,
    RowError,
    VerifiedImage,
    checked_box,
    verify_rows,
)

MAX_XML_BYTES = 16 << 20
MAX_XML_DEPTH = 32
NAMING = 2  # number of the rules by which classes are found; others make a cached scan invalid
CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass
class VocObject:
    """One `<object>`: the line where it starts, and the texts of its fields."""

    line: int
    fields: dict[str, str] = field(default_factory=dict)


@dataclass
class VocFile:
    """What is read of a file: the noted (w, h), zeros when missing, and its objects."""

    size: tuple[float, float] = (0.0, 0.0)
    objects: list[VocObject] = field(default_factory=list)


class VocReader(LabelReader):
    """Labels from XML files, found by the image's path: see `voc_paths`."""

    format = "voc"

    def __init__(self, split: Split) -> None:
        super().__init__(split)
        self._label_of = {f: find_xml(f) for f in split.im_files}
        self.label_files = list(self._label_of.values())
        self._classes = ClassNames(split.names)
        self._origin = 1.0 if split.options.get("voc_origin") == 1 else 0.0

    def options(self) -> Mapping[str, Any]:
        """Return the origin of the coordinates, and the number of the rules by which classes are found."""
        return {"voc_origin": self._origin, "naming": NAMING}

    def leftover(self) -> list[Issue]:
        """Return what is wrong with the names of the classes."""
        if self.split.single_cls:
            return []
        first = {name: classes[0] for name, classes in self._classes.exact.items()}
        return same_names(str(self.split.options.get("yaml_file", "names")), self.split.names, first)

    def verify(self, im_file: str) -> VerifiedImage:
        """Check one image and its XML file."""
        file = self._label_of[im_file]
        return verify_rows(im_file, file, lambda shape: self._rows(file, shape))

    def _rows(self, file: str, shape: tuple[int, int]) -> LabelRows | None:
        try:
            content = read_voc(file)
        except RowError as error:
            if error.kind == "missing":
                return None
            raise
        size = noted_size(content.size, shape)
        rows = RowCollector(file)
        for item in content.objects:
            try:
                rows.add(item.line, self._class(item), self._box(item, size), None)
            except RowError as error:
                rows.issue(item.line, error.kind, str(error), error.fatal)
        return rows.rows()

    def _class(self, item: VocObject) -> int:
        if item.fields.get("difficult") == "1":
            raise RowError("crowd", f"a '{item.fields.get('name')}' marked as difficult is left out")
        name = item.fields.get("name", "")
        class_id = 0 if self.split.single_cls else self._classes.find(name)
        if class_id < 0:
            known = ", ".join(list(map(str, self.split.names.values()))[:8])
            raise RowError("class", f"class '{name}' is not among the data YAML's names ({known})", fatal=True)
        return class_id

    def _box(self, item: VocObject, size: tuple[float, float]) -> list[float]:
        texts = [item.fields.get(key) for key in CORNERS]
        if None in texts:
            raise RowError("columns", f"bndbox needs {', '.join(CORNERS)}", fatal=True)
        try:
            x1, y1, x2, y2 = (float(text or "") for text in texts)
        except ValueError:
            raise RowError("number", f"bndbox {texts} holds something that is not a number") from None
        if not all(map(math.isfinite, (x1, y1, x2, y2))):
            raise RowError("number", "a value of bndbox is not finite")
        x1, y1 = x1 - self._origin, y1 - self._origin  # pixels a..b cover the edges a - 1..b
        w, h = size
        return checked_box([(x1 + x2) / 2 / w, (y1 + y2) / 2 / h, (x2 - x1) / w, (y2 - y1) / h])


def voc_paths(im_file: str) -> list[str]:
    """Return where an image's XML file may lie, best first.

    >>> [p.replace(os.sep, "/") for p in voc_paths("a/JPEGImages/b/1.jpg")]
    ['a/Annotations/b/1.xml', 'a/JPEGImages/b/1.xml']
    """
    stem = os.path.splitext(im_file)[0].replace("/", os.sep)
    paths = []
    for here, there in (
        ("JPEGImages", "Annotations"),
        ("images", "annotations"),
        ("images", "Annotations"),
        ("images", "labels"),
    ):
        head, mark, tail = (os.sep + stem).rpartition(f"{os.sep}{here}{os.sep}")
        if mark:
            paths.append(f"{head}{os.sep}{there}{os.sep}{tail}"[len(os.sep) :] + ".xml")
    return [*paths, f"{stem}.xml"]


def find_xml(im_file: str) -> str:
    """Return an image's XML file: the first that exists, else where it should lie."""
    paths = voc_paths(im_file)
    return next((p for p in paths if os.path.exists(p)), paths[0])


# ---- the XML ----------------------------------------------------------------------------------------------------


class _Handler:
    """Follows a document's elements and keeps the few that count."""

    def __init__(self, parser: Any) -> None:
        self.parser, self.path, self.parts, self.found = parser, [], [], VocFile()  # type: ignore[var-annotated]
        parser.buffer_text = True
        self.size: dict[str, str] = {}
        parser.StartElementHandler, parser.EndElementHandler = self.start, self.end
        parser.CharacterDataHandler = self.characters
        parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = self.refuse

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        self.path.append(name)
        if len(self.path) > MAX_XML_DEPTH:
            raise RowError("syntax", f"elements are nested more than {MAX_XML_DEPTH} deep")
        if self.path[1:] == ["object"]:
            self.found.objects.append(VocObject(self.parser.CurrentLineNumber))
        self.parts = []

    def characters(self, text: str) -> None:
        self.parts.append(text)

    def end(self, name: str) -> None:
        inner, text = self.path[1:], "".join(self.parts).strip()
        if inner[:1] == ["size"] and len(inner) == 2:
            self.size[name] = text
        elif inner[:1] == ["object"] and (len(inner) == 2 or (len(inner) == 3 and inner[1] == "bndbox")):
            self.found.objects[-1].fields.setdefault(name, text)
        self.path.pop()
        self.parts = []

    def refuse(self, *args: object) -> None:
        raise RowError("syntax", "document types and entities are refused")


def _as_utf8(content: bytes) -> bytes:
    """Return a document in UTF-8, from the encoding that its first line names (GB2312, Big5, UTF-16 and others)."""
    if content[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return content.decode("utf-16", "replace").encode()
    named = re.match(rb"""\s*<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""", content[:300])
    encoding = named[1].decode() if named else "utf-8"
    try:
        return content.decode(encoding).encode() if named else content
    except (LookupError, UnicodeError):
        raise RowError("syntax", f"its encoding {encoding!r} is unknown or wrong: save it as UTF-8") from None


def read_voc(file: str | Path) -> VocFile:
    """Read an annotation file.

    Raises:
        RowError: of kind `missing`, `unreadable` or `syntax`; such a file says nothing about its image.
    """
    try:
        if os.path.getsize(file) > MAX_XML_BYTES:
            raise RowError("syntax", f"more than {MAX_XML_BYTES >> 20} MiB of XML")
        content = Path(file).read_bytes()
    except OSError as error:
        kind = "missing" if isinstance(error, FileNotFoundError) else "unreadable"
        raise RowError(kind, f"label file cannot be read: {error}", transient=is_transient(error)) from None
    parser = expat.ParserCreate("utf-8")
    handler = _Handler(parser)
    try:
        parser.Parse(_as_utf8(content), True)
    except (expat.ExpatError, ValueError) as error:
        raise RowError("syntax", f"not well-formed XML: {error}") from None
    numbers = [_size(handler.size.get(key, "")) for key in ("width", "height")]
    handler.found.size = (numbers[0], numbers[1])
    return handler.found


def _size(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if math.isfinite(value) else 0.0


def voc_text(name: str, shape: tuple[int, int, int], rows: Sequence[tuple[str, Sequence[float]]]) -> str:
    """Return the XML of an image `name` of shape (h, w, channels) with (class name, corners in pixels) rows."""
    h, w, channels = shape
    lines = ["<annotation>", f"  <filename>{escape(name)}</filename>"]
    lines.append(f"  <size><width>{w}</width><height>{h}</height><depth>{channels}</depth></size>")
    for label, corners in rows:
        box = "".join(f"<{key}>{_short(v)}</{key}>" for key, v in zip(CORNERS, corners, strict=True))
        lines.append(
            f"  <object><name>{escape(label)}</name><pose>Unspecified</pose><truncated>0</truncated>"
            f"<difficult>0</difficult><bndbox>{box}</bndbox></object>"
        )
    return "\n".join([*lines, "</annotation>", ""])


def _short(value: float) -> str:
    """Return a number with five decimals at most, whole ones without a point."""
    return f"{round(value, 5):.5f}".rstrip("0").rstrip(".")
