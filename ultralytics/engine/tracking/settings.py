"""Tracker YAMLs: the argument names of the interface, and what they become for the package `trackers`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ultralytics.cfg import kinds as k
from ultralytics.cfg.keys import Key
from ultralytics.utils.checks import check_yaml, nearest, require
from ultralytics.utils.config.yaml_io import load_with_lines
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.log import LOGGER

TRACK_EXTRA = "track"
"""The extra of this package that installs `trackers`."""

TRACKER_CLASSES: Mapping[str, str] = {
    "bytetrack": "ByteTrackTracker",
    "botsort": "BoTSORTTracker",
    "ocsort": "OCSORTTracker",
    "sort": "SORTTracker",
}
"""Class of the package `trackers` for each `tracker_type`."""

GMC_METHODS = ("sparseOptFlow", "orb", "sift", "ecc", "none")

KEYS_OF_TRACKERS: Mapping[str, Key] = {
    key.name: key
    for key in (
        Key("tracker_type", k.WORD, None, "method", choices=tuple(TRACKER_CLASSES)),
        Key("track_high_thresh", k.UNIT, 0.25, "score from which boxes are matched first"),
        Key("track_low_thresh", k.UNIT, 0.1, "boxes below it are left out"),
        Key("new_track_thresh", k.UNIT, 0.25, "score from which an unmatched box starts a track"),
        Key("track_buffer", k.INT, 30, "frames that a lost track is kept", low=0),
        Key("match_thresh", k.UNIT, 0.8, "largest cost of a match"),
        Key("fuse_score", k.BOOL, None, "cost multiplied by the score", nullable=True),
        Key("min_hits", k.INT, 1, "matches until a track has its id", low=1),
        Key("gmc_method", k.WORD, "none", "estimate of the camera's motion", choices=GMC_METHODS, nullable=True),
        Key("delta_t", k.INT, 3, "frames over which the direction is taken", low=1),
        Key("inertia", k.UNIT, 0.2, "weight of the direction"),
        Key("with_reid", k.BOOL, False, "match by appearance too", nullable=True),
        Key("model", k.PATH, None, "network of the appearance", nullable=True),
        Key("proximity_thresh", k.UNIT, 0.5, "least IoU for a match by appearance"),
        Key("appearance_thresh", k.UNIT, 0.25, "least similarity of appearance"),
    )
}
"""Every name of a tracker YAML."""

_NAMES: Mapping[str, Mapping[str, str]] = {
    "bytetrack": {
        "track_high_thresh": "high_conf_det_threshold",
        "new_track_thresh": "track_activation_threshold",
        "match_thresh": "minimum_iou_threshold",
    },
    "botsort": {
        "track_high_thresh": "high_conf_det_threshold",
        "new_track_thresh": "track_activation_threshold",
        "match_thresh": "minimum_iou_threshold_first_assoc",
        "gmc_method": "cmc_method",
    },
    "ocsort": {
        "track_high_thresh": "high_conf_det_threshold",
        "match_thresh": "minimum_iou_threshold",
        "delta_t": "delta_t",
        "inertia": "direction_consistency_weight",
    },
    "sort": {"new_track_thresh": "track_activation_threshold", "match_thresh": "minimum_iou_threshold"},
}
_NAMES_OF_ALL = {"track_buffer": "lost_track_buffer", "min_hits": "minimum_consecutive_frames"}
_APPEARANCE = frozenset({"model", "proximity_thresh", "appearance_thresh"})


@dataclass(frozen=True)
class TrackerSettings:
    """A tracker as a YAML describes it: `kind`, least score `low` of a box, and `options` of its class."""

    kind: str
    low: float
    options: tuple[tuple[str, Any], ...]

    def build(self) -> Any:
        """Return a new tracker.

        Raises:
            MissingPackageError: `trackers` is not installed.
        """
        return getattr(require("trackers", "tracking", TRACK_EXTRA), TRACKER_CLASSES[self.kind])(**dict(self.options))


def read_tracker(file: str) -> TrackerSettings:
    """Read a tracker YAML: a path, or the name of one that is shipped (bytetrack, botsort, ocsort, sort).

    A name that the method has no counterpart for is reported.

    Raises:
        NotFoundError: there is no such file.
        ConfigError: a name or a value that is not known; the message has the line.
    """
    path = check_yaml(file if "." in file else f"{file}.yaml", kind="trackers")
    data, lines = load_with_lines(path)
    values: dict[str, Any] = {}
    for name, value in data.items():
        origin = f"{path}:{lines.get((name,), 1)}"
        if name not in KEYS_OF_TRACKERS:
            near = nearest(str(name), KEYS_OF_TRACKERS)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(KEYS_OF_TRACKERS)}"
            raise ConfigError(f"{origin}: {name} is not an argument of a tracker", hint)
        values[name] = KEYS_OF_TRACKERS[name].check(value, origin)
    kind = values.pop("tracker_type", None)
    if kind is None:
        raise ConfigError(f"{path}: tracker_type is missing", f"use one of {', '.join(TRACKER_CLASSES)}")
    return _translate(kind, values, str(path))


def _translate(kind: str, values: dict[str, Any], path: str) -> TrackerSettings:
    """Return the options of the class; what has no counterpart is reported in one line."""
    names = {**_NAMES[kind], **_NAMES_OF_ALL}
    low = values.pop("track_low_thresh", KEYS_OF_TRACKERS["track_low_thresh"].default)
    idle = [name for name, value in values.items() if name not in names and _asks(name, value, kind, values)]
    if idle:
        LOGGER.warning(f"{path}: {', '.join(idle)} {'has' if len(idle) == 1 else 'have'} no counterpart in {kind}")
    options = {names[name]: value for name, value in values.items() if name in names}
    if "match_thresh" in values:
        options[names["match_thresh"]] = 1.0 - values["match_thresh"]
    if kind == "botsort":
        method = options.pop("cmc_method", None) or "none"
        options["enable_cmc"] = method != "none"
        options |= {"cmc_method": method} if method != "none" else {}
    return TrackerSettings(kind, float(low), tuple(sorted(options.items())))


def _asks(name: str, value: object, kind: str, values: Mapping[str, Any]) -> bool:
    """Whether a value without counterpart asks for something that the method does not do anyway."""
    if name == "fuse_score":
        return value is not None and value != (kind == "botsort")
    if name in _APPEARANCE:
        return bool(values.get("with_reid"))
    return bool(value) and value != "none"
