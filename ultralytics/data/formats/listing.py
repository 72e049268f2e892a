"""Matching of a split's images with the names in an annotation file.

Files name images by their path below some folder, by an absolute path of another machine, or by the bare file name. An
image that the name of another one could match gets no labels rather than wrong ones.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath


@dataclass
class Matches:
    """`found` is {image file: name}; `ambiguous` holds the images that share a name with others of the split."""

    found: dict[str, str] = field(default_factory=dict)
    ambiguous: dict[str, str] = field(default_factory=dict)


def plain_name(name: str) -> str:
    """Return a listed name with plain separators.

    >>> plain_name("./a/b.jpg"), plain_name("C:\\\\data\\\\b.jpg")
    ('a/b.jpg', 'C:/data/b.jpg')
    """
    return str(PurePosixPath(name.replace("\\", "/")))


def match_images(
    im_files: Iterable[str], names: Collection[str], own: Sequence[str] = (), others: Sequence[str] = ()
) -> Matches:
    """Match images with plain names: by the longest end of their path that is listed, else by a bare name.

    A name that is the end of several paths means the one that lies there below one of the split's `own` folders, else
    below one of the `others` that names may start from, else the least deep one. A bare name counts only where a
    single image and a single name have it, and no file lies where the name says.
    """
    deepest = max((name.count("/") for name in names), default=0) + 1
    known, claims, rest = frozenset(names), defaultdict[str, list[str]](list), []
    for file in im_files:
        parts = _plain(file).split("/")
        ends = ("/".join(parts[i:]) for i in range(max(0, len(parts) - deepest), len(parts)))
        name = next(filter(known.__contains__, ends), None)
        if name is None:
            rest.append(file)
        else:
            claims[name].append(file)
    matches = Matches()
    for name, files in claims.items():
        chosen = _meant(name, files, own, others)
        if chosen is not None:
            matches.found[chosen] = name
        elif len(files) > 1:
            matches.ambiguous.update(dict.fromkeys(files, name))
    _match_bare(rest, known, claims, [*own, *others], matches)
    return matches


def _match_bare(
    files: Sequence[str], names: Collection[str], taken: Collection[str], roots: Sequence[str], matches: Matches
) -> None:
    """Add the images whose path is not listed at all, by bare names that are still free."""
    if not files:
        return
    by_bare, files_of = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
    for name in names:
        by_bare[name.rpartition("/")[2]].append(name)
    for file in files:
        files_of[os.path.basename(file)].append(file)
    for bare, same in files_of.items():
        listed = by_bare.get(bare, [])
        if len(listed) != 1 or listed[0] in taken:
            continue
        if len(same) > 1:
            matches.ambiguous.update(dict.fromkeys(same, listed[0]))
        elif not _is_elsewhere(listed[0], same[0], roots):
            matches.found[same[0]] = listed[0]


def _meant(name: str, files: Sequence[str], own: Sequence[str], others: Sequence[str]) -> str | None:
    """Return the image that a name means among those whose paths end in it, None where that is ambiguous."""
    for roots in (own, others):
        places = {_plain(os.path.join(root, name)) for root in roots}
        exact = [file for file in files if _plain(file) in places]
        if exact:
            return exact[0] if len(exact) == 1 else None
    if len(files) == 1:  # a path with folders is specific enough
        return files[0] if "/" in name or not _is_elsewhere(name, files[0], [*own, *others]) else None
    least = min(_plain(file).count("/") for file in files)
    shallow = [file for file in files if _plain(file).count("/") == least]
    return shallow[0] if len(shallow) == 1 and not _is_elsewhere(name, shallow[0], [*own, *others]) else None


def _is_elsewhere(name: str, file: str, roots: Sequence[str]) -> bool:
    """Return whether another file than this one lies where the name says."""
    places = [path for root in roots if os.path.exists(path := os.path.join(root, name))]
    return any(os.path.realpath(path) != os.path.realpath(file) for path in places)


def _plain(path: str) -> str:
    return path.replace(os.sep, "/")
