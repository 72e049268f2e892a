"""Tracker YAMLs: what their names become, and what is refused. The package `trackers` is not needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from ultralytics.engine.tracking import settings
from ultralytics.engine.tracking.settings import TRACKER_CLASSES, read_tracker
from ultralytics.utils.errors import ConfigError, MissingPackageError, NotFoundError


@pytest.mark.parametrize("kind", TRACKER_CLASSES)
def test_the_shipped_files(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = read_tracker(f"{kind}.yaml")
    options = dict(found.options)
    assert (found.kind, found.low) == (kind, 0.1) and read_tracker(kind) == found
    assert options["lost_track_buffer"] == 30 and options["minimum_consecutive_frames"] == 1
    assert 0 < options.get("minimum_iou_threshold", options.get("minimum_iou_threshold_first_assoc")) < 0.31
    assert "counterpart" not in capsys.readouterr().out


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_names_of_the_interface(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (
        "tracker_type: botsort\ntrack_high_thresh: 0.5\nnew_track_thresh: 0.6\ntrack_buffer: 60\nmatch_thresh: 0.75\n"
    )
    text += "fuse_score: true\ngmc_method: none\nproximity_thresh: 0.5\nappearance_thresh: 0.25\nwith_reid: false\n"
    text += "model: auto\n"
    options = dict(read_tracker(write(tmp_path / "a.yaml", text)).options)
    assert options == {
        "high_conf_det_threshold": 0.5,
        "track_activation_threshold": 0.6,
        "lost_track_buffer": 60,
        "minimum_iou_threshold_first_assoc": 0.25,
        "enable_cmc": False,
    }
    assert "counterpart" not in capsys.readouterr().out  # what it asks for is done


def test_what_has_no_counterpart_is_reported_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "tracker_type: bytetrack\nfuse_score: true\nwith_reid: true\nappearance_thresh: 0.3\ndelta_t: 3\n"
    read_tracker(write(tmp_path / "a.yaml", text))
    out = capsys.readouterr().out
    assert "fuse_score, with_reid, appearance_thresh, delta_t have no counterpart in bytetrack" in out
    assert out.count("no counterpart in") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tracker_type: deepsort\n", "deepsort"),
        ("track_buffer: 3\n", "tracker_type is missing"),
        ("tracker_type: sort\ntrack_bufer: 3\n", r"a.yaml:2: track_bufer is not an argument[\s\S]*track_buffer"),
        ("tracker_type: sort\nmatch_thresh: 2\n", r"match_thresh=2 is outside[\s\S]*a.yaml:2"),
    ],
)
def test_errors_have_the_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        read_tracker(write(tmp_path / "a.yaml", text))


def test_a_method_that_is_not_here() -> None:
    with pytest.raises(NotFoundError, match=r"tracktrack\.yaml"):
        read_tracker("tracktrack.yaml")


def test_without_the_package_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(package: str, purpose: str, extra: str) -> None:
        raise MissingPackageError(f"{purpose} needs the package {package!r}\npip install 'x[{extra}]'")

    monkeypatch.setattr(settings, "require", missing)
    with pytest.raises(MissingPackageError, match=r"tracking needs the package 'trackers'[\s\S]*\[track\]"):
        read_tracker("sort.yaml").build()
