"""`yolo pack model=best.pt`: a model and all that belongs to it in one zip, see `utils.archives.pack_file`."""

from __future__ import annotations

import importlib.metadata
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ultralytics import __version__
from ultralytics.engine.handover.card import LICENSE, LICENSE_PAGE, CardFacts, model_card
from ultralytics.nn.checkpoint.describe import number_metrics
from ultralytics.nn.checkpoint.format import to_plain
from ultralytics.utils.archives.pack_file import (
    EXPORTED_FOLDER,
    MODULES_FOLDER,
    WEIGHTS_FOLDER,
    write_pack,
)
from ultralytics.utils.checks import DISTRIBUTION
from ultralytics.utils.config.yaml_io import YAML
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.files import PACK_SUFFIX, file_size
from ultralytics.utils.log import LOGGER
from ultralytics.utils.user_modules import as_files, user_texts


def pack_model_files(model: Any, out: str | Path | None = None, format: str = "", **kwargs: Any) -> Path:
    """Write a model as one zip file that another machine opens as `model=that.zip`; return its path.

    In it: the weights, the model YAML, the Python files that were named by `modules=`, the arguments and the metrics of
    the training run, the class names, licence and model card, and the exported forms that `format` names, separated by
    commas; `kwargs` are arguments of `export`. The packed weights are opened and exported from, so a pack that was
    written can be opened. `out` is by default the weights file with the suffix `.zip`.

    Raises:
        ConfigError: `out` does not end in `.zip`, or two files of the user's have one name.
        ConfigTypeError: the model is an exported file, which cannot be packed.
    """
    stem = Path(model.ckpt_path).with_suffix("") if model.ckpt_path else Path(model.model_name)
    target = Path(out) if out is not None else stem.with_name(stem.name + PACK_SUFFIX)
    if target.suffix.lower() != PACK_SUFFIX:
        raise ConfigError(f"out={target}: a pack is a {PACK_SUFFIX} file", f"out={target.with_suffix(PACK_SUFFIX)}")
    idle = [] if format else sorted(kwargs.keys() - {"modules", "task"})
    if idle:
        LOGGER.warning(f"{', '.join(idle)} of a pack without format= has no effect: no form is exported")
    named = [*map(Path, model.user_files), *as_files(kwargs.get("modules"))]
    modules = {f"{MODULES_FOLDER}{name}": text for name, text in user_texts(named).items()}
    with tempfile.TemporaryDirectory(prefix="pack-") as temporary:
        weights = model.save(Path(temporary) / f"{target.stem}.pt")
        exported = _exported_forms(model, weights, format, kwargs)
        files = {name: file for form in exported.values() for name, file in form.items()}
        card = _card_facts(model, target.stem, list(modules), {name: min(form) for name, form in exported.items()})
        parts: dict[str, bytes | Path] = {
            "README.md": model_card(card).encode(),
            "LICENSE": licence_text(card.license).encode(),
            "model.yaml": YAML.dumps(to_plain(model.model.yaml)).encode(),
            "args.yaml": YAML.dumps(card.arguments).encode(),
            "names.yaml": YAML.dumps({"names": dict(card.names)}).encode(),
            "metrics.json": json.dumps(card.metrics, indent=1).encode(),
            **modules,
            f"{WEIGHTS_FOLDER}{weights.name}": weights,
            **files,
        }
        about = {"task": model.task, "version": __version__, "license": card.license}
        write_pack(target, parts, f"{WEIGHTS_FOLDER}{weights.name}", modules, about)
    LOGGER.info(f"{target} written: {file_size(target):.1f} MB, {len(parts)} files; use it as model={target}")
    return target


def _exported_forms(model: Any, weights: Path, formats: str, kwargs: Mapping[str, Any]) -> dict[str, dict[str, Path]]:
    """Export from the packed weights; return the files of each form by their names in the pack."""
    opened = type(model)(str(weights))
    found: dict[str, dict[str, Path]] = {}
    for name in filter(None, formats.replace(" ", "").split(",")):
        written = Path(opened.export(**{**kwargs, "format": name}))
        files = [written] if written.is_file() else sorted(p for p in written.rglob("*") if p.is_file())
        found[name] = {f"{EXPORTED_FOLDER}{file.relative_to(weights.parent).as_posix()}": file for file in files}
    return found


def _card_facts(model: Any, name: str, modules: list[str], exported: Mapping[str, str]) -> CardFacts:
    stored = model.ckpt or {}
    yaml = model.model.yaml
    scale = f", scale {yaml['scale']}" if yaml.get("scale") else ""
    return CardFacts(
        name=name,
        architecture=f"{type(model.model).__name__} from {Path(str(yaml.get('yaml_file') or 'a dict')).name}{scale}",
        task=model.task,
        parameters=sum(p.numel() for p in model.model.parameters()),
        names=model.names,
        arguments=to_plain(stored.get("train_args") or {}),
        metrics=number_metrics(stored),
        modules=modules,
        exported=exported,
        license=str(stored.get("license") or LICENSE),
    )


def licence_text(name: str) -> str:
    """The name of a licence with its text, as far as it is that of this package and was installed with it."""
    head = f"SPDX-License-Identifier: {name}\n"
    if name != LICENSE:
        return head
    try:
        files = importlib.metadata.distribution(DISTRIBUTION).files or []
        texts = [str(f.read_text()) for f in files if f.name == "LICENSE"]
    except (importlib.metadata.PackageNotFoundError, OSError):
        texts = []
    return f"{head}\n{texts[0] if texts else f'The text: {LICENSE_PAGE}'}\n"
