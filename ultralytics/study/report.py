"""What a study writes into its folder: tables, figures, and one HTML page that holds them all."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from ultralytics.nn.build.insertion import flow_text
from ultralytics.nn.build.spec import YAML_PARTS
from ultralytics.study.figures import draw_cost, draw_run_bands
from ultralytics.study.pages.html import details, diff_html, document, picture_file, table_html
from ultralytics.study.quality import measured_quality
from ultralytics.study.results import Findings, columns_of, read_tables
from ultralytics.study.statistics import Judgement
from ultralytics.study.tables import (
    StudyTable,
    judgement_records,
    judgement_table,
    metrics_table,
    notes,
    run_records,
    seeds_table,
)
from ultralytics.utils.config.yaml_io import YAML
from ultralytics.utils.files import atomic_write
from ultralytics.utils.log import LOGGER
from ultralytics.utils.plotting.quality import QUALITY_CAPTIONS, draw_quality
from ultralytics.utils.tables import comma_separated

_SIGNED = re.compile(r"(?<![\w.$-])([+-]\d[\d.]*)(?![\w-])")
"""A number with its sign in a cell: in the text of LaTeX its minus would be a hyphen."""


class StudyReport(NamedTuple):
    """What was written, the judgements of AP50-95, and the sentences beside the tables."""

    files: list[Path]
    rows: list[Judgement]
    sentences: list[str]

    def log(self, findings: Findings) -> None:
        """Log the table of judgements, the sentences, and the runs without a result."""
        if self.rows:
            LOGGER.info("\n" + judgement_table(findings, self.rows).render("text"))
        for sentence in self.sentences:
            LOGGER.info(sentence)
        for line in (*lines_of(findings.stopped), *lines_of(findings.failures)):
            LOGGER.warning(line)


def write_study_report(
    findings: Findings,
    folder: Path,
    title: str,
    yamls: Mapping[str, Mapping[str, Any]] | None = None,
    fmt: str = "pdf",
    command: str = "",
    differences: Sequence[tuple[str, ...]] = (),
) -> StudyReport:
    """Write study.csv, .md, .tex, runs.csv, the figures and report.html.

    `yamls` are the models by arm, whose differences to the base the page shows, `differences` a table of arguments.
    Failures are listed even where nothing was finished.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = findings.judgements()
    parts = [judgement_table(findings, rows), seeds_table(rows), metrics_table(findings)] if rows else []
    said = notes(findings, rows) if rows else []
    texts = {"runs.csv": _csv(run_records(findings)), "study.md": _markdown(title, parts, said, findings, command)}
    if parts:
        texts |= {"study.csv": _csv(judgement_records(findings, rows)), "study.tex": _latex(parts, said)}
    files = [_write(folder / name, text) for name, text in texts.items()]
    files += _figures(findings, rows, folder, fmt)
    page = [
        *_page(findings, said, parts, folder, command),
        *_differences(findings, yamls or {}, differences),
        _runs(findings),
    ]
    files.append(_write(folder / "report.html", document(title, page)))
    return StudyReport(files, rows, said)


def _figures(findings: Findings, rows: Sequence[Judgement], folder: Path, fmt: str) -> list[Path]:
    """Draw everything that the runs hold the data of."""
    tables = read_tables(findings.folders())
    files = draw_cost(findings, rows, folder / "cost", fmt) if rows else []
    files += draw_run_bands(tables, folder / "curves", fmt=fmt)
    files += draw_run_bands(tables, folder / "all_curves", columns_of(tables), fmt)
    return files + draw_quality(measured_quality(findings), folder, fmt)


def _write(file: Path, text: str) -> Path:
    with atomic_write(file) as f:
        f.write(text)
    return file


def _csv(records: list[dict[str, Any]]) -> str:
    shown = [tuple("" if v is None else str(v) for v in record.values()) for record in records]
    rows = [tuple(records[0]), *shown] if records else []
    return "".join(f"{line}\n" for line in comma_separated(rows))


def lines_of(reasons: Mapping[tuple[str, int], str]) -> list[str]:
    """Return a line for each run without a result."""
    return [f"{arm}, seed {seed}: {reason}" for (arm, seed), reason in sorted(reasons.items())]


def _markdown(title: str, parts: list[StudyTable], said: list[str], findings: Findings, command: str) -> str:
    lines = [f"# {title}", ""]
    lines += [f"Command: `{command}`", ""] if command else []
    for part in parts:
        lines += [f"## {part.title}", "", part.render("markdown"), ""]
    lines += [f"- {sentence}" for sentence in said]
    for head, reasons in (("Stopped early", findings.stopped), ("Failures", findings.failures)):
        if reasons:
            lines += ["", f"## {head}", "", *(f"- {line.splitlines()[0]}" for line in lines_of(reasons))]
    if not parts:
        lines += ["", f"The base '{findings.base}' has no finished run: nothing can be compared."]
    return "\n".join(lines) + "\n"


def _latex(parts: list[StudyTable], said: list[str]) -> str:
    blocks = [f"% {part.title}\n{part.render('latex')}" for part in parts]
    text = _SIGNED.sub(r"$\1$", "\n\n".join(blocks).replace("±", r"$\pm$"))
    needs = ["% needs \\usepackage{booktabs}"]
    needs += [] if text.isascii() else ["% names that are not ASCII need XeLaTeX or LuaLaTeX and a font that has them"]
    return "\n".join([*needs, *(f"% {s}" for s in said), "", text]) + "\n"


def _page(
    findings: Findings,
    said: Sequence[str],
    parts: list[StudyTable],
    folder: Path,
    command: str,
) -> Iterator[str]:
    """Yield the parts of the page."""
    if command:
        yield f"<p class=note><code>{escape(command)}</code></p>"
    for part in parts[:1]:
        yield f"<h2>{escape(part.title)}</h2>" + table_html(part.rows, part.bold, {len(part.rows[0]) - 1})
        yield "<ul>" + "".join(f"<li>{escape(s)}</li>" for s in said) + "</ul>"
    for head, reasons in (("Stopped early", findings.stopped), ("Failures", findings.failures)):
        if reasons:
            yield f"<h2>{head}: {len(reasons)}</h2><ul>"
            yield "".join(f"<li class=bad>{escape(line)}</li>" for line in lines_of(reasons)) + "</ul>"
    yield '<h2>Figures</h2><div class="gallery">'
    yield picture_file(folder / "cost.png", "AP50-95 against cost; bars are the deviation over seeds")
    yield picture_file(
        folder / "curves.png", "AP50-95 on the validation split; bands from the lowest to the highest seed"
    )
    for name, caption in QUALITY_CAPTIONS.items():
        yield picture_file(folder / f"{name}.png", caption)
    yield "</div>"
    yield f'<div class="tall">{picture_file(folder / "all_curves.png", "Losses and metrics of all runs")}</div>'
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
    base = model_lines(yamls[findings.base])
    for arm, data in yamls.items():
        if arm == findings.base:
            continue
        lines = list(difflib.unified_diff(base, model_lines(data), findings.base, arm, lineterm="", n=2))
        yield details(arm, diff_html(lines), is_open=True) if lines else f"<p>{escape(arm)}: the same model</p>"


def model_lines(data: Mapping[str, Any]) -> list[str]:
    """Return a model YAML as lines, a row in one line as in the shipped files.

    >>> model_lines({"nc": 3, "backbone": [[-1, 1, "SHSA", []]]})
    ['nc: 3', 'backbone:', '  - [-1, 1, SHSA, []]']
    """
    lines = list[str]()
    for key, value in data.items():
        if key in YAML_PARTS and isinstance(value, list):
            lines += [f"{key}:", *(f"  - {flow_text(row)}" for row in value)]
        else:
            lines += YAML.dumps({key: value}).splitlines()
    return lines


def _runs(findings: Findings) -> str:
    """The table of all runs."""
    rows: list[tuple[str, ...]] = [("arm", "seed", "AP50-95", "minutes", "reused", "folder")]
    for arm, runs in findings.outcomes.items():
        for seed, o in sorted(runs.items()):
            reused = "yes" if (arm, seed) in findings.reused else ""
            rows.append((arm, str(seed), f"{o.metrics['AP']:.4f}", f"{o.seconds / 60:.1f}", reused, o.folder))
    return "<h2>Runs</h2>" + table_html(rows, text={5})
