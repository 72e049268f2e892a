"""Metadata of an exported file: one JSON string inside the file, read back as data and checked field by field.

Files that other tools of the interface exported have the values of `common_values` instead.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ultralytics.utils.config.precision import BITS_OF_NAME, EXPORTED_PRECISIONS, NAME_OF_BITS
from ultralytics.utils.errors import CheckpointError

METADATA_KEY = "rtdetr-shsa"
MAX_METADATA_CHARS = 4 << 20  # characters
CONFIG_FILE, METADATA_YAML = "config.txt", "metadata.yaml"
"""Where the interface looks for the values: inside a TorchScript file, and beside an OpenVINO model."""


@dataclass(frozen=True)
class ExportMetadata:
    """Metadata of an exported model.

    Attributes:
        format: Name of the format, such as onnx.
        task: Kind of task.
        names: Class names by index.
        stride: Image sides are multiples of it, px.
        imgsz: Height and width that it was exported for, px.
        batch: Images of one call.
        channels: Image channels.
        dynamic: Whether batch and size may differ from these.
        letterbox: Whether images keep their aspect ratio and are padded.
        precision: fp32, fp16 or int8.
        device: Kind of device that the graph was written on, such as cpu.
        opset: ONNX operator set, 0 where there is none.
        head: Class name of the last layer.
        source: Name of the weights file.
        source_sha256: Its hash, empty when the model was in memory only.
        version: Version of this package.
        license: Licence of this package and of what it writes.
        docs: Where to read more.
        date: When it was written.
    """

    format: str
    task: str
    names: dict[int, str]
    stride: int
    imgsz: tuple[int, int]
    batch: int = 1
    channels: int = 3
    dynamic: bool = False
    letterbox: bool = False
    precision: str = "fp32"
    device: str = "cpu"
    opset: int = 0
    head: str = ""
    source: str = ""
    source_sha256: str = ""
    version: str = ""
    license: str = "AGPL-3.0-or-later"
    docs: str = "docs/export.md"
    date: str = ""

    def to_json(self) -> str:
        """Return the metadata as JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | None, origin: str) -> ExportMetadata:
        """Read metadata back; `origin` names the file in errors.

        Raises:
            CheckpointError: no metadata, not JSON, or a field of a wrong type or size.
        """
        if not text:
            raise CheckpointError(f"{origin}: holds no model metadata", "only files that `yolo export` wrote can run")
        return cls._checked(_parsed(text, json.loads), origin)

    @classmethod
    def of_interface(cls, values: object, origin: str, format: str) -> ExportMetadata:
        """Read the values that the interface stores: those of ONNX files are strings, others are plain.

        Raises:
            CheckpointError: as `from_json`; also without `head`, by which the form of the output is known.
        """
        data = {str(k): _plain(v) for k, v in values.items()} if isinstance(values, Mapping) else {}
        if not data.get("head"):
            remedy = "export the model again, with `yolo export` of this package or a release of the interface from 8.4"
            raise CheckpointError(f"{origin}: its metadata name no head, so its output has no known form", remedy)
        stored = data.get("args")
        args = stored if isinstance(stored, dict) else {}
        bits = str(args.get("quantize") or ("8" if args.get("int8") else "16" if args.get("half") else "32"))
        own = {
            "format": format,
            "dynamic": args.get("dynamic") is True,
            "letterbox": data["head"] != "RTDETRDecoder",
            "precision": NAME_OF_BITS.get(BITS_OF_NAME.get(bits), "fp32"),
            "batch": data.get("batch", 1),
            "channels": data.get("channels", 3),
            **{key: str(data.get(key, "")) for key in ("version", "license", "docs", "date")},
        }
        usual = {"device": "cpu", "opset": 0, "source": Path(origin).name, "source_sha256": ""}
        return cls._checked({**data, **usual, **own}, origin)

    @classmethod
    def _checked(cls, data: object, origin: str) -> ExportMetadata:
        """Return the metadata of a mapping; CheckpointError names the first field of a wrong type or size."""
        if not isinstance(data, dict):
            raise CheckpointError(f"{origin}: its metadata are damaged", "export the model again")
        for field, good in _CHECKS.items():
            if field not in data or not good(data[field]):
                raise CheckpointError(f"{origin}: its metadata are damaged at '{field}'", "export the model again")
        data["names"] = {int(k): v for k, v in data["names"].items()}
        data["imgsz"] = tuple(data["imgsz"])
        return cls(**{k: data[k] for k in _CHECKS})

    def common_properties(self) -> dict[str, str]:
        """Return the metadata that other tools of the `ultralytics` interface look for, each as a string."""
        return {key: str(value) for key, value in self.common_values().items()}

    def common_values(self) -> dict[str, Any]:
        """Return the same as plain values, as the interface writes them beside TorchScript and OpenVINO models."""
        shown = ("stride", "task", "batch", "channels", "version", "license", "docs", "date", "head")
        return {
            **{key: getattr(self, key) for key in shown},
            "imgsz": list(self.imgsz),
            "names": self.names,
            "description": f"{self.source or 'model'} in the form {self.format}",
            "args": {"dynamic": self.dynamic, "precision": self.precision},
        }


def read_metadata(own: str | None, common: object, origin: str, format: str) -> ExportMetadata:
    """Return the metadata of a file of this package, else (`common`) of a file that the interface exported."""
    if own or not common:
        return ExportMetadata.from_json(own, origin)
    return ExportMetadata.of_interface(common, origin, format)


def parse_config(text: str) -> object:
    """Return the values of a `config.txt`; None where it is not JSON."""
    return _parsed(text, json.loads) if text else None


def _parsed(text: str, parse: Callable[[str], object]) -> object:
    """Return what a string stands for; None for one that is too long or cannot be parsed."""
    try:
        return parse(text) if len(text) <= MAX_METADATA_CHARS else None
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def _plain(value: object) -> object:
    """Return the number, list or mapping that a string stands for; any other string, and any other value, as it is."""
    if not isinstance(value, str) or value[:1] not in set("0123456789[{("):
        return value
    parsed = _parsed(value, ast.literal_eval)
    return value if parsed is None else parsed


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= 1000


def _is_count(low: int, high: int) -> Callable[[object], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_names(value: object) -> bool:
    if not isinstance(value, Mapping) or len(value) > 100_000:
        return False
    return all(str(k).isdecimal() and len(str(k)) < 8 and _is_text(v) for k, v in value.items())


def _is_size(value: object) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_is_count(1, 1 << 16), value))


_CHECKS: Mapping[str, Callable[[object], bool]] = {
    **dict.fromkeys(
        ("format", "task", "device", "head", "source", "source_sha256", "version", "license", "docs", "date"), _is_text
    ),
    "names": _is_names,
    "stride": _is_count(1, 1024),
    "imgsz": _is_size,
    "batch": _is_count(1, 1 << 16),
    "channels": _is_count(1, 1024),
    **dict.fromkeys(("dynamic", "letterbox"), lambda value: isinstance(value, bool)),
    "precision": lambda value: value in EXPORTED_PRECISIONS,
    "opset": _is_count(0, 1000),
}
