"""Files of the user's: which are run, once or again, under what name, and what goes wrong."""

import sys

import pytest

from tests.utils.spawned import Loaded
from ultralytics.data.build import build_dataloader
from ultralytics.nn.registry import REGISTRY
from ultralytics.utils.errors import ConfigError, NotFoundError
from ultralytics.utils.user_modules import as_files, load_user_modules, origin

COUNT = "import sys\nsys.ran_blocks = getattr(sys, 'ran_blocks', 0) + 1\nclass Thing:\n    pass\n"


@pytest.fixture
def file(tmp_path):
    """Write a file under a name that is free, and forget it afterwards."""
    written = []

    def write(text, name="blocks_under_test.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        written.append(path)
        return path

    before = set(sys.modules)
    sys.ran_blocks = 0
    yield write
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) in {str(p) for p in written}:
            del sys.modules[name]
    for name in [n for n in REGISTRY if REGISTRY.get(n).cls.__module__.startswith("blocks_under_test")]:
        REGISTRY._entries.pop(name)
    del sys.ran_blocks


@pytest.mark.parametrize(
    ("given", "want"),
    [
        (None, []),
        ("", []),
        ([], []),
        ("a.py", ["a.py"]),
        ("[a.py, 'b.py']", ["a.py", "b.py"]),
        ("a.py,b.py", ["a.py", "b.py"]),
        (["a.py", "b.py"], ["a.py", "b.py"]),
    ],
)
def test_as_files(given, want):
    assert [p.name for p in as_files(given)] == want


def test_run_once_and_again_after_a_change(file):
    path = file(COUNT)
    assert load_user_modules(path) == [path]
    load_user_modules([str(path), str(path)])
    assert sys.ran_blocks == 1
    first = origin(sys.modules["blocks_under_test"].Thing)
    path.write_text(COUNT + "# more\n")
    load_user_modules(str(path))
    second = origin(sys.modules["blocks_under_test"].Thing)
    assert sys.ran_blocks == 2
    assert first.name == second.name == path.name and first.sha256 != second.sha256


def test_a_name_that_is_taken_stays_what_it_was(file):
    """A file called like a module of Python's."""
    import json

    path = file(COUNT, "json.py")
    load_user_modules(path)
    assert sys.modules["json"] is json and sys.ran_blocks == 1
    load_user_modules(path)
    assert sys.ran_blocks == 1


def test_what_the_program_imported_itself_is_not_run_again(file, monkeypatch):
    path = file(COUNT)
    monkeypatch.syspath_prepend(path.parent)
    import blocks_under_test

    load_user_modules(path)
    assert sys.ran_blocks == 1 and origin(blocks_under_test.Thing).name == path.name


def test_origin_of_classes_that_are_no_ones_file():
    import numpy as np
    from torch import nn

    from ultralytics.nn.modules import SHSA

    assert origin(SHSA) is None and origin(nn.Conv2d) is None and origin(int) is None and origin(np.ndarray) is None


@pytest.mark.parametrize(
    ("text", "name", "error", "message"),
    [
        (None, "absent.py", NotFoundError, "no such file"),
        ("x = 1", "blocks.txt", ConfigError, "not a Python file"),
        ("x = (\n", "blocks_under_test.py", ConfigError, "line 1: SyntaxError"),
        ("x = 1\ny = z\n", "blocks_under_test.py", ConfigError, "line 2: NameError: name 'z'"),
        ("import no_such_package_at_all\n", "blocks_under_test.py", ConfigError, "line 1: ModuleNotFoundError"),
        (
            "from ultralytics.nn import register\n@register\nclass Conv:\n    pass\n",
            "blocks_under_test.py",
            ConfigError,
            "'Conv' is already registered",
        ),
    ],
)
def test_mistakes(file, tmp_path, text, name, error, message):
    path = tmp_path / name if text is None else file(text, name)
    with pytest.raises(error, match=message) as caught:
        load_user_modules(path)
    assert len(str(caught.value).splitlines()) <= 3
    assert "blocks_under_test" not in sys.modules


def test_spawned_workers_run_the_file(file):
    path = file(COUNT)
    loader = build_dataloader(Loaded(), 2, 1, shuffle=False, modules=[str(path)])
    loader.multiprocessing_context = "spawn"
    assert [n for batch in loader for n in batch] == [1, 1, 1, 1] and sys.ran_blocks == 0
