"""Which image a listed name means: by its path, never by a name that is another image's."""

from __future__ import annotations

from pathlib import Path

import pytest

from ultralytics.data.formats.listing import match_images, plain_name

TABLE = [
    # files on disk, listed names, {file: name} that is right, files in doubt
    ([], [], {}, []),
    (["a.jpg"], [], {}, []),
    (["a.jpg", "b.jpg"], ["a.jpg"], {"a.jpg": "a.jpg"}, []),
    (["sub/a.jpg"], ["a.jpg"], {"sub/a.jpg": "a.jpg"}, []),  # sorted into folders after labelling
    (["a.jpg", "sub/a.jpg"], ["a.jpg", "sub/a.jpg"], {"a.jpg": "a.jpg", "sub/a.jpg": "sub/a.jpg"}, []),
    (["a.jpg", "sub/a.jpg"], ["a.jpg"], {"a.jpg": "a.jpg"}, []),
    (["a.jpg", "sub/a.jpg"], ["sub/a.jpg"], {"sub/a.jpg": "sub/a.jpg"}, []),
    (["one/a.jpg", "two/a.jpg"], ["two/a.jpg"], {"two/a.jpg": "two/a.jpg"}, []),
    (["one/a.jpg", "two/a.jpg"], ["a.jpg"], {}, ["one/a.jpg", "two/a.jpg"]),
    (["one/a.jpg", "two/a.jpg"], ["old/a.jpg"], {}, ["one/a.jpg", "two/a.jpg"]),
    (["one/a.jpg"], ["two/a.jpg", "three/a.jpg"], {}, []),
    (["a.jpg"], ["/old/machine/images/a.jpg"], {"a.jpg": "/old/machine/images/a.jpg"}, []),
    (["a.jpg"], ["C:/data/a.jpg"], {"a.jpg": "C:/data/a.jpg"}, []),
    (["x/s/a.jpg", "y/s/a.jpg"], ["s/a.jpg"], {}, ["x/s/a.jpg", "y/s/a.jpg"]),
    (["s/a.jpg", "y/s/a.jpg"], ["s/a.jpg"], {"s/a.jpg": "s/a.jpg"}, []),
]


@pytest.mark.parametrize(("files", "names", "want", "ambiguous"), TABLE)
def test_each_image_gets_its_own_name_or_none(
    tmp_path: Path, files: list[str], names: list[str], want: dict[str, str], ambiguous: list[str]
) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    for own in ([str(tmp_path)], []):  # a folder, and a list of files
        got = match_images([str(tmp_path / f) for f in files], names, own, [str(tmp_path)])
        assert got.found == {str(tmp_path / f): name for f, name in want.items()}
        assert sorted(got.ambiguous) == [str(tmp_path / f) for f in ambiguous]


def test_a_file_where_the_name_says_is_meant_though_the_split_has_it_not(tmp_path: Path) -> None:
    for file in ("a.jpg", "sub/a.jpg", "two/b.jpg", "one/b.jpg"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    some = [str(tmp_path / "sub/a.jpg"), str(tmp_path / "one/b.jpg")]  # a fraction of them
    assert match_images(some, ["a.jpg", "two/b.jpg"], [str(tmp_path)]).found == {}


def test_two_folders_that_both_hold_the_name(tmp_path: Path) -> None:
    files = [str(tmp_path / f"{root}/a.jpg") for root in ("one", "two")]
    got = match_images(files, ["a.jpg"], [str(tmp_path / "one"), str(tmp_path / "two")])
    assert got.found == {} and set(got.ambiguous) == set(files)


@pytest.mark.parametrize("name", ["./s/a.jpg", "s//a.jpg", "s\\a.jpg", "s/a.jpg"])
def test_plain_names(name: str) -> None:
    assert plain_name(name) == "s/a.jpg"
