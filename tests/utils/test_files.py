from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from ultralytics.utils.files import atomic_write, file_size, increment_path, latest_run


@pytest.mark.parametrize(
    ("there", "want"),
    [
        ([], "exp"),
        (["exp"], "exp2"),
        (["exp", "exp2"], "exp3"),
        (["exp", "exp3"], "exp2"),
        (["exp2"], "exp"),
    ],
)
def test_increment_path(there: list[str], want: str, tmp_path: Path) -> None:
    for name in there:
        (tmp_path / name).mkdir()
    assert increment_path(tmp_path / "exp") == tmp_path / want
    assert increment_path(tmp_path / "exp", exist_ok=True) == tmp_path / "exp"
    assert increment_path(tmp_path / "exp", mkdir=True) == tmp_path / want
    assert (tmp_path / want).is_dir()


def test_increment_path_of_files_and_separators(tmp_path: Path) -> None:
    (tmp_path / "a.b.txt").touch()
    assert increment_path(tmp_path / "a.b.txt") == tmp_path / "a.b2.txt"
    assert increment_path(tmp_path / "a.b.txt", sep="-") == tmp_path / "a.b-2.txt"
    (tmp_path / "v1.0").mkdir()
    assert increment_path(tmp_path / "v1.0") == tmp_path / "v1.02"


def test_increment_path_survives_a_race(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process makes the folder between the look and the making."""
    real = Path.mkdir

    def late(self: Path, *args: object, **kwargs: object) -> None:
        if self.name == "exp" and not self.exists():
            real(self)
        real(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "mkdir", late)
    assert increment_path(tmp_path / "exp", mkdir=True) == tmp_path / "exp2"


@pytest.mark.parametrize(("mode", "content"), [("w", ""), ("w", "é\n"), ("wb", b"\x00\xff")])
def test_atomic_write(mode: str, content: str | bytes, tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    with atomic_write(path, mode) as f:
        f.write(content)
        assert not path.exists()
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert os.listdir(path.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_atomic_write_keeps_the_old_file_on_an_error(error: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), atomic_write(path) as f:
        f.write("half")
        raise error
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("where", ["os.fsync", "os.replace"])
def test_an_error_names_the_file_and_not_its_temporary_name(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*names: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", *([names[0], None, names[1]] if names[1:] else []))

    monkeypatch.setattr(where, refuse)
    with pytest.raises(OSError, match="No space left") as e, atomic_write(tmp_path / "a.txt") as f:
        f.write("1")
    assert (e.value.filename, e.value.filename2) == (str(tmp_path / "a.txt"), None)


def test_atomic_write_has_the_permissions_of_an_ordinary_file(tmp_path: Path) -> None:
    (tmp_path / "ordinary").touch()
    with atomic_write(tmp_path / "ours") as f:
        f.write("x")
    modes = {stat.S_IMODE((tmp_path / n).stat().st_mode) for n in ("ordinary", "ours")}
    assert len(modes) == 1


@pytest.mark.parametrize("mode", ["a", "r", "r+", "x", ""])
def test_atomic_write_refuses_other_modes(mode: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mode"), atomic_write(tmp_path / "a", mode):
        pass
    assert not list(tmp_path.iterdir())


def test_temporary_names_are_no_checkpoints(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "last.pt", "wb") as f:
        f.write(b"x")
        assert latest_run(tmp_path) is None
    assert latest_run(tmp_path) == tmp_path / "last.pt"


def test_file_size(tmp_path: Path) -> None:
    assert file_size(tmp_path) == file_size(tmp_path / "none") == 0
    (tmp_path / "a").write_bytes(bytes(2**20))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c").write_bytes(bytes(2**19))
    assert (file_size(tmp_path / "a"), file_size(tmp_path)) == (1.0, 1.5)


def test_latest_run(tmp_path: Path) -> None:
    assert latest_run(tmp_path) is None
    for age, name in enumerate(["c/last.pt", "b/last-2.pt", "a/last.pt", "best.pt"]):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    assert latest_run(tmp_path) == tmp_path / "c" / "last.pt"
