"""What the label formats have in common: a reader knows the files of a split's labels and turns them into a `Scan`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ultralytics.data.labels.cache import content_key
from ultralytics.data.labels.parse import Issue, Scan, VerifiedImage, scan_images


@dataclass
class Split:
    """The images of a split and what their labels are read for.

    `source` is the split's folder, list or pattern (or several) as resolved from the data YAML, `names` the classes
    {id: name}. With `single_cls` every object gets class 0.
    """

    source: str | Sequence[str]
    im_files: list[str]
    names: Mapping[int, str]
    single_cls: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)  # the other keys of the data YAML


class LabelReader:
    """Base of the readers. `label_files` are the files whose change makes a cached scan invalid."""

    format: ClassVar[str]
    label_files: list[str]

    def __init__(self, split: Split) -> None:
        self.split = split

    def verify(self, im_file: str) -> VerifiedImage:
        """Check one image and read its labels; safe to call from several threads."""
        raise NotImplementedError

    def is_foreign(self, im_file: str) -> bool:
        """Return whether an image among the split's files belongs to another split; asked after the scan."""
        return False

    def leftover(self) -> list[Issue]:
        """Return findings that belong to no image of the split, after all images were verified."""
        return []

    def scan(self, desc: str = "") -> Scan:
        """Verify all images of the split."""
        scan = scan_images(self.split.im_files, self.verify, desc)
        scan.issues += self.leftover()
        return scan

    def key(self) -> str:
        """Return the digest that a cached scan must carry to be valid."""
        names = [*self.split.names.items(), self.format, *sorted(map(str, self.options().items()))]
        return content_key(self.split.im_files, self.label_files, len(self.split.names), self.split.single_cls, names)

    def options(self) -> Mapping[str, Any]:
        """Return the keys of the data YAML that change what is read."""
        return {}

    @property
    def cache_path(self) -> Path:
        """File of the label cache: beside a text list, else `<label folder>.cache`; several sources have their own."""
        source = self.split.source
        if isinstance(source, (str, Path)) and Path(source).suffix == ".txt":
            return Path(source).with_suffix(".cache")
        folder = self.cache_folder()
        if isinstance(source, (str, Path)) and Path(source).is_dir():
            return folder.with_name(f"{folder.name}.cache") if folder.name else folder / "labels.cache"
        mark = hashlib.sha256(str(source).encode(errors="surrogateescape")).hexdigest()[:8]
        root = Path(self.split.options.get("path") or folder)
        if not folder.name or root.is_relative_to(folder):  # sources side by side: keep the cache inside of the set
            return root / f"labels.{mark}.cache"
        return folder.with_name(f"{folder.name}.{mark}.cache")

    def cache_folder(self) -> Path:
        """Return the folder or file that gives the cache its name: here the one that holds all label files."""
        ends = min(self.label_files), max(self.label_files)  # all others lie between, so share what these do
        folders = [os.path.dirname(f) for f in ends]
        try:
            return Path(os.path.commonpath(folders))
        except ValueError:  # several drives
            return Path(folders[0])
