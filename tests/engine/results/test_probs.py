"""Class probabilities of an image: `Probs`, and what `Results` does with them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from ultralytics.engine.results.boxes import Probs
from ultralytics.engine.results.results import Results
from ultralytics.utils.errors import ConfigError

VALUES = [0.1, 0.02, 0.5, 0.2, 0.1, 0.08]
NAMES = {0: "ant", 1: "bee", 2: "cat", 3: "dog", 4: "eel", 5: "fox"}


def make(kind: str = "tensor"):
    return torch.tensor(VALUES) if kind == "tensor" else np.array(VALUES, np.float32)


@pytest.mark.parametrize("kind", ["tensor", "array"])
def test_best_classes(kind):
    probs = Probs(make(kind))
    assert probs.top1 == 2 and probs.top5 == [2, 3, 0, 4, 5], "equal values keep their order"
    assert float(probs.top1conf) == pytest.approx(0.5)
    assert [float(v) for v in probs.top5conf] == pytest.approx([0.5, 0.2, 0.1, 0.1, 0.08])
    assert probs.shape == (6,) and type(probs.numpy().data) is np.ndarray and probs.cpu().top1 == 2


@pytest.mark.parametrize(("values", "top5"), [([1.0], [0]), ([0.3, 0.7], [1, 0])])
def test_few_classes(values, top5):
    assert Probs(torch.tensor(values)).top5 == top5


@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_one_row_is_needed(shape):
    with pytest.raises(ConfigError, match="one value for each class"):
        Probs(torch.zeros(shape))


@pytest.fixture
def result() -> Results:
    return Results(np.full((120, 200, 3), 90, np.uint8), "photos/a.jpg", NAMES, probs=make())


def test_results_say_the_class(result, tmp_path):
    assert result.boxes is None and len(result) == 0 and result.probs.top1 == 2
    assert result.verbose() == "cat 0.50, dog 0.20, ant 0.10, eel 0.10, fox 0.08, "
    assert "cat 0.50" in repr(result)
    assert result.summary()[0] == {"name": "cat", "class": 2, "confidence": 0.5}
    assert [row["name"] for row in json.loads(result.to_json())] == ["cat", "dog", "ant", "eel", "fox"]
    assert list(result.to_df().columns) == ["name", "class", "confidence"] and len(result.to_df()) == 5
    result.save_txt(tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text().splitlines()[:2] == ["0.50 cat", "0.20 dog"]
    assert result.save_crop(tmp_path / "crops") == []


def test_copies_keep_the_probabilities(result):
    for copy in (result.cpu(), result.numpy(), result.to("cpu"), result[[]]):
        assert copy.probs.top1 == 2
    assert result.new().probs is None
    result.update(probs=torch.tensor([0.9, 0.1]))
    assert result.probs.top1 == 0


def test_the_picture_lists_the_classes(result):
    plain, drawn = result.orig_img, result.plot()
    assert np.array_equal(plain, np.full_like(plain, 90)), "drawn on a copy"
    assert (drawn != plain).any(2)[:60, :80].sum() > 500
    changed = np.flatnonzero((drawn != plain).any((1, 2)))
    one = np.flatnonzero((Results(plain, "a", NAMES, probs=torch.tensor([1.0])).plot() != plain).any((1, 2)))
    assert np.ptp(changed) > 3 * np.ptp(one), "one line for each class"
    assert np.array_equal(result.plot(probs=False), plain) and np.array_equal(result.plot(labels=False), plain)
    tiny = Results(np.zeros((12, 40, 3), np.uint8), "t.jpg", NAMES, probs=make()).plot()
    assert tiny.shape == (12, 40, 3)
