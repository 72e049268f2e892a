from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from ultralytics.utils import checks
from ultralytics.utils.config.paths import CFG_DIR, ROOT
from ultralytics.utils.errors import ConfigError, ConfigTypeError, MissingPackageError, NotFoundError, UserError


@pytest.mark.parametrize(
    ("imgsz", "stride", "min_dim", "want", "warns"),
    [
        (640, 32, 1, 640, False),
        (641, 32, 1, 672, True),
        (1, 32, 1, 32, True),
        ([640], 32, 1, 640, False),
        (640.0, 32, 2, [640, 640], False),
        ([640, 321], 32, 2, [640, 352], True),
        ((64, 32), 32, 1, [64, 32], False),
        (100, 1, 1, 100, False),
    ],
)
def test_check_imgsz(
    imgsz: int | Sequence[int],
    stride: int,
    min_dim: int,
    want: int | list[int],
    warns: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert checks.check_imgsz(imgsz, stride, min_dim) == want
    assert ("multiple of the stride" in capsys.readouterr().out) is warns


@pytest.mark.parametrize(
    ("imgsz", "error"),
    [
        ([], ConfigTypeError),
        ([1, 2, 3], ConfigTypeError),
        (0.5, ConfigTypeError),
        (True, ConfigTypeError),
        (0, ConfigError),
        ([640, -1], ConfigError),
    ],
)
def test_wrong_imgsz(imgsz: int | Sequence[int], error: type[UserError]) -> None:
    with pytest.raises(error, match="imgsz"):
        checks.check_imgsz(imgsz)


@pytest.mark.parametrize(
    ("name", "suffix", "fits"),
    [("a.txt", (), True), ("a.YAML", ".yaml", True), ("a.yml", (".yaml", ".yml"), True), ("a", ".yaml", False)],
)
def test_check_suffix(name: str, suffix: str | tuple[str, ...], fits: bool) -> None:
    if fits:
        checks.check_suffix(name, suffix)
    else:
        with pytest.raises(ConfigError, match="the suffix must be"):
            checks.check_suffix(name, suffix)


def test_check_file(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").touch()
    assert checks.check_file(tmp_path / "weights.pt", ".pt") == tmp_path / "weights.pt"
    with pytest.raises(NotFoundError, match=r"weights\.pt"):
        checks.check_file(tmp_path / "wieghts.pt")
    with pytest.raises(NotFoundError, match="Looked in"):
        checks.check_file(tmp_path / "none" / "a.pt")
    with pytest.raises(NotFoundError, match="folder"):
        checks.check_file(tmp_path)
    with pytest.raises(FileNotFoundError):
        checks.check_file("")


def test_check_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = CFG_DIR / "models" / "rt-detr" / "rtdetr-l.yaml"
    assert checks.check_yaml("rtdetr-l.yaml") == shipped
    (tmp_path / "rtdetr-l.yaml").touch()
    assert checks.check_yaml("rtdetr-l.yaml") == Path("rtdetr-l.yaml")
    with pytest.raises(NotFoundError, match=r"rtdetr-x\.yaml|rtdetr-l\.yaml"):
        checks.check_yaml("rtdetr-1.yaml")
    with pytest.raises(NotFoundError, match="Give the path"):
        checks.check_yaml("elsewhere/zzzzzzzz.yaml")
    for name, kind in (("tiny.yaml", "models"), ("rtdetr-x.yaml", "recipes"), ("mini.yaml", "datasets")):
        with pytest.raises(NotFoundError) as e:  # a name of one kind is not one of another, and not suggested there
            checks.check_yaml(name, kind=kind)
        assert " tiny.yaml" not in str(e.value).splitlines()[-1]
    assert checks.check_yaml("tiny.yaml", kind="recipes").parent.name == "recipes"
    with pytest.raises(ConfigError, match="suffix"):
        checks.check_yaml("rtdetr-l.pt")


def test_require() -> None:
    assert checks.require("json", "this test") is sys.modules["json"]
    with pytest.raises(MissingPackageError, match=r"export needs.*\npip install 'rtdetr-shsa\[export\]'"):
        checks.require("no_such_package_at_all", "export", "export")
    with pytest.raises(ImportError, match="pip install 'no_such_package_at_all'"):
        checks.require("no_such_package_at_all", "it")


@pytest.fixture
def other_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A second distribution that owns the import name, as an installer leaves it."""
    info = tmp_path / "ultralytics-9.9.9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ultralytics\nVersion: 9.9.9\n")
    (info / "RECORD").write_text("ultralytics/__init__.py,,\n")
    (tmp_path / "ultralytics").mkdir()
    (tmp_path / "ultralytics" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_another_distribution_is_found(other_install: Path) -> None:
    found = [c for c in checks.installed_conflicts() if str(other_install) in c.location]
    assert found == [checks.Conflict("ultralytics", "9.9.9", str(other_install / "ultralytics"))]


def test_a_bare_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ultralytics").mkdir()
    (tmp_path / "ultralytics" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert str(tmp_path / "ultralytics") in {c.location for c in checks.installed_conflicts()}
    assert str(ROOT) not in {c.location for c in checks.installed_conflicts()}


def test_print_checks_warns_loudly(other_install: Path, capsys: pytest.CaptureFixture[str]) -> None:
    info = checks.print_checks()
    out = capsys.readouterr().out
    assert info["imported from"] == str(ROOT) and str(ROOT) in out
    assert "ANOTHER `ultralytics` IS INSTALLED: ultralytics 9.9.9" in out and "pip uninstall ultralytics" in out


def test_cpu_count() -> None:
    assert checks.cpu_count() >= 1
