"""One finding about a data set, and what each kind of damage that a scan reports means for training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple

from ultralytics.data.labels.parse import Issue

Severity = Literal["error", "warning", "note"]
ORDER: tuple[Severity, ...] = ("error", "warning", "note")
SHOWN_EXAMPLES = 3  # of a finding on the console and in the training log


@dataclass(frozen=True)
class Finding:
    """Something about a data set that the user should know.

    `code` is a short identifier (`leak`, `pixels`, ...), `message` one line with the count, `examples` places such as
    `file:line: reason`, `remedy` what to do. An "error" means that training would stop or learn something wrong, a
    "warning" that it continues without a part of the data, or on data that look wrong; a "note" is for information.
    """

    code: str
    severity: Severity
    message: str
    count: int = 1
    split: str = ""
    examples: tuple[str, ...] = ()
    remedy: str = ""

    def __str__(self) -> str:
        prefix = f"{self.split}: " if self.split else ""
        example = f"; {self.examples[0]}" if self.examples else ""
        return f"{self.severity}: {prefix}{self.message} [{self.code}]{example}"


class FindingRule(NamedTuple):
    """How findings of one kind are worded: severity, what they are (after a count), what to do."""

    severity: Severity
    what: str
    remedy: str


_UNITS = "divide x and w by the image's width, y and h by its height"
FINDING_RULES: Mapping[str, FindingRule] = MappingProxyType(
    {
        "class": FindingRule(
            "error", "object(s) of a class that is not among the names", "correct the class, or add its name"
        ),
        "columns": FindingRule("error", "label row(s) with a wrong number of columns", "a row is: class cx cy w h"),
        "negative": FindingRule(
            "error", "label row(s) with negative values", "coordinates run from 0 to 1, w and h above 0"
        ),
        "pixels": FindingRule("error", "label row(s) that look like pixels", _UNITS),
        "percent": FindingRule("error", "label row(s) that look like percent", "divide the coordinates by 100"),
        "outside": FindingRule("warning", "label row(s) beyond the image", "cut the boxes off at the image's frame"),
        "cut": FindingRule("warning", "box(es) that reach beyond the image", "training cuts them off; redraw them"),
        "axes": FindingRule("warning", "box(es) whose width and height seem exchanged", "a row is: class cx cy w h"),
        "corners": FindingRule(
            "warning", "box(es) that look like corners", "a row is: class cx cy w h, not x1 y1 x2 y2"
        ),
        "number": FindingRule("warning", "label row(s) that are not numbers", "correct or delete the rows"),
        "area": FindingRule("warning", "box(es) without area", "delete the rows, or redraw the boxes"),
        "duplicate": FindingRule(
            "warning", "repeated label row(s)", "delete the repetitions; training leaves them out"
        ),
        "mixed": FindingRule("note", "label file(s) that mix boxes and polygons", "only the boxes are used"),
        "image": FindingRule(
            "warning", "image(s) that cannot be read", "replace or delete them; training leaves them out"
        ),
        "unreadable": FindingRule("warning", "label file(s) that cannot be read", "save them as UTF-8 text"),
        "labels": FindingRule(
            "warning", "image(s) left out since none of their label rows can be used", "correct the rows"
        ),
        "syntax": FindingRule("error", "annotation file(s) that are not well formed", "export the annotations again"),
        "crowd": FindingRule("note", "crowd or ignored region(s) left out", "no training targets"),
        "unlisted": FindingRule(
            "warning", "image(s) that the annotation file does not list", "list them, even without boxes"
        ),
        "listed": FindingRule(
            "warning", "image(s) that the annotation file lists twice", "keep one entry with one id for each"
        ),
        "missing": FindingRule(
            "warning", "listed image(s) that do not exist", "bring the images, or delete the entries"
        ),
        "category": FindingRule("warning", "annotation(s) of an unknown category or image", "correct the ids"),
        "merged": FindingRule(
            "warning", "class name(s) that do not distinguish classes", "give each class its own name"
        ),
        "size": FindingRule(
            "warning", "image(s) whose size is not the one noted with the labels", "label the images again"
        ),
    }
)
"""What the kinds of `data.labels.Issue` mean."""


def from_issues(issues: Iterable[Issue], split: str = "") -> list[Finding]:
    """Return one finding for each kind of issue that a scan has reported, worst first."""
    groups: dict[str, list[Issue]] = {}
    for issue in issues:
        groups.setdefault(issue.kind, []).append(issue)
    findings = []
    for kind, members in groups.items():
        rule = FINDING_RULES.get(kind, FindingRule("warning", f"finding(s) of kind {kind}", ""))
        findings.append(finding(kind, rule, [str(i) for i in members], split))
    return worst_first(findings)


def finding(
    code: str, rule: FindingRule, examples: Sequence[str], split: str = "", count: int | None = None
) -> Finding:
    """Return a finding with a count (by default that of the examples) in front of the rule's message."""
    n = len(examples) if count is None else count
    return Finding(code, rule.severity, f"{n} {rule.what}", n, split, tuple(examples), rule.remedy)


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings by severity; those of one severity keep their order."""
    return sorted(findings, key=lambda f: ORDER.index(f.severity))


def worst(findings: Iterable[Finding]) -> Severity | None:
    """Return the worst severity among findings, None when there are none."""
    return min((f.severity for f in findings), key=ORDER.index, default=None)
