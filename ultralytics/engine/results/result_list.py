"""The results of several images as one: a list that can also be stored as a whole."""

from __future__ import annotations

import base64
import html
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ultralytics.engine.results.results import Results
from ultralytics.utils.plotting.annotator import encoded_png
from ultralytics.utils.tables import csv_of

if TYPE_CHECKING:
    import pandas as pd


MAX_SHOWN = 8  # images that a notebook shows


class ResultList(list[Results]):
    """What `predict` returns: an ordinary list with the conversions of `Results` over all of its images."""

    def _repr_html_(self) -> str:
        """The first images with their boxes or classes, which a notebook shows."""
        parts = []
        for result in self[:MAX_SHOWN]:
            picture = base64.b64encode(encoded_png(result.plot())).decode()
            name = html.escape(Path(result.path).name)
            parts.append(f'<figure><img style="max-width:100%" src="data:image/png;base64,{picture}">{name}</figure>')
        more = f"<p>{len(self)} images</p>" if len(self) > MAX_SHOWN else ""
        return "".join(parts) + more

    def summary(self, normalize: bool = False, decimals: int = 5) -> list[dict[str, Any]]:
        """Return the path and the summary of each image."""
        return [{"path": r.path, "detections": r.summary(normalize, decimals)} for r in self]

    def to_json(self, normalize: bool = False, decimals: int = 5) -> str:
        """Return the summary as JSON text."""
        return json.dumps(self.summary(normalize, decimals), indent=2, ensure_ascii=False)

    def tojson(self, normalize: bool = False, decimals: int = 5) -> str:
        """Do the same as `to_json` (the older name)."""
        return self.to_json(normalize, decimals)

    def to_df(self, normalize: bool = False, decimals: int = 5) -> pd.DataFrame:
        """Return one pandas table of all detections, with the number of the image and its path in front."""
        import pandas as pd

        tables = []
        for i, result in enumerate(self):
            table = result.to_df(normalize, decimals)
            table.insert(0, "path", result.path)
            table.insert(0, "image", i)
            tables.append(table)
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["image", "path"])

    def to_csv(self, normalize: bool = False, decimals: int = 5) -> str:
        """Return the table as CSV text."""
        return csv_of(self.to_df(normalize, decimals))

    def to_coco(self, category_ids: list[int] | None = None) -> dict[str, list[dict[str, Any]]]:
        """Return COCO's `images`, `categories` and detections (`annotations`); images are numbered from 0.

        `category_ids` are the numbers of the classes, by default the class ids. `annotations` alone is what
        `loadRes` of pycocotools takes.
        """
        images, rows = [], []
        for i, result in enumerate(self):
            h, w = result.orig_shape
            images.append({"id": i, "file_name": result.path, "height": h, "width": w})
            rows += result.to_coco(i, category_ids)
        names = self[0].names if self else {}
        numbers = {c: c if category_ids is None else category_ids[c] for c in names}
        categories = [{"id": numbers[c], "name": name} for c, name in names.items()]
        return {"images": images, "categories": categories, "annotations": rows}
