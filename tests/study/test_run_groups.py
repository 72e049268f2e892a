"""Run folders that exist: grouped by content and seed, compared, drawn, and shown as one page."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.engine.tiny import TINY
from tests.study.runs import outcome, write_run
from ultralytics import compare_runs, curves, report
from ultralytics.cli.main import entrypoint
from ultralytics.nn.checkpoint.format import pack_model, save_checkpoint
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.study import report as study_report
from ultralytics.study.run_groups import check_complete, group_runs, read_run
from ultralytics.study.worker import write_failure
from ultralytics.utils import YAML
from ultralytics.utils.errors import ConfigError, NotFoundError
from ultralytics.utils.plotting.paper import save_paper


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A checkpoint of the tiny network."""
    file = tmp_path_factory.mktemp("w") / "best.pt"
    save_checkpoint(file, {"ema": pack_model(RTDETRDetectionModel(TINY, verbose=False)), "model": None})
    return file.read_bytes()


@pytest.fixture
def runs(tmp_path: Path, weights: bytes) -> list[Path]:
    """Two runs with vfl and two with focal, each with the numbers of a study."""
    folders = []
    for name, seed, loss, ap in (
        ("a1", 0, "vfl", 0.5),
        ("a2", 1, "vfl", 0.52),
        ("b1", 0, "focal", 0.6),
        ("b2", 1, "focal", 0.621),
    ):
        folder = tmp_path / name
        write_run(folder, outcome(name, seed, ap, folder), drawn=[ap, ap + 0.01])
        args: dict[str, Any] = {
            "seed": seed,
            "loss": loss,
            "epochs": 3,
            "model": "tiny.yaml",
            "data": "d.yaml",
            "name": name,
        }
        YAML.save(folder / "args.yaml", args)
        (folder / "weights").mkdir()
        (folder / "weights" / "best.pt").write_bytes(weights)
        folders.append(folder)
    return folders


def test_equal_runs_are_one_group_whatever_their_seed(runs: list[Path]) -> None:
    groups = group_runs([runs[2], runs[0], runs[3], runs[1]])
    assert {name: [r.folder.name for r in group] for name, group in groups.items()} == {
        "b1": ["b1", "b2"], "a1": ["a1", "a2"],
    }  # fmt: skip


def test_one_run_twice_is_refused(runs: list[Path]) -> None:
    with pytest.raises(ConfigError, match="equal arguments, model and seed 0"):
        group_runs([runs[0], runs[0]])


def test_other_folders_are_refused(tmp_path: Path, runs: list[Path]) -> None:
    with pytest.raises(NotFoundError, match=r"no args\.yaml"):
        group_runs([tmp_path])
    (runs[0] / "weights" / "best.pt").unlink()
    with pytest.raises(NotFoundError, match="name the folder of a run that has trained"):
        group_runs(runs)


def test_runs_are_compared_as_in_a_study(tmp_path: Path, runs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("draw_cost", "draw_run_bands"):
        monkeypatch.setattr(study_report, name, lambda *_, **__: [])
    entrypoint(["compare", *map(str, runs), f"save_dir={tmp_path}/out"])
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Arguments that differ" in page and "focal" in page and all(a.startswith("data:") for a in addresses(page))
    text = (tmp_path / "out" / "study.md").read_text()
    assert "| b1 |" in text and "+0.101" in text and "better" in text
    with pytest.raises(ConfigError, match="have equal content: one group"):
        compare_runs(runs[:2])


def test_runs_that_did_not_train_to_their_end_are_not_compared_silently(
    tmp_path: Path, runs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    check_complete(read_run(runs[0]))  # 3 of 3 epochs
    YAML.save(runs[0] / "args.yaml", {**YAML.load(runs[0] / "args.yaml"), "epochs": 9})
    check_complete(read_run(runs[0]))
    assert "has trained 3 of 9 epochs" in capsys.readouterr().out
    write_failure(runs[2], "stopped early after epoch 9 of 18", stopped=True)
    with pytest.raises(ConfigError, match="did not train to its end: stopped early after epoch 9"):
        compare_runs(runs, save_dir=tmp_path / "out")


def test_weights_and_folders_are_not_mixed(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        entrypoint(["compare", str(runs[0]), str(runs[1] / "weights" / "best.pt")])
    assert "not both at once" in capsys.readouterr().err


def test_curves_have_bands_and_embedded_fonts(tmp_path: Path, runs: list[Path]) -> None:
    files = curves(runs, columns=["train/loss", "metrics/mAP50-95(B)"], out=tmp_path / "fig")
    assert [f.name for f in files] == ["fig.png", "fig.pdf"]
    pdf = files[1].read_bytes()
    assert b"/FontFile2" in pdf and b"/Type3" not in pdf  # TrueType, whole glyphs
    assert cv2.imread(str(files[0])).shape[1] == 1020  # 3.4 inches at 300 dots
    both = curves(runs, columns=["train/loss", "metrics/mAP50-95(B)"], out=tmp_path / "both", fmt="svg")
    assert [file.name for file in both] == ["both.png", "both.svg"]
    with pytest.raises(ConfigError, match=r"has a column val/none\nthere are train/loss, metrics/mAP50-95\(B\)"):
        curves(runs, columns="val/none", out=tmp_path / "fig")
    with pytest.raises(ConfigError, match="is not one of png, pdf, svg"):
        save_paper(None, tmp_path / "x", "eps")  # type: ignore[arg-type]


def test_a_run_becomes_one_page(runs: list[Path]) -> None:
    cv2.imwrite(str(runs[0] / "results.png"), np.zeros((40, 3000, 3), np.uint8))
    (runs[0] / "data_report.txt").write_text("a.txt:1: <bad row>")
    page = report(runs[0]).read_text(encoding="utf-8")
    assert "Losses and metrics over the epochs" in page and "&lt;bad row&gt;" in page and "Environment" in page
    assert "<script" not in page and '<meta name="viewport"' in page and "@media print" in page
    assert len(addresses(page)) > 1 and all(address.startswith("data:") for address in addresses(page))


class Addresses(HTMLParser):
    """Collects every address that a browser would fetch or a click would follow."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        loads = {"src", "srcset", "href", "xlink:href", "action", "data", "poster", "background", "formaction", "ping"}
        self.found += [value or "" for name, value in attrs if name in loads]
        assert tag not in {"script", "iframe", "object", "embed", "base"} and not any(
            n.startswith("on") for n, _ in attrs
        )


def addresses(page: str) -> list[str]:
    """Every address in a page, those of its style sheets included."""
    parser = Addresses()
    parser.feed(page)
    return parser.found + re.findall(r"url\(([^)]*)\)|@import", re.sub(r'"data:[^"]*"', "", page))


def test_addresses_are_found_wherever_they_stand() -> None:
    page = '<img src="a.png"><style>p { background: url(b.png) }</style><link href="data:,"><a ping="c">'
    assert addresses(page) == ["a.png", "data:,", "c", "b.png"]
    with pytest.raises(AssertionError):
        addresses("<script>1</script>")


def test_a_page_needs_a_run(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"neither args\.yaml nor metrics\.json"):
        report(tmp_path)


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_the_page_opens_in_a_browser_without_errors(tmp_path: Path, runs: list[Path]) -> None:
    page, shot = report(runs[0], tmp_path / "page.html"), tmp_path / "shot.png"
    options = ["--headless", "--no-sandbox", "--enable-logging=stderr", "--window-size=390,844", f"--screenshot={shot}"]
    command = [str(BROWSER), *options, f"--user-data-dir={tmp_path / 'profile'}", page.as_uri()]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert shot.exists() and "CONSOLE" not in result.stderr, result.stderr
