from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ultralytics.utils.config.settings import DEFAULTS, Settings, UnknownSettingError, config_dir
from ultralytics.utils.errors import ConfigError, ConfigTypeError, UserError


def test_reading_writes_nothing(tmp_path: Path) -> None:
    settings = Settings(tmp_path / "s" / "settings.json")
    assert dict(settings) == dict(DEFAULTS) and len(settings) == len(DEFAULTS)
    assert "runs_dir: runs" in str(settings)
    assert not list(tmp_path.iterdir())


def test_changes_outlive_the_process(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    settings = Settings(file)
    settings.update({"runs_dir": tmp_path / "r"}, tensorboard=True)
    settings["weights_dir"] = "w"
    again = Settings(file)
    assert (again["runs_dir"], again["tensorboard"], again["weights_dir"]) == (str(tmp_path / "r"), True, "w")
    again.reset()
    assert dict(Settings(file)) == dict(DEFAULTS)


@pytest.mark.parametrize(
    ("given", "error", "word"),
    [
        ({"runs_dri": "x"}, UnknownSettingError, "runs_dir"),
        ({"zzz": "x"}, UnknownSettingError, "Settings:"),
        ({"runs_dir": 3}, ConfigTypeError, "str"),
        ({"tensorboard": "yes"}, ConfigTypeError, "bool"),
        ({"tensorboard": 1}, ConfigTypeError, "bool"),
    ],
)
def test_wrong_changes(given: dict[str, Any], error: type[UserError], word: str, tmp_path: Path) -> None:
    settings = Settings(tmp_path / "settings.json")
    with pytest.raises(error, match=word):
        settings.update({"datasets_dir": "d", **given})
    assert settings["datasets_dir"] == "datasets" and not list(tmp_path.iterdir())


def test_unknown_keys_are_key_errors(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="runs_dir"):
        _ = Settings(tmp_path / "settings.json")["runs-dir"]


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"runs_dir": 3, "other": 1}', "\x00", "[" * 100_000])
def test_a_damaged_file_gives_the_defaults(text: str, tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text(text)
    assert dict(Settings(tmp_path / "settings.json")) == dict(DEFAULTS)


def test_a_newer_file_is_read_as_far_as_it_is_known(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text(json.dumps({"settings_version": "1", "runs_dir": "r", "later": [1]}))
    assert Settings(tmp_path / "settings.json")["runs_dir"] == "r"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="YOLO_CONFIG_DIR"):
        Settings(tmp_path / "file" / "settings.json").update(runs_dir="x")


def test_config_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    assert config_dir() == tmp_path / "rtdetr-shsa"
    assert Settings().file == tmp_path / "rtdetr-shsa" / "settings.json"
    monkeypatch.delenv("YOLO_CONFIG_DIR")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "x"))
    assert config_dir() == tmp_path / "x" / "rtdetr-shsa"


def test_settings_of_the_interface_without_effect_are_accepted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(tmp_path / "settings.json")
    settings.update({"uuid": "x", "sync": True, "runs_dir": "mine"})
    out = capsys.readouterr().out
    assert out.count("without effect") == 1 and "sync, uuid" in out
    assert (settings["runs_dir"], settings["sync"], settings["uuid"]) == ("mine", False, "")
    assert "uuid" not in dict(settings) and "uuid" not in (tmp_path / "settings.json").read_text()
