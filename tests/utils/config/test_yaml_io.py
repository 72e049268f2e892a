from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ultralytics.utils.config.yaml_io import YAML, load_with_lines, plain
from ultralytics.utils.errors import ConfigError, NotFoundError


def write(folder: Path, text: str | bytes) -> Path:
    file = folder / "a.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("", {}),
        ("# nothing\n", {}),
        ("a: 1e-4", {"a": 1e-4}),
        ("a: -1E3", {"a": -1000.0}),
        ("a: [1., .5, -2, 0x1F, 0o17, 010]", {"a": [1.0, 0.5, -2, 31, 15, 10]}),
        ("a: [.inf, -.inf]", {"a": [float("inf"), float("-inf")]}),
        ("a: [true, False, yes, no, on, off, y]", {"a": [True, False, "yes", "no", "on", "off", "y"]}),
        ("a: [null, ~, Null]", {"a": [None, None, None]}),
        ("a:", {"a": None}),
        ("a: 2024-01-01", {"a": "2024-01-01"}),
        ("a: 12:30:45", {"a": "12:30:45"}),
        ("0: cat\n1: no", {0: "cat", 1: "no"}),
        ("b: &b {x: 1, y: 2}\nc: {<<: *b, y: 3}", {"b": {"x": 1, "y": 2}, "c": {"x": 1, "y": 3}}),
        ("a: '1e-4'", {"a": "1e-4"}),
        ("\ufeffa: 图像", {"a": "图像"}),
    ],
)
def test_load(text: str, want: dict[Any, Any], tmp_path: Path) -> None:
    assert YAML.load(write(tmp_path, text)) == want


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("a: 1\nb: [1, 2\nc: 3\n", 2, "not valid"),
        ("a: 1\na: 2\n", 2, "twice"),
        ("x:\n  a: 1\n  b: 2\n  a: 3\n", 4, "twice"),
        ("a: !!python/object/apply:os.system ['true']\n", 1, "python/object"),
        ("a: 1\n\tb: 2\n", 2, "not valid"),
        ("a: 1\nnc\uff1a 2\nb: 3\n", 2, "line 2 has a full-width colon"),
        ("- 1\n- 2\n", 1, "list"),
        ("just text", 1, "str"),
        (b"a: caf\xe9", None, "UTF-8"),
    ],
)
def test_errors_name_file_and_line(text: str | bytes, line: int | None, word: str, tmp_path: Path) -> None:
    file = write(tmp_path, text)
    with pytest.raises(ConfigError) as e:
        YAML.load(file)
    assert str(e.value).startswith(f"{file}:{line}:" if line else f"{file}:")
    assert word in str(e.value) and len(str(e.value).splitlines()) <= 3


def test_missing_files(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(NotFoundError, match=str(tmp_path)):
            YAML.load(path)


def test_lines_of_keys_and_items() -> None:
    rows = "backbone:\n  # note\n  - [-1, 1, Conv, [64]]\n  - [-1, 1, Conv,\n     [128]]\n"
    text = f"nc: 3\n\n{rows}names:\n  0: a\n  1: b\n"
    data, lines = load_with_lines(text)
    assert data["names"] == {0: "a", 1: "b"}
    assert [lines[k] for k in (("nc",), ("backbone",), ("backbone", 0), ("backbone", 1), ("backbone", 1, 3))] == [
        1,
        3,
        5,
        6,
        7,
    ]
    assert lines[("names", 1)] == 10


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"a": None, "b": True, "c": 1, "d": 1e-5, "e": "text"},
        {"words": ["yes", "no", "1e-4", "12", "true", "null", "", " x", "a: b", "# c"]},
        {0: "a", "nested": {"list": [[1, 2], {"x": []}]}},
        {"unicode": "图像 ö"},
        {"numbers": [1e-300, 1e300, 0.1, -0.0, float("inf")]},
    ],
)
def test_what_is_saved_reads_back(data: dict[Any, Any], tmp_path: Path) -> None:
    YAML.save(tmp_path / "deep" / "b.yaml", data)
    assert YAML.load(tmp_path / "deep" / "b.yaml") == data
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["b.yaml"]


def test_plain_values() -> None:
    data = {"p": Path("a/b"), "t": (1, 2), "n": np.float32(0.5), "i": np.int64(3), 2: {"s": {1}}}
    assert plain(data) == {"p": str(Path("a/b")), "t": [1, 2], "n": 0.5, "i": 3, 2: {"s": [1]}}


def test_print(capsys: pytest.CaptureFixture[str]) -> None:
    YAML.print({"b": 1, "a": [1]})
    assert capsys.readouterr().out == "b: 1\na:\n- 1\n"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("names: [a\uff0c b\n", "full-width comma"),
        ("a:\n\tb: 1\n", "a tab"),
        ("a: [1, 2\nb: 3\n", "line|1: .*is the bracket that opens here closed"),
        ("rows:\n  - [-1, 1, Conv\uff0c [16, 3, 2]]\n", r":2:[\s\S]*full-width comma"),
        ("rows:\n  - [-1, 1, Conv, [16, 3, 2]\n  - [-1, 1, Conv, [32]]\n", r":2:[\s\S]*bracket that opens here"),
    ],
)
def test_the_character_that_is_not_yaml_is_named(text: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=hint):
        YAML.load(write(tmp_path, text))


def test_aliases_do_not_take_all_memory(tmp_path: Path) -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    with pytest.raises(ConfigError, match="aliases"):
        YAML.load(write(tmp_path, "\n".join(rows)))
    with pytest.raises(ConfigError, match=r"aliases|contains itself"):
        YAML.load(write(tmp_path, "a: &a\n  b: *a\n"))


def test_saved_with_a_header_and_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    YAML.save(file=file, data={"path": os.fsdecode(b"caf\xe9")}, header="# made by a test\n")
    assert file.read_text(encoding="utf-8").startswith("# made by a test\npath:")
    assert YAML.load(file=file, append_filename=True)["yaml_file"] == str(file)
