"""`yolo doctor data=X.yaml`: examine a data set before training, and report on the console, as JSON and as a page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ultralytics.data.doctor.duplicates import check_duplicates
from ultralytics.data.doctor.files import check_class_names, check_files
from ultralytics.data.doctor.finding import SHOWN_EXAMPLES, Finding, from_issues, worst, worst_first
from ultralytics.data.doctor.numbers import numbers, suggest_imgsz
from ultralytics.data.doctor.objects import check_objects
from ultralytics.data.doctor.page import page
from ultralytics.data.doctor.survey import Survey, survey
from ultralytics.data.utils import SPLITS, check_det_dataset
from ultralytics.utils.config.settings import SETTINGS
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.files import atomic_write, increment_path
from ultralytics.utils.log import LOGGER

_COLUMNS = "{:<8}{:>8}{:>8}{:>9}{:>10}{:>26}{:>22}"


@dataclass(frozen=True)
class Report:
    """What the doctor found. `safe` says that training may start: no finding is an error."""

    data: str
    safe: bool
    findings: tuple[Finding, ...]
    content: dict[str, Any] = field(repr=False)
    save_dir: Path = Path()

    @property
    def codes(self) -> set[str]:
        """The codes of all findings."""
        return {f.code for f in self.findings}


def doctor(
    data: str | Path, imgsz: int = 640, queries: int = 300, save_dir: str | Path | None = None, verbose: bool = True
) -> Report:
    """Examine a data set and write `doctor.json` and `doctor.html` into `save_dir` (by default a new run folder).

    `imgsz` is the input side and `queries` the number of queries to hold sizes and counts against. The data set itself
    is only read: no cache is written, nothing is corrected.

    Raises:
        NotFoundError: no such data YAML.
        DatasetError: the YAML itself is wrong, with file and line.
        ConfigError: a number below 1.
    """
    for key, value in (("imgsz", imgsz), ("queries", queries)):
        if not isinstance(value, int) or value < 1:
            raise ConfigError(f"{key}={value}: must be an integer of at least 1")
    content = check_det_dataset(data)
    surveys = [survey(content, split) for split in SPLITS if content.get(split)]
    findings = examine_surveys(surveys, content, queries, imgsz)
    report = _report(str(content["yaml_file"]), surveys, findings, content, (queries, imgsz))
    folder = _folder(save_dir)
    result = Report(report["data"], report["safe"], tuple(findings), report, folder)
    with atomic_write(folder / "doctor.json") as file:
        json.dump(report, file, ensure_ascii=False, indent=1)
    with atomic_write(folder / "doctor.html") as file:
        file.write(page(f"Data set {Path(report['data']).name}", report, findings, surveys, content["names"]))
    if verbose:
        LOGGER.info("\n".join(lines(result)))
    return result


def _folder(save_dir: str | Path | None) -> Path:
    if save_dir is not None:
        return Path(save_dir)
    return increment_path(Path(SETTINGS["runs_dir"]) / "doctor" / "report")


def examine_surveys(surveys: Sequence[Survey], data: dict[str, Any], queries: int, imgsz: int) -> list[Finding]:
    """Return all findings, worst first."""
    findings: list[Finding] = []
    for item in surveys:
        findings += check_files(item, data)
        findings += from_issues(item.scan.issues, item.split)
        findings += check_objects(item, queries, imgsz)
    findings += check_duplicates(surveys)
    findings += check_class_names(surveys, data["names"])
    return worst_first(findings)


def _report(
    yaml: str, surveys: Sequence[Survey], findings: Sequence[Finding], data: dict[str, Any], against: tuple[int, int]
) -> dict[str, Any]:
    """Return the content of `doctor.json`."""
    queries, imgsz = against
    size, reason = suggest_imgsz(surveys)
    return {
        "data": yaml,
        "format": data.get("format", "yolo"),
        "safe": worst(findings) != "error",
        "imgsz": imgsz,
        "queries": queries,
        "suggested_imgsz": size,
        "imgsz_reason": reason,
        "names": {str(i): n for i, n in data["names"].items()},
        "splits": {s.split: numbers(s, data["names"], queries, imgsz) for s in surveys},
        "findings": [asdict(f) for f in findings],
    }


def lines(report: Report) -> list[str]:
    """Return the report as the console shows it."""
    content = report.content
    head = _COLUMNS.format(
        "split", "images", "usable", "objects", "max/image", "box side p5/p50/p95 px", "below 8/16/32 px"
    )
    text = [f"{report.data} ({content['format']}), box sizes at imgsz={content['imgsz']}", head]
    for name, row in content["splits"].items():
        side = row["side_px"]
        sides = "/".join(f"{side[p]:.1f}" for p in ("p5", "p50", "p95")) if side else "-"
        below = "/".join(f"{v:.1%}" for v in row["by_stride"].values())
        most = f"{row['objects_per_image']['max']}"
        text.append(_COLUMNS.format(name, row["images"], row["usable"], row["objects"], most, sides, below))
    for finding in report.findings:
        prefix = f"{finding.split}: " if finding.split else ""
        text.append(f"{finding.severity}: {prefix}{finding.message} [{finding.code}] - {finding.remedy}")
        text += [f"    {example}" for example in finding.examples[:SHOWN_EXAMPLES]]
        if len(finding.examples) > SHOWN_EXAMPLES:
            text.append(f"    and {len(finding.examples) - SHOWN_EXAMPLES} more")
    text.append(f"suggested imgsz: {content['suggested_imgsz']} ({content['imgsz_reason']})")
    text.append(f"{'safe' if report.safe else 'NOT safe'} to train; report: {report.save_dir / 'doctor.html'}")
    return text
