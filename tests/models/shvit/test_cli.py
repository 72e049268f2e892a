"""`yolo classify`: which model a line opens."""

from __future__ import annotations

from typing import Any

import pytest

import ultralytics
from ultralytics.cli.main import entrypoint


class Fake:
    """Records how it was opened and called."""

    def __init__(self, family: str, log: list[tuple[str, str, str, dict[str, Any]]]) -> None:
        self.family, self.log = family, log

    def __call__(self, name: str) -> Fake:
        self.name = name
        return self

    def train(self, **kwargs: Any) -> None:
        self.log.append((self.family, self.name, "train", kwargs))

    def val(self, **kwargs: Any) -> None:
        self.log.append((self.family, self.name, "val", kwargs))


@pytest.mark.parametrize(
    ("line", "want"),
    [
        ("train data=d", ("RTDETR", "rtdetr-l.yaml", "train", {"data": "d"})),
        ("classify train data=d", ("SHViTClassifier", "shvit_s1.yaml", "train", {"data": "d"})),
        ("classify train", ("SHViTClassifier", "shvit_s1.yaml", "train", {})),  # no demo set of boxes
        ("train task=classify model=my.yaml", ("SHViTClassifier", "my.yaml", "train", {})),
        ("train model=shvit_s2.yaml data=d", ("SHViTClassifier", "shvit_s2.yaml", "train", {"data": "d"})),
        ("train model=rtdetr-l.yaml data=d", ("RTDETR", "rtdetr-l.yaml", "train", {"data": "d"})),
        ("val classify model=best.pt", ("SHViTClassifier", "best.pt", "val", {})),
        ("val model=best.pt", ("RTDETR", "best.pt", "val", {})),
    ],
)
def test_the_task_chooses_the_family(line, want, monkeypatch):
    log: list[tuple[str, str, str, dict[str, Any]]] = []
    for family in ("RTDETR", "SHViTClassifier"):
        monkeypatch.setattr(ultralytics, family, Fake(family, log), raising=False)
    entrypoint(line.split())
    assert log == [want]


def test_two_tasks_are_too_many(capsys):
    with pytest.raises(SystemExit):
        entrypoint("classify detect train".split())
    assert "only one task" in capsys.readouterr().err
