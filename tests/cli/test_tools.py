"""The tools of the command line: what each passes on and what it refuses, with stubs that record calls."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

import ultralytics
from ultralytics.cli import entrypoint
from ultralytics.cli.help import help_on
from ultralytics.cli.tools import TOOLS
from ultralytics.utils.errors import ConfigError, ConfigTypeError, UnknownArgumentError

Calls = list[tuple[Any, ...]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Every model and function of the package that a tool may call records its call."""
    record: Calls = []

    def recorded(name: str, answer: Any = None) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            record.append((name, *args, kwargs))
            return answer

        return call

    def opener(family: str) -> Callable[..., Any]:
        def build(name: str, **options: Any) -> Any:
            record.append((family, name, options))
            methods = ("export", "benchmark", "heatmap")
            return SimpleNamespace(name=name, **{method: recorded(method) for method in methods})

        return build

    for family in ("RTDETR", "SHViTClassifier"):
        monkeypatch.setattr(ultralytics, family, opener(family), raising=False)
    for name in ("convert", "replay", "show"):
        monkeypatch.setattr(ultralytics, name, recorded(name), raising=False)
    monkeypatch.setattr(ultralytics, "doctor", recorded("doctor", SimpleNamespace(safe=True)), raising=False)
    monkeypatch.setattr(
        ultralytics,
        "compare",
        lambda models, **kw: record.append(("compare", [m.name for m in models], kw)),
        raising=False,
    )
    return record


@pytest.mark.parametrize("name", list(TOOLS))
def test_each_row_is_complete(name: str) -> None:
    tool = TOOLS[name]
    assert tool.name == name and tool.purpose and f"yolo {name}" in tool.example
    assert set(tool.required) <= set(tool.known) or tool.run_keys is None
    assert all(key.meaning and key.bounds for key in tool.own)
    assert tool.example in help_on(name) and all(f"{key.name}=" in help_on(name) for key in tool.own)


@pytest.mark.parametrize(
    ("tool", "tokens", "want"),
    [
        ("export", "model=b.pt format=onnx imgsz=320", [("export", {"format": "onnx", "imgsz": 320})]),
        ("export", "model=b.pt half", [("export", {"quantize": 16})]),
        ("benchmark", "model=b.pt data=d.yaml", [("benchmark", {"data": "d.yaml"})]),
        ("heatmap", "model=b.pt source=p.jpg", [("heatmap", {"source": "p.jpg"})]),
        (
            "heatmap",
            "model=b.pt source=p.jpg kind=shsa layer=3,4 query=2 pixel=(10,20) classes=[1]",
            [
                (
                    "heatmap",
                    {
                        "source": "p.jpg",
                        "classes": [1],
                        "kind": "shsa",
                        "layer": "3,4",
                        "query": 2,
                        "pixel": [10, 20],
                    },
                )
            ],
        ),
        ("convert", "data=d.yaml format=coco save_dir=o", [({"data": "d.yaml", "format": "coco", "save_dir": "o"},)]),
        ("doctor", "data=d.yaml imgsz=320 queries=100", [({"data": "d.yaml", "imgsz": 320, "queries": 100},)]),
        ("replay", "r.pt device=cpu amp=fp32", [("r.pt", {"device": "cpu", "amp": "fp32"})]),
        (
            "show",
            "data=d.yaml augment=True n=4 imgsz=64",
            [({"data": "d.yaml", "imgsz": 64, "augment": True, "n": 4},)],
        ),
    ],
)
def test_arguments_are_passed_on(tool: str, tokens: str, want: Calls, calls: Calls) -> None:
    TOOLS[tool](tokens.split())
    if "model=b.pt" in tokens:
        assert calls.pop(0) == ("RTDETR", "b.pt", {})
    else:
        want = [(tool, *want[0])]
    assert calls == want


def test_the_task_and_the_scale_choose_the_model(calls: Calls) -> None:
    TOOLS["export"](["model=m.yaml", "task=classify", "scale=n", "modules=own.py"])
    options = {"scale": "n", "modules": "own.py"}
    assert calls == [
        ("SHViTClassifier", "m.yaml", options),
        ("export", {"model_scale": "n", "modules": "own.py"}),
    ]


def refused(error: type[Exception], tool: str, tokens: str, message: str, calls: Calls) -> None:
    with pytest.raises(error) as e:
        TOOLS[tool](tokens.split())
    assert message in str(e.value) and calls == []


@pytest.mark.parametrize(
    ("tool", "tokens", "message"),
    [
        ("export", "format=onnx", "export needs model="),
        ("benchmark", "", "benchmark needs model="),
        ("heatmap", "source=p.jpg", "heatmap needs model="),
        ("heatmap", "model=b.pt", "heatmap needs source="),
        ("heatmap", "model=b.pt source=p query=-1", "query=-1 is outside its bounds; use an integer, at least 0"),
        ("heatmap", "model=b.pt source=p pixel=1,2,3", "pixel=(1, 2, 3) is outside its bounds; use two integers x,y"),
        ("convert", "data=d.yaml", "convert needs format=, save_dir="),
        ("doctor", "", "doctor needs data="),
        ("show", "n=3", "show needs data="),
        ("replay", "", "replay needs one file"),
        ("replay", "a.pt b.pt", "replay needs one file"),
    ],
)
def test_missing_arguments_are_named(tool: str, tokens: str, message: str, calls: Calls) -> None:
    refused(ConfigError, tool, tokens, message, calls)


def test_values_of_the_wrong_type(calls: Calls) -> None:
    refused(ConfigTypeError, "heatmap", "model=b.pt source=p pixel=1.5,2", "two integers x,y", calls)


@pytest.mark.parametrize(
    ("tool", "tokens", "near"),
    [
        ("convert", "data=d format=coco save_dir=o epochs=3", "data, format, save_dir, images, not 'epochs'"),
        ("doctor", "data=d model=b.pt", "data, imgsz, queries, save_dir, not 'model'"),
        ("replay", "r.pt imgsz=3", "device, amp, modules, not 'imgsz'"),
        ("export", "model=b.pt fromat=onnx", "format"),
    ],
)
def test_unknown_arguments_of_a_tool(tool: str, tokens: str, near: str, calls: Calls) -> None:
    refused(UnknownArgumentError, tool, tokens, near, calls)


def test_an_unsafe_data_set_exits_with_1(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ultralytics, "doctor", lambda **kw: SimpleNamespace(safe=False))
    with pytest.raises(SystemExit) as e:
        TOOLS["doctor"](["data=d.yaml"])
    assert e.value.code == 1


@pytest.mark.parametrize(
    ("argv", "order"),
    [
        ("compare b.pt a.pt data=d.yaml conf=0.5", ["b.pt", "a.pt"]),
        ("val model=b.pt a.pt data=d.yaml conf=0.5", ["b.pt", "a.pt"]),
        ("val b.pt a.pt data=d.yaml conf=0.5", ["b.pt", "a.pt"]),
    ],
)
def test_several_weights_are_compared_in_their_order(argv: str, order: list[str], calls: Calls) -> None:
    entrypoint(argv.split())
    opened = [("RTDETR", name, {}) for name in order]
    assert calls == [*opened, ("compare", order, {"data": "d.yaml", "conf": 0.5})]


def test_an_old_name_is_reported_once(calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    TOOLS["export"](["model=b.pt", "half"])
    assert capsys.readouterr().out.count("'half' is deprecated; use quantize=16") == 1


@pytest.mark.parametrize(
    ("tool", "tokens"),
    [("convert", "classify data=d.yaml format=coco save_dir=o"), ("doctor", "detect data=d.yaml")],
)
def test_a_task_is_ignored_by_tools_for_data_sets(tool: str, tokens: str, calls: Calls) -> None:
    TOOLS[tool](tokens.split())
    assert "task" not in calls[0][-1]
