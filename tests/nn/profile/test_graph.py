"""The picture of a model's layers: which boxes stand where, their kinds, the file."""

import pytest
import torch
import yaml

from tests.nn.yamls import TINY
from tests.utils.plotting.svg import ODD_NAMES, kept_text, read_words
from ultralytics.nn.profile.graph import draw_graph, layer_kind, places
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils.errors import ConfigError


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return RTDETRDetectionModel(yaml.safe_load(TINY.replace("None", "null")), verbose=False)


def test_kinds(model):
    kinds = [layer_kind(layer) for layer in model.model]
    assert kinds == ["layer"] * 3 + ["SHSA"] + ["layer"] * 3 + ["without weights"] * 2 + ["layer", "head"]


def test_columns_follow_the_strides(model):
    spots = places(model.layers(64), 64)
    columns = [sorted({x for x, _ in spots}).index(x) for x, _ in spots]
    assert columns == [0, 1, 2, 2, 3, 4, 4, 3, 3, 3, 2]
    assert [y for _, y in spots] == sorted((y for _, y in spots), reverse=True)


@pytest.mark.parametrize(("name", "start"), [("g.svg", b"<?xml"), ("g.png", b"\x89PNG")])
def test_files(model, tmp_path, name, start):
    path = model.draw(tmp_path / name, 64)
    data = path.read_bytes()
    assert data.startswith(start) and len(data) > 5000
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("title", ODD_NAMES.values())
def test_title_is_drawn_as_it_is(model, tmp_path, title):
    with kept_text():
        path = draw_graph(model.model, model.layers(64), title, tmp_path / "g.svg", 64)
    assert read_words(path.read_bytes()).count(title) == 1


def test_unknown_ending(model, tmp_path):
    with pytest.raises(ConfigError, match=r"drawn as \.svg"):
        model.draw(tmp_path / "g.txt", 64)
    assert list(tmp_path.iterdir()) == []
