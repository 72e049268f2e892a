"""Plans: what they become, and errors with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from ultralytics.study.plan import load_plan
from ultralytics.utils.errors import UserError

EXAMPLE = """name: shsa-study
base: {model: rtdetr-l.yaml, scale: n, data: bccd/data.yaml, epochs: 12, imgsz: 320}
seeds: [0, 1, 2]
variants:
  focal: {loss: focal}
  shsa-p5: {model: my-shsa.yaml}
  shsa-p4: {insert: {after: 6, row: [SHSA, []]}}
"""


def write(folder: Path, text: str) -> Path:
    file = folder / "plan.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_the_example_of_the_docs(tmp_path: Path) -> None:
    plan = load_plan(write(tmp_path, EXAMPLE))
    assert (plan.name, plan.seeds, [v.name for v in plan.variants]) == (
        "shsa-study", (0, 1, 2), ["focal", "shsa-p5", "shsa-p4"],
    )  # fmt: skip
    focal, p5, p4 = plan.variants
    assert focal.args == {"data": "bccd/data.yaml", "epochs": 12, "imgsz": 320, "loss": "focal"}
    assert (focal.model, focal.scale, p5.model, p5.scale) == ("rtdetr-l.yaml", "n", "my-shsa.yaml", None)
    assert [(e.action, e.layer, e.row) for e in p4.edits] == [("insert", 6, ("SHSA", []))]
    assert p4.changes == {"insert": {"after": 6, "row": ["SHSA", []]}} and p4.place.endswith("plan.yaml:7")


def test_files_beside_the_plan_are_found_from_anywhere(tmp_path: Path) -> None:
    for name in ("my-shsa.yaml", "my-recipe.yaml", "own.py"):
        (tmp_path / name).write_text("{}\n" if name == "my-recipe.yaml" else "")
    text = EXAMPLE.replace("loss: focal", "recipe: my-recipe.yaml, modules: [own.py]")
    focal, p5, _ = load_plan(write(tmp_path, text)).variants
    assert p5.model == str(tmp_path / "my-shsa.yaml") and focal.args["recipe"] == str(tmp_path / "my-recipe.yaml")
    assert focal.args["modules"] == [str(tmp_path / "own.py")]


def test_edits_of_the_base_hold_for_variants_of_its_model(tmp_path: Path) -> None:
    text = EXAMPLE.replace("imgsz: 320}", "imgsz: 320, insert: [{after: 2, row: [CBAM, []]}]}")
    _, p5, p4 = load_plan(write(tmp_path, text)).variants
    assert [e.layer for e in p4.edits] == [2, 6] and p5.edits == ()


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("loss: focal", "loss: focl", 5, "one of vfl, mal, focal"),
        ("loss: focal", "los: focal", 5, "did you mean loss"),
        ("loss: focal", "recipe: forks", 5, "recipe='forks' does not exist"),
        ("loss: focal", "seed: 3", 5, "seed: is set by the study"),
        ("{loss: focal}", "{}", 5, "the base again"),
        ("{loss: focal}", "[loss, focal]", 5, "not a mapping"),
        ("  focal:", "  a/b:", 5, "cannot be that of a folder"),
        ("row: [SHSA, []]", "rows: [SHSA, []]", 7, "write insert: {after: 6, row: [SHSA, []]}"),
        ("after: 6", "after: 6.5", 7, "nor the name of a row"),
        ("my-shsa.yaml", "best.pt", 6, "pretrained: best.pt"),
        ("seeds: [0, 1, 2]", "seeds: [0, 0]", 3, "has one twice"),
        ("seeds: [0, 1, 2]", "seeds: [a]", 3, "are not integers"),
        ("seeds: [0, 1, 2]", "seed: [0]", 3, "unknown key 'seed'; did you mean seeds?"),
        ("insert: {after", "insrt: {after", 7, "unknown key 'insrt'; did you mean insert?"),
        ("seeds: [0, 1, 2]", "weights: beste", 3, "is not one of best, last"),
        ("data: bccd/data.yaml, ", "", 2, "needs data="),
        ("model: rtdetr-l.yaml, ", "", 2, "needs model="),
        ("name: shsa-study", "name: ..", 1, "cannot be that of a folder"),
    ],
)
def test_errors_name_file_and_line(tmp_path: Path, old: str, new: str, line: int, message: str) -> None:
    file = write(tmp_path, EXAMPLE.replace(old, new))
    with pytest.raises(UserError) as error:
        load_plan(file)
    assert f"plan.yaml:{line}" in str(error.value) and message in str(error.value), error.value


@pytest.mark.parametrize("text", ["name: a\n", "name: a\nbase: 3\n", EXAMPLE.partition("variants")[0], "name: [\n"])
def test_incomplete_plans_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match=r"plan\.yaml"):
        load_plan(write(tmp_path, text))


def test_early_stopping_is_off_unless_the_plan_asks(tmp_path: Path) -> None:
    assert load_plan(write(tmp_path, EXAMPLE)).stop_early == {}
    rule = load_plan(write(tmp_path, EXAMPLE + "stop_early: true\n")).stop_early
    assert rule == {"start": 0.5, "alpha": 0.01, "window": 3}
    rule = load_plan(write(tmp_path, EXAMPLE + "stop_early: {alpha: 0.001}\n")).stop_early
    assert rule == {"start": 0.5, "alpha": 0.001, "window": 3}
    for text, message in (
        ("soon", "is malformed"),
        ("{after: 3}", "is malformed"),
        ("{start: 2}", "not from 0 to 1"),
        ("{window: 2.5}", "is not an integer"),
    ):
        with pytest.raises(UserError, match=message):
            load_plan(write(tmp_path, EXAMPLE + f"stop_early: {text}\n"))


def test_a_mapping_is_a_plan_too() -> None:
    data = {"base": {"model": "a.yaml", "data": "d.yaml"}, "seeds": [1, 2], "variants": {"focal": {"loss": "focal"}}}
    plan = load_plan(data)
    assert (plan.name, plan.seeds, plan.variants[0].args) == ("plan", (1, 2), {"data": "d.yaml", "loss": "focal"})
    with pytest.raises(UserError, match=r"plan: variants\.focal\.loss"):
        load_plan({**data, "variants": {"focal": {"loss": "focl"}}})
    with pytest.raises(UserError, match="plan: sedes: unknown key 'sedes'; did you mean seeds"):
        load_plan({**data, "sedes": [1]})
