"""Images that are there more than once: by content, or nearly, within a split and across splits.

Shapes: N images, K bits of a fingerprint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ultralytics.data.doctor.finding import Finding, FindingRule, finding
from ultralytics.data.doctor.survey import ImageProperties, Survey

NEAR = 12  # of 256 bits that near duplicates may differ in
_BANDS = 16  # with NEAR differing bits at least four of them agree
_CROWDED = 64  # images that share a band, from which on only neighbours (such as frames of a video) are compared

_RULES = {
    "duplicate_image": FindingRule("warning", "image(s) that are there twice in this split", "keep one of them"),
    "near": FindingRule(
        "warning", "image(s) that nearly equal another of this split", "keep one of them, if they are the same"
    ),
    "leak": FindingRule("error", "image(s) that are in {} as well", "take them out of one of the splits"),
    "near_leak": FindingRule("warning", "image(s) that nearly equal one of {}", "keep such images in one split"),
}


def check_duplicates(surveys: Sequence[Survey]) -> list[Finding]:
    """Return findings about repeated images within each split and between each pair of splits."""
    findings: list[Finding] = []
    exact: set[tuple[str, str]] = set()
    for survey in surveys:
        pairs = same_content(survey.images, survey.images)
        exact |= set(pairs)
        findings += _findings("duplicate_image", pairs, survey.split)
    for first, second in combinations(surveys, 2):
        pairs = same_content(first.listed, second.listed)
        exact |= set(pairs)
        findings += _findings("leak", pairs, second.split, first.split)
    owner = {image.path: s.split for s in reversed(surveys) for image in s.images}
    once = {image.path: image for s in surveys for image in s.images}  # two splits may hold the same image
    similar = [p for p in near_pairs(list(once.values())) if p not in exact]
    for split in dict.fromkeys(owner.values()):
        of_split = [(a, b) for a, b in similar if owner[b] == split]
        findings += _findings("near", [p for p in of_split if owner[p[0]] == split], split)
        for other in dict.fromkeys(owner[a] for a, _ in of_split if owner[a] != split):
            findings += _findings("near_leak", [p for p in of_split if owner[p[0]] == other], split, other)
    return findings


def _findings(code: str, pairs: Iterable[tuple[str, str]], split: str, other: str = "") -> list[Finding]:
    firsts = {b: a for a, b in reversed(list(pairs))}
    rule = _RULES[code]
    lines = [f"{b}: like {a}" for b, a in sorted(firsts.items())]
    return [finding(code, rule._replace(what=rule.what.format(other)), lines, split)] if lines else []


def same_content(first: Sequence[ImageProperties], second: Sequence[ImageProperties]) -> list[tuple[str, str]]:
    """Return pairs (earlier, later) of files with the same bytes; of one list with itself, each later one once."""
    owner: dict[str, str] = {}
    for image in first:
        if image.digest:
            owner.setdefault(image.digest, image.path)
    same_list = first is second
    return [
        (owner[f.digest], f.path)
        for f in second
        if f.digest in owner and f.spread > 0 and not (same_list and owner[f.digest] == f.path)
    ]


def near_pairs(images: Sequence[ImageProperties]) -> list[tuple[str, str]]:
    """Return pairs (earlier, later) whose fingerprints differ in at most NEAR bits.

    Only images that share one of 16 bands of bits are compared, so the work grows with the number of similar images and
    not with the square of N.
    """
    readable = [image for image in images if image.fingerprint is not None]
    if len(readable) < 2:
        return []
    bits = np.stack([image.fingerprint for image in readable if image.fingerprint is not None])  # (N, K)
    pairs = _candidates(bits)
    if not len(pairs):
        return []
    differing = (bits[pairs[:, 0]] != bits[pairs[:, 1]]).sum(1)
    return [(readable[a].path, readable[b].path) for a, b in pairs[differing <= NEAR].tolist()]


def _candidates(bits: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return index pairs (P, 2), first < second, of rows that agree in at least one band."""
    bands = np.packbits(bits, axis=1).reshape(len(bits), _BANDS, -1)  # (N, bands, bytes)
    candidates: set[tuple[int, int]] = set()
    for band in range(_BANDS):
        _, group, counts = np.unique(bands[:, band], axis=0, return_inverse=True, return_counts=True)
        order = np.argsort(group.ravel(), kind="stable")
        for members in np.split(order, np.cumsum(counts)[:-1]):
            pairs: Callable[[list[int], int], Iterator[Any]] = combinations if len(members) <= _CROWDED else _neighbours
            candidates.update(pairs(members.tolist(), 2))
    return np.array(sorted(candidates), np.int64).reshape(-1, 2)


def _neighbours(members: list[int], _: int) -> Iterator[tuple[int, int]]:
    """Give each member with the next one."""
    return pairwise(members)
