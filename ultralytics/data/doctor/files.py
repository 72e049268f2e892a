"""Findings about files: strays beside the images, wrong names, images without labels and labels without images."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from ultralytics.data.doctor.finding import Finding, FindingRule, finding
from ultralytics.data.doctor.survey import FLAT, Survey, folders_of
from ultralytics.data.paths import IMG_FORMATS, img2label_paths, suffix_of, walk_files

SIDECARS = frozenset({"txt", "xml", "json", "cache", "npy", "yaml", "yml", "md", "csv"})
_LABEL_SUFFIX = {"yolo": "txt", "voc": "xml"}

_RULES = {
    "stopped": FindingRule("error", "the split cannot be read", "see the message"),
    "orphan": FindingRule("warning", "label file(s) without an image", "bring the images, or delete the label files"),
    "unlabelled": FindingRule("warning", "image(s) without a label file", "label them; they train as background"),
    "background": FindingRule("note", "image(s) without objects", "good as backgrounds, if nothing was forgotten"),
    "stem": FindingRule(
        "warning", "image(s) that share one label file with another image", "give the images different names"
    ),
    "format": FindingRule("warning", "file(s) that are not in a readable image format", "convert them to JPEG or PNG"),
    "suffix": FindingRule(
        "note", "image(s) whose suffix names another format", "they are read by content; rename them"
    ),
    "case": FindingRule("warning", "label file(s) whose suffix is not in lower case", "rename them to .txt or .xml"),
    "blank": FindingRule("warning", "image(s) that show a single colour", "delete them"),
    "decode": FindingRule(
        "error", "image(s) with a damaged body", "replace or delete them; a run stops where it reads one"
    ),
    "exif": FindingRule("note", "image(s) turned by an EXIF mark", "boxes must fit the upright image"),
    "link": FindingRule("warning", "link(s) that lead nowhere", "correct or delete them"),
}


def check_files(survey: Survey, data: Mapping[str, Any]) -> list[Finding]:
    """Return findings about the files of a split."""
    if survey.error:
        return [finding("stopped", _RULES["stopped"], [survey.error], survey.split)]
    form = str(data.get("format", "yolo"))
    places: dict[str, list[str]] = {
        "stem": list(_shared_stems(survey.im_files)) if form in _LABEL_SUFFIX else [],
        "suffix": [f"{f.path}: the content is {f.kind}" for f in survey.images if f.misnamed],
        "blank": [f.path for f in survey.images if f.decoded and f.kind and f.fingerprint is None and f.spread < FLAT],
        "decode": [f.path for f in survey.images if not f.decoded],
        "exif": [f.path for f in survey.images if f.turned],
        "background": [d["im_file"] for d in survey.labels if not len(d["cls"])],
    }
    for code, path in _strays(survey):
        places.setdefault(code, []).append(path)
    if form in _LABEL_SUFFIX:
        for code, path in _pairing(survey, _LABEL_SUFFIX[form]):
            places.setdefault(code, []).append(path)
    broken = {issue.file for issue in survey.scan.issues if issue.kind == "image"}
    for code in ("blank", "decode"):
        places[code] = [p for p in places[code] if p not in broken]
    return [finding(code, _RULES[code], sorted(paths), survey.split) for code, paths in places.items() if paths]


def _shared_stems(im_files: Sequence[str]) -> Iterator[str]:
    """Give the images whose label file is that of an earlier image."""
    owners: dict[str, str] = {}
    for image, label in zip(im_files, img2label_paths(im_files), strict=True):
        if label in owners:
            yield f"{image}: as {owners[label]}"
        owners.setdefault(label, image)


def _strays(survey: Survey) -> Iterator[tuple[str, str]]:
    """Give files in the image folders that are not images, and links to nothing."""
    for folder in folders_of(survey.source):
        for parent, names in walk_files(folder):
            for name in names:
                path = os.path.join(parent, name)
                if os.path.islink(path) and not os.path.exists(path):
                    yield "link", path
                elif suffix_of(name) not in IMG_FORMATS | SIDECARS:
                    yield "format", path


def _pairing(survey: Survey, suffix: str) -> Iterator[tuple[str, str]]:
    """Give label files without image and images without label file."""
    label_files = survey.reader.label_files if survey.reader else []
    for image, label in zip(survey.im_files, label_files, strict=False):
        if not os.path.exists(label):
            yield "unlabelled", image
    if folders_of(survey.source):  # a list takes some images of a folder: the others' labels are not orphans
        yield from _orphans(frozenset(label_files), suffix)


def _orphans(wanted: Set[str], suffix: str) -> Iterator[tuple[str, str]]:
    """Give the label files beside the `wanted` ones: without an image, or with a suffix in upper case."""
    bases = {os.path.splitext(f)[0] for f in wanted}
    for folder in filter(os.path.isdir, sorted({os.path.dirname(f) for f in wanted})):
        for name in sorted(os.listdir(folder)):
            path = os.path.join(folder, name)
            if suffix_of(name) != suffix or path in wanted or _is_list(path):
                continue
            base = os.path.splitext(path)[0]
            yield ("case", path) if base in bases and not name.endswith(suffix) else ("orphan", path)


def _is_list(path: str) -> bool:
    """Return whether a text file is not a label file: a list beside the images, or notes such as classes.txt."""
    return Path(path).stem in {"classes", "labels", "obj", "predefined_classes", "readme", "train", "val", "test"}


def check_class_names(surveys: Sequence[Survey], names: Mapping[int, str]) -> list[Finding]:
    """Return findings about the classes: names given twice, without an object, in one split only, or rare."""
    findings = []
    doubled = [name for name, count in Counter(str(n).strip().casefold() for n in names.values()).items() if count > 1]
    if doubled:
        rule = FindingRule("warning", "class name(s) given more than once", "give each class its own name")
        findings.append(finding("names", rule, doubled))
    counts = {s.split: class_counts(s, len(names)) for s in surveys if s.labels}
    train = counts.get("train")
    if train is None:
        return findings
    absent = [f"{i} '{names[i]}'" for i, n in enumerate(train) if not n]
    if absent:
        rule = FindingRule("warning", "class(es) without a training object", "add examples, or take the names out")
        findings.append(finding("absent", rule, absent, "train"))
    for split, other in counts.items():
        unseen = [f"{i} '{names[i]}': {n} objects" for i, n in enumerate(other) if n and not train[i]]
        if unseen and split != "train":
            rule = FindingRule("error", "class(es) that are never trained", "add examples of them to train")
            findings.append(finding("unseen", rule, unseen, split))
    rare = [f"{i} '{names[i]}': {n} of {max(train)}" for i, n in enumerate(train) if 0 < n < max(train) / 100]
    if rare:
        rule = FindingRule("note", "class(es) a hundred times rarer than the most common", "add examples of them")
        findings.append(finding("rare", rule, rare, "train"))
    return findings


def class_counts(survey: Survey, nc: int) -> list[int]:
    """Return the number of objects of each class."""
    counts = Counter(int(c) for d in survey.labels for c in d["cls"].ravel().tolist())
    return [counts.get(i, 0) for i in range(nc)]
