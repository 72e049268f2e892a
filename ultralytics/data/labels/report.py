"""What was wrong with a data set: a short list in the log, the whole list in a file of the run folder."""

from __future__ import annotations

from pathlib import Path

from ultralytics.data.labels.parse import Issue
from ultralytics.utils.files import atomic_write
from ultralytics.utils.log import LOGGER

REPORT_FILE = "data_report.txt"
REPORT_LINES = 10


class Reporting:
    """For data sets: `report` lists findings; `prefix` names the split; `save_dir`, if given, gets the whole list."""

    report: list[Issue]
    prefix: str
    save_dir: str | Path | None

    def _log_report(self, what: str = "images or label rows are left out or cleaned") -> None:
        """Log the first findings, and write all of them to `save_dir`."""
        if not self.report:
            return
        lines = [f"  {issue}" for issue in self.report[:REPORT_LINES]]
        rest = len(self.report) - len(lines)
        target = self.write_report(self.save_dir) if self.save_dir else None
        if rest or target:
            more = f"and {rest} more" if rest else "all of it"
            lines.append(f"  {more}{f', in {target}' if target else ' (see the report attribute of the data set)'}")
        head = f"{self.prefix}{len(self.report)} finding(s); these {what}:"
        LOGGER.warning("\n".join([head, *lines]))

    def write_report(self, folder: str | Path) -> Path:
        """Write the findings to `data_report.txt`; findings of other splits in that file stay."""
        path = Path(folder) / REPORT_FILE
        old = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        lines = [f"{self.prefix}{issue}" for issue in self.report]
        with atomic_write(path) as file:
            file.write("".join(f"{line}\n" for line in dict.fromkeys([*old, *lines])))
        return path
