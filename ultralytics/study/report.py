"""What a study writes into its folder: tables, figures, and one HTML page that holds them all."""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ultralytics.study.figures import draw_cost, draw_run_bands
from ultralytics.study.html import details, diff_html, document, picture_file, table_html
from ultralytics.study.results import Findings, columns_of
from ultralytics.study.statistics import Judgement
from ultralytics.study.tables import StudyTable, judgement_table, metrics_table, notes, run_records, seeds_table
from ultralytics.utils.config.yaml_io import YAML
from ultralytics.utils.files import atomic_write


def write_study_report(
    findings: Findings,
    folder: Path,
    title: str,
    yamls: Mapping[str, Mapping[str, Any]] | None = None,
    fmt: str = "pdf",
    command: str = "",
    differences: Sequence[tuple[str, ...]] = (),
) -> list[Path]:
    """Write study.csv, .md, .tex, runs.csv, the figures and report.html; return the files.

    `yamls` are the models by arm, whose differences to the base the page shows, `differences` a table of arguments.
    Failures are listed even where nothing
    was finished.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = findings.judgements()
    parts = [judgement_table(findings, rows), seeds_table(rows), metrics_table(findings)] if rows else []
    files = [_write(folder / "runs.csv", _csv(run_records(findings)))]
    if parts:
        said = notes(findings, rows)
        files += [
            _write(folder / "study.csv", parts[0].render("csv") + "\n"),
            _write(folder / "study.md", _markdown(title, parts, said, findings, command)),
            _write(folder / "study.tex", _latex(parts, said)),
            *draw_cost(findings, rows, folder / "cost", fmt),
        ]
    else:
        files.append(_write(folder / "study.md", _markdown(title, [], [], findings, command)))
    folders = findings.folders()
    files += draw_run_bands(folders, folder / "curves", fmt=fmt)
    first = next(iter(folders.values()), [])
    files += draw_run_bands(folders, folder / "all_curves", columns_of(first), fmt)
    files.append(
        _write(
            folder / "report.html",
            document(
                title,
                [
                    *_page(findings, rows, parts, folder, command),
                    *_differences(findings, yamls or {}, differences),
                    _runs(findings),
                ],
            ),
        )
    )
    return files


def _write(file: Path, text: str) -> Path:
    with atomic_write(file) as f:
        f.write(text)
    return file


def _csv(records: list[dict[str, Any]]) -> str:
    if not records:
        return ""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def lines_of_failures(findings: Findings) -> list[str]:
    """Return a line for each failed run."""
    return [f"{arm}, seed {seed}: {reason}" for (arm, seed), reason in sorted(findings.failures.items())]


def _markdown(title: str, parts: list[StudyTable], said: list[str], findings: Findings, command: str) -> str:
    lines = [f"# {title}", ""]
    lines += [f"Command: `{command}`", ""] if command else []
    for part in parts:
        lines += [f"## {part.title}", "", part.render("markdown"), ""]
    lines += [f"- {sentence}" for sentence in said]
    failures = lines_of_failures(findings)
    if failures:
        lines += ["", "## Failures", "", *(f"- {line.splitlines()[0]}" for line in failures)]
    if not parts:
        lines += ["", f"The base '{findings.base}' has no finished run: nothing can be compared."]
    return "\n".join(lines) + "\n"


def _latex(parts: list[StudyTable], said: list[str]) -> str:
    blocks = [f"% {part.title}\n{part.render('latex')}" for part in parts]
    text = "\n\n".join(blocks).replace("±", r"$\pm$")
    return "\n".join(["% needs \\usepackage{booktabs}", *(f"% {s}" for s in said), "", text]) + "\n"


def _page(
    findings: Findings,
    rows: list[Judgement],
    parts: list[StudyTable],
    folder: Path,
    command: str,
) -> Iterator[str]:
    """Yield the parts of the page."""
    if command:
        yield f"<p class=note><code>{escape(command)}</code></p>"
    for part in parts[:1]:
        yield f"<h2>{escape(part.title)}</h2>" + table_html(part.rows, part.bold, {len(part.rows[0]) - 1})
        yield "<ul>" + "".join(f"<li>{escape(s)}</li>" for s in notes(findings, rows)) + "</ul>"
    failures = lines_of_failures(findings)
    if failures:
        yield f"<h2>Failures: {len(failures)}</h2><ul>"
        yield "".join(f"<li class=bad>{escape(line)}</li>" for line in failures) + "</ul>"
    yield '<h2>Figures</h2><div class="gallery">'
    yield picture_file(folder / "cost.png", "AP50-95 against cost; bars are the deviation over seeds")
    yield picture_file(
        folder / "curves.png", "AP50-95 on the validation split; bands from the lowest to the highest seed"
    )
    yield "</div>"
    yield picture_file(folder / "all_curves.png", "Losses and metrics of all runs")
    for part in parts[1:]:
        yield f"<h2>{escape(part.title)}</h2>" + table_html(part.rows)


def _differences(
    findings: Findings, yamls: Mapping[str, Mapping[str, Any]], arguments: Sequence[tuple[str, ...]]
) -> Iterator[str]:
    """Yield the table of arguments, and the unified difference of each model YAML to the base's."""
    if len(arguments) > 1:
        yield "<h2>Arguments that differ</h2>" + table_html(arguments)
    if findings.base not in yamls:
        return
    yield "<h2>Differences of the model YAMLs to the base</h2>"
    base = YAML.dumps(yamls[findings.base]).splitlines()
    for arm, data in yamls.items():
        if arm == findings.base:
            continue
        lines = list(difflib.unified_diff(base, YAML.dumps(data).splitlines(), findings.base, arm, lineterm="", n=2))
        yield details(arm, diff_html(lines), is_open=True) if lines else f"<p>{escape(arm)}: the same model</p>"


def _runs(findings: Findings) -> str:
    """The table of all runs."""
    rows: list[tuple[str, ...]] = [("arm", "seed", "AP50-95", "minutes", "reused", "folder")]
    for arm, runs in findings.outcomes.items():
        for seed, o in sorted(runs.items()):
            reused = "yes" if (arm, seed) in findings.reused else ""
            rows.append((arm, str(seed), f"{o.metrics['AP']:.4f}", f"{o.seconds / 60:.1f}", reused, o.folder))
    return "<h2>Runs</h2>" + table_html(rows, text={5})
