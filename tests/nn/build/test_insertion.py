"""A row put into a model YAML: which layers feed which afterwards, found by names that do not depend on numbers."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

import ultralytics
from tests.nn.yamls import TINY
from ultralytics.nn.build.insertion import insert_row
from ultralytics.nn.build.spec import load_model_yaml
from ultralytics.utils.checks import check_yaml
from ultralytics.utils.config.yaml_io import YAML, load_with_lines
from ultralytics.utils.errors import ConfigError, ModelYAMLError, NotFoundError

ONE_ROW = """\
nc: 4
backbone:
  - [-1, 1, Timm, [mobilenetv3_small_100]]
head:
  - [-1, 1, Conv, [32, 1, 1]]
  - [3, 1, Conv, [32, 1, 1]]
  - [2, 1, Conv, [32, 1, 1]]
  - [[7, 6, 5], 1, RTDETRDecoder, [nc, 32, 20, 4, 4, 1, 64]]
"""


def tiny() -> dict[str, Any]:
    return load_with_lines(TINY)[0]


def feeds(data: dict[str, Any], skip: int | None = None) -> list[set[int]]:
    """Positions of the rows that feed each row; the row at `skip` is left out, and stands for what feeds it."""
    spec = load_model_yaml(data)
    found = []
    for layer in spec.layers:
        inputs = {spec.position(i) for i in layer.inputs}
        if skip is not None:
            inputs = {skip - 1 if i == skip else i for i in inputs}
            inputs = {i - (i > skip) for i in inputs}
        found.append(inputs)
    return [s for k, s in enumerate(found) if k != skip]


@pytest.mark.parametrize("after", range(10))
def test_every_row_is_fed_as_before_through_the_new_row(after: int) -> None:
    old = tiny()
    kept = copy.deepcopy(old)
    new = insert_row(old, after, ["nn.Identity", []])
    assert old == kept
    assert feeds(new, skip=after + 1) == feeds(old)
    assert load_model_yaml(new).unused == []
    assert all(after not in layer.inputs for layer in load_model_yaml(new).layers[after + 2 :])


@pytest.mark.parametrize("name", ["rtdetr-l.yaml", "rtdetr-resnet50.yaml", "yolov8.yaml"])
def test_published_models(name: str) -> None:
    data = YAML.load(check_yaml(name))
    for after in (0, 4, 8):
        assert feeds(insert_row(data, after, ["SHSA", []]), skip=after + 1) == feeds(data)


def test_form_of_from_stays() -> None:
    new = insert_row(tiny(), 3, [2, "SHSA", [16]])
    assert new["backbone"][4] == [-1, 2, "SHSA", [16]]
    assert new["head"][2] == [[-1, 5], 1, "Concat", [1]]
    assert new["head"][4][0] == [4, 10, 7]
    assert insert_row(tiny(), 3, [1, 2, "SHSA", [16]])["backbone"][4] == [1, 2, "SHSA", [16]]
    reached = insert_row({**tiny(), "head": [[-3, 1, "Conv", [8]]]}, 4, ["SHSA", []])
    assert reached["head"][0][0] == -4  # still layer 3


def test_behind_a_map_of_a_one_row_backbone() -> None:
    data = load_with_lines(ONE_ROW)[0]
    new = insert_row(data, 3, ["SHSA", []])
    assert new["backbone"][1] == [3, 1, "SHSA", []] and new["head"][0][0] == -2
    spec = load_model_yaml(new)
    assert [layer.inputs for layer in spec.layers] == [(-1,), (3,), (4,), (5,), (2,), (8, 7, 6)]


def test_names_stand_for_rows() -> None:
    data = tiny()
    data["backbone"][3].append({"name": "p3"})
    data["head"][0].append({"name": "top"})
    data["head"][4][0] = ["p3", 9, "top"]
    assert feeds(data) == feeds(tiny())
    assert load_model_yaml(data).data["head"][4][0] == [3, 9, 6]
    assert all(len(row) == 4 for row in load_model_yaml(data).data["backbone"])
    new = insert_row(data, "p3", ["SHSA", [], {"name": "again"}])
    assert new["backbone"][4] == [-1, 1, "SHSA", [], {"name": "again"}]
    assert new["head"][4][0] == [4, 10, "top"]
    assert feeds(new, skip=4) == feeds(data)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda rows: rows["head"][0].__setitem__(0, "p4"), "layer 6 (AIFI): from is 'p4', and no row has this name"),
        (lambda rows: rows["head"][0].__setitem__(0, "pp3"), "did you mean p3?"),
        (lambda rows: rows["head"].__setitem__(0, ["p4"]), "from is 'p4', and no row has this name"),
        (lambda rows: rows["head"][0].append({"name": "p3"}), "the name 'p3' is given twice, first to layer 3"),
        (lambda rows: rows["head"][0].append({"nam": "q"}), "the fifth item of a row is its name"),
        (lambda rows: rows["head"][0].append({"name": 7}), "the fifth item of a row is its name"),
        (lambda rows: rows["backbone"][2].__setitem__(0, "p3"), "layer 2 (Conv): from 'p3' points forward, to row 3"),
        (lambda rows: rows["backbone"][3].__setitem__(0, "p3"), "points at itself"),
    ],
)
def test_wrong_names(edit: Any, message: str) -> None:
    data = tiny()
    data["backbone"][3].append({"name": "p3"})
    edit(data)
    with pytest.raises(ModelYAMLError) as e:
        load_model_yaml(data)
    assert message in str(e.value)
    assert len(str(e.value).splitlines()) <= 3


@pytest.mark.parametrize(
    ("after", "row", "message"),
    [
        (10, ["SHSA", []], "after=10: give the index of a layer, 0 to 9"),
        (-1, ["SHSA", []], "after=-1"),
        (True, ["SHSA", []], "after=True"),
        ("p9", ["SHSA", []], "after='p9'"),
        (3, ["SHSA"], "row=['SHSA']: write [module, args]"),
        (3, [], "row=[]"),
        (3, [9, 1, "SHSA", []], "from 9 points forward"),
    ],
)
def test_refused(after: Any, row: list[Any], message: str) -> None:
    with pytest.raises(ModelYAMLError) as e:
        insert_row(tiny(), after, row)
    assert message in str(e.value)


def test_comments_and_their_numbers_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    lines = TINY.splitlines()
    lines[7] += " # 3 attention"  # layer 3
    lines[8] += "   # 4  P4"
    lines[11] += " # the top"
    file.write_text("\n".join(["# a model", *lines]) + "\n")
    out = tmp_path / "b.yaml"
    assert ultralytics.insert(file, 3, ["SHSA", [8]], out)
    text = out.read_text().splitlines()
    assert text[0] == "# a model" and text[8].endswith("# 3 attention")
    assert text[9] == "  - [-1, 1, SHSA, [8]] # 4"
    assert text[10].endswith("   # 5  P4") and text[13].endswith("# the top")
    assert YAML.load(out) == insert_row(YAML.load(file), 3, ["SHSA", [8]])
    with pytest.raises(ConfigError, match="the file exists already"):
        ultralytics.insert(file, 3, ["SHSA", [8]], out)


def test_rows_of_another_form_lose_comments_only(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    rows = TINY.replace("  - [[-1, 4], 1, Concat, [1]]", "  -\n    - [-1, 4]\n    - 1\n    - Concat\n    - [1]")
    file.write_text(rows)
    assert not ultralytics.insert(file, 3, ["SHSA", []], tmp_path / "b.yaml")
    assert YAML.load(tmp_path / "b.yaml") == insert_row(tiny(), 3, ["SHSA", []])


def test_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="not into weights"):
        ultralytics.insert("best.pt", 3, ["SHSA", []], tmp_path / "b.yaml")
