"""Uploads go through `huggingface_hub`, of which a stand-in records the calls."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any, ClassVar

import pytest

from ultralytics.cli import entrypoint
from ultralytics.engine.export.hub_push import push_folder, push_model
from ultralytics.utils.errors import ConfigError, MissingPackageError

ADDRESS = "https://hub.example/owner/trees"


class Api:
    """What is called of `HfApi`."""

    calls: ClassVar[list[tuple[str, dict[str, Any]]]] = []
    fails: ClassVar[Exception | None] = None

    def create_repo(self, **kwargs: Any) -> str:
        if self.fails:
            raise self.fails
        self.calls.append(("create", kwargs))
        return ADDRESS

    def upload_folder(self, folder_path: str, **kwargs: Any) -> None:
        self.calls.append(("upload", {**kwargs, "files": sorted(p.name for p in Path(folder_path).iterdir())}))


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> type[Api]:
    module = types.ModuleType("huggingface_hub")
    module.HfApi = Api  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    monkeypatch.setattr(Api, "calls", [])
    monkeypatch.setattr(Api, "fails", None)
    return Api


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("config.json", "model.safetensors", "README.md", "notes.txt"):
        (tmp_path / name).write_text("x")
    return tmp_path


@pytest.mark.parametrize("private", [True, False])
def test_a_folder_is_uploaded(private: bool, api: type[Api], folder: Path) -> None:
    assert push_folder(folder, "owner/trees", private, "first") == ADDRESS
    (create, made), (upload, sent) = api.calls
    assert (create, made) == ("create", {"repo_id": "owner/trees", "private": private, "exist_ok": True})
    assert upload == "upload" and sent["commit_message"] == "first" and "notes.txt" not in sent["allow_patterns"]


def test_the_command_is_private_unless_asked(api: type[Api], folder: Path) -> None:
    entrypoint(["push", f"model={folder}", "repo=owner/trees"])
    entrypoint(["push", f"model={folder}", "repo=owner/trees", "private=False", "message=new"])
    assert [kwargs["private"] for name, kwargs in api.calls if name == "create"] == [True, False]
    assert [kwargs["commit_message"] for name, kwargs in api.calls if name == "upload"] == ["Upload model", "new"]


@pytest.mark.parametrize("repo", ["", "trees", "a/b/c", "../b", "a/..", "https://hub/a/b", "a b/c"])
def test_names_of_repositories(repo: str, api: type[Api], folder: Path) -> None:
    with pytest.raises(ConfigError, match="owner/name"):
        push_folder(folder, repo, True, "m")
    assert api.calls == []


class TransportError(Exception):
    """Stands for the error of the HTTP library."""


@pytest.mark.parametrize("error", [OSError, ValueError, TransportError])
def test_what_the_hub_says_is_one_error(
    error: type[Exception], api: type[Api], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = types.ModuleType("httpx")
    library.HTTPError = TransportError  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "httpx", library)
    monkeypatch.setattr(Api, "fails", error("401 Client Error\nlong text"))
    with pytest.raises(ConfigError, match=r"upload failed \(401 Client Error\)"):
        push_folder(folder, "owner/trees", True, "m")


def test_another_folder_and_a_missing_package(api: type[Api], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="export format=hf"):
        push_folder(tmp_path, "owner/trees", True, "m")
    assert api.calls == []
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingPackageError, match=r"rtdetr-shsa\[hub\]"):
        push_folder(tmp_path, "owner/trees", True, "m")
    with pytest.raises(MissingPackageError):  # before anything is written
        push_model(types.SimpleNamespace(ckpt=None, model=None), "owner/trees", True, "m", "x")  # type: ignore[arg-type]
