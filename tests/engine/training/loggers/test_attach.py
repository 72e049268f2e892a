"""Which loggers a run has: by the argument, by the settings, and what a missing package says."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from ultralytics.cfg import get_cfg
from ultralytics.engine.training.loggers import attach
from ultralytics.engine.training.loggers.attach import LOGGER_KINDS, attach_loggers, chosen_loggers
from ultralytics.utils.callbacks import CallbackMixin, Callbacks
from ultralytics.utils.checks import ROOT
from ultralytics.utils.config.settings import LOGGER_SETTINGS
from ultralytics.utils.errors import ConfigError, ConfigTypeError, MissingPackageError


class Owner(CallbackMixin):
    """As much of a trainer as is needed to attach something."""

    def __init__(self, loggers: Any) -> None:
        self.args = get_cfg(overrides={"loggers": loggers})
        self.callbacks = Callbacks()


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """All switches off; the test changes them."""
    values = dict.fromkeys(LOGGER_SETTINGS, False)
    monkeypatch.setattr(attach, "SETTINGS", values)
    return values


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every package is there, as an empty stand-in."""
    for kind in LOGGER_KINDS.values():
        monkeypatch.setitem(sys.modules, kind.package, ModuleType(kind.package))
    writer = SimpleNamespace(SummaryWriter=None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", writer)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("loggers", "on", "want"),
    [
        ("auto", (), []),
        ("auto", ("wandb", "tensorboard"), ["tensorboard", "wandb"]),
        (None, ("wandb",), []),
        ("none", ("wandb",), []),
        ([], ("wandb",), []),
        ("mlflow", ("wandb",), ["mlflow"]),
        ("[swanlab, Comet,comet]", (), ["swanlab", "comet"]),
        (["clearml"], (), ["clearml"]),
    ],
)
def test_the_argument_wins_over_the_settings(
    loggers: Any, on: tuple[str, ...], want: list[str], settings: dict[str, bool]
) -> None:
    settings.update(dict.fromkeys(on, True))
    assert list(chosen_loggers(get_cfg(overrides={"loggers": loggers}))) == want


@pytest.mark.parametrize(
    ("loggers", "error"), [("wanb", ConfigError), (["auto", "wandb"], ConfigError), (3, ConfigTypeError)]
)
def test_what_is_not_a_logger_is_refused(loggers: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"loggers=.*tensorboard, wandb"):
        get_cfg(overrides={"loggers": loggers})


def test_nothing_is_attached_or_imported_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attach, "require", None)
    owner = Owner("auto")
    attach_loggers(owner)  # type: ignore[arg-type]
    assert not any(owner.callbacks.table.values())


@pytest.mark.parametrize("rank", [None, "0", "1"])
@pytest.mark.parametrize("name", LOGGER_KINDS)
def test_only_the_main_process_writes(
    name: str, rank: str | None, installed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if rank is not None:
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", rank)
    owner = Owner([name])
    attach_loggers(owner)  # type: ignore[arg-type]
    assert any(owner.callbacks.table.values()) == (rank != "1")


@pytest.mark.parametrize("rank", [None, "1"])
@pytest.mark.parametrize("name", LOGGER_KINDS)
@pytest.mark.parametrize("by", ["argument", "setting"])
def test_a_missing_package_is_named_with_the_remedy(
    name: str, rank: str | None, by: str, settings: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, LOGGER_KINDS[name].package, None)
    settings[name] = by == "setting"
    if rank is not None:
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", rank)
    with pytest.raises(MissingPackageError) as e:
        attach_loggers(Owner([name] if by == "argument" else "auto"))  # type: ignore[arg-type]
    text = str(e.value)
    asked = f"loggers={name}" if by == "argument" else f"yolo settings {name}=False"
    assert f"pip install 'rtdetr-shsa[{name}]'" in text and asked in text
    assert len(text.splitlines()) <= 3


def test_each_logger_has_a_setting_and_an_extra() -> None:
    project = (ROOT.parent / "pyproject.toml").read_text(encoding="utf-8")
    assert tuple(LOGGER_KINDS) == LOGGER_SETTINGS
    assert all(f"\n{name} = [" in project for name in LOGGER_KINDS)
