"""The tools of the command line: what each hands on, and what it refuses, on stand-ins that write calls down."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

import ultralytics
from ultralytics.cli import tools as commands
from ultralytics.cli.grammar import TOOLS
from ultralytics.utils.errors import ConfigError, UnknownArgumentError

Calls = list[tuple[Any, ...]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Every model and function of the package that a tool may call writes its call down."""
    seen: Calls = []

    def noted(name: str, answer: Any = None) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            seen.append((name, *args, kwargs))
            return answer

        return call

    def opened(family: str) -> Callable[..., Any]:
        def build(name: str, **options: Any) -> Any:
            seen.append((family, name, options))
            methods = ("export", "benchmark", "heatmap")
            return SimpleNamespace(name=name, **{method: noted(method) for method in methods})

        return build

    for family in ("RTDETR", "SHViTClassifier"):
        monkeypatch.setattr(ultralytics, family, opened(family), raising=False)
    for name in ("convert", "replay", "show"):
        monkeypatch.setattr(ultralytics, name, noted(name), raising=False)
    monkeypatch.setattr(ultralytics, "doctor", noted("doctor", SimpleNamespace(safe=True)), raising=False)
    monkeypatch.setattr(
        ultralytics,
        "compare",
        lambda models, **kw: seen.append(("compare", [m.name for m in models], kw)),
        raising=False,
    )
    return seen


def test_there_is_a_function_for_each_word() -> None:
    assert set(commands.COMMANDS) == set(TOOLS)


@pytest.mark.parametrize(
    ("tool", "words", "want"),
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
def test_what_is_handed_on(tool: str, words: str, want: Calls, calls: Calls) -> None:
    commands.COMMANDS[tool](words.split())
    if "model=b.pt" in words:
        assert calls.pop(0) == ("RTDETR", "b.pt", {})
    else:
        want = [(tool, *want[0])]
    assert calls == want


def test_the_task_and_the_scale_choose_the_model(calls: Calls) -> None:
    commands.export(["model=m.yaml", "task=classify", "scale=n", "modules=own.py"])
    options = {"scale": "n", "modules": "own.py"}
    assert calls == [
        ("SHViTClassifier", "m.yaml", options),
        ("export", {"model_scale": "n", "modules": "own.py"}),
    ]


def refused(error: type[Exception], tool: str, words: str, said: str, calls: Calls) -> None:
    with pytest.raises(error) as e:
        commands.COMMANDS[tool](words.split())
    assert said in str(e.value) and calls == []


@pytest.mark.parametrize(
    ("tool", "words", "said"),
    [
        ("export", "format=onnx", "export needs model="),
        ("benchmark", "", "benchmark needs model="),
        ("heatmap", "source=p.jpg", "heatmap needs model="),
        ("heatmap", "model=b.pt", "heatmap needs source="),
        ("heatmap", "model=b.pt source=p query=-1", "query=-1: a whole number, 0 or above"),
        ("heatmap", "model=b.pt source=p pixel=1,2,3", "pixel=1,2,3: two whole numbers, x,y"),
        ("heatmap", "model=b.pt source=p pixel=1.5,2", "two whole numbers"),
        ("convert", "data=d.yaml", "convert needs format=, save_dir="),
        ("doctor", "", "doctor needs data="),
        ("show", "n=3", "show needs data="),
        ("replay", "", "replay needs one file"),
        ("replay", "a.pt b.pt", "replay needs one file"),
    ],
)
def test_what_is_missing_is_named(tool: str, words: str, said: str, calls: Calls) -> None:
    refused(ConfigError, tool, words, said, calls)


@pytest.mark.parametrize(
    ("tool", "words", "near"),
    [
        ("convert", "data=d format=coco save_dir=o epochs=3", "data, format, save_dir, images, not 'epochs'"),
        ("doctor", "data=d model=b.pt", "data, imgsz, queries, save_dir, not 'model'"),
        ("replay", "r.pt imgsz=3", "device, amp, modules, not 'imgsz'"),
        ("export", "model=b.pt fromat=onnx", "format"),
    ],
)
def test_words_that_a_tool_does_not_know(tool: str, words: str, near: str, calls: Calls) -> None:
    refused(UnknownArgumentError, tool, words, near, calls)


def test_a_data_set_that_is_not_safe_ends_with_1(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ultralytics, "doctor", lambda **kw: SimpleNamespace(safe=False))
    with pytest.raises(SystemExit) as e:
        commands.doctor(["data=d.yaml"])
    assert e.value.code == 1


def test_compare(calls: Calls) -> None:
    """One model is no comparison; several are opened alike and compared in their order."""
    assert not commands.compare(["a.pt"], {"data": "d.yaml"}) and calls == []
    assert commands.compare(["b.pt", "a.pt"], {"data": "d.yaml", "model": "b.pt", "conf": 0.5})
    assert calls == [
        ("RTDETR", "b.pt", {}),
        ("RTDETR", "a.pt", {}),
        ("compare", ["b.pt", "a.pt"], {"data": "d.yaml", "conf": 0.5}),
    ]
