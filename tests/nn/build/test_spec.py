"""Reading a model YAML: literals, scales, routing, and every mistake that the text alone shows."""

import logging

import pytest

from tests.nn.yamls import HEAD_ROW, TINY, line_of, with_line, with_row
from ultralytics.nn.build.spec import LayerSpec, load_model_yaml, resolve_literal, scaled_repeats
from ultralytics.nn.registry import Scale
from ultralytics.utils.errors import ConfigError, ModelYAMLError, NotFoundError

TWO_SCALES = with_line(3, "  n: [0.5, 0.5, 64]\n  s: [1.0, 1.0, 128]")


@pytest.fixture
def load(tmp_path):
    def _load(text, **kwargs):
        path = tmp_path / "model.yaml"
        path.write_text(text)
        return load_model_yaml(path, **kwargs)

    return _load


@pytest.mark.parametrize(
    ("value", "want"),
    [
        ([], []),
        ("", ""),
        ("nc", 7),
        (["nc", "None"], [7, None]),
        ("None", None),
        ("True", True),
        ("1e-3", 1e-3),
        ("(1, 2)", (1, 2)),
        ("nearest", "nearest"),
        ("nn.ReLU()", "nn.ReLU()"),
        ("a b", "a b"),  # not a literal and not even an expression
        ("n", "n"),  # no name but `nc` has a meaning
        ("width", "width"),
        (3, 3),
        (None, None),
    ],
)
def test_resolve_literal(value, want):
    assert resolve_literal(value, 7) == want


@pytest.mark.parametrize(
    ("n", "depth", "want"), [(1, 0.1, 1), (3, 0.33, 1), (6, 0.34, 2), (5, 0.5, 2), (3, 1.0, 3), (2, 3, 6)]
)
def test_scaled_repeats(n, depth, want):
    assert scaled_repeats(n, Scale(depth)) == want


@pytest.mark.parametrize(
    ("index", "source", "inputs", "saved"),
    [
        (0, (-1,), (-1,), ()),
        (5, (-1,), (4,), ()),
        (5, (4,), (4,), (4,)),
        (5, (-2, -1), (3, 4), (3,)),
        (5, (-1, 1), (4, 1), (1,)),
        (3, (-3,), (0,), (0,)),
    ],
)
def test_routing(index, source, inputs, saved):
    layer = LayerSpec(index, "backbone", source, True, 1, "Conv")
    assert layer.inputs == inputs
    assert layer.saved == saved


def test_reads_tiny(load):
    spec = load(TINY)
    assert len(spec.layers) == 11
    assert [layer.line for layer in spec.layers] == [line_of(i) for i in range(11)]
    assert spec.save == [3, 4, 6, 9]
    assert spec.unused == []
    assert (spec.nc, spec.scale_name, spec.scale) == (4, "n", Scale(1.0, 1.0, 128))
    assert spec.layers[7].args == (None, 2, "nearest")
    assert spec.layers[10].args[0] == 4
    assert spec.layers[10].route == [3, 9, 6]
    assert spec.layers[5].part == "backbone" and spec.layers[6].part == "head"


def test_caller_mapping_is_left_alone():
    data = {"nc": 2, "backbone": [[-1, 1, "Conv", [8]]], "head": [[-1, 1, "Conv", ["nc"]]]}
    spec = load_model_yaml(data, nc=5)
    assert data == {"nc": 2, "backbone": [[-1, 1, "Conv", [8]]], "head": [[-1, 1, "Conv", ["nc"]]]}
    assert spec.layers[1].args == (5,)
    assert spec.data["nc"] == 5


@pytest.mark.parametrize(
    ("text", "asked", "want"),
    [
        (TWO_SCALES, None, "n"),  # the first of the table
        (TWO_SCALES, "s", "s"),
        (TWO_SCALES + "scale: s\n", None, "s"),
        (TWO_SCALES + "scale: s\n", "n", "n"),  # the argument wins
    ],
)
def test_scale_choice(load, text, asked, want):
    spec = load(text, scale=asked)
    assert spec.scale_name == want
    assert spec.data["scale"] == want
    assert load_model_yaml(spec.data).scale == spec.scale  # a checkpoint keeps the choice


def test_old_multiples(load):
    text = with_line(3, "depth_multiple: 0.5", with_line(2, "width_multiple: 0.25"))
    assert load(text).scale == Scale(0.5, 0.25)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", None, ["backbone", "missing"]),
        (with_line(4, "backbon:"), None, ["backbone", "backbon"]),
        (with_line(HEAD_ROW, "  # no head any more"), None, ["head", "missing"]),
        (TINY.split("backbone:")[0] + "backbone: []\nhead: []\n", 4, ["backbone", "list of rows"]),
        (TINY.split("backbone:")[0] + "backbone: 3\nhead: []\n", 4, ["backbone", "list of rows"]),
        (with_line(1, "nc: 0"), 1, ["nc is 0", "at least 1"]),
        (with_line(1, "nc: many"), 1, ["nc is 'many'"]),
        (with_line(1, "nc: 100000000000"), 1, ["nc is 100,000,000,000", "at most 100,000"]),
        (with_line(1, "nc: true"), 1, ["nc is True"]),
        (with_line(1, "# none"), None, ["nc is None"]),
        (with_line(3, "  n: [1.0, -1.0, 128]"), 3, ["depth, width, max_channels", "positive"]),
        (with_line(3, "  n: wide"), 3, ["depth, width, max_channels"]),
        (with_line(2, "scales: 3", with_line(3, "")), 2, ["scales", "letter"]),
        (TINY + "scale: q\n", 17, ["no scale 'q'", "n"]),
        (TINY + "activation: 3\n", 17, ["activation", "nn.ReLU()"]),
        (with_line(2, "scale:"), 2, ["`scale` is the letter of one size", "write `scales:`"]),
    ],
)
def test_mistakes_at_the_top(load, text, line, message):
    with pytest.raises(ModelYAMLError) as e:
        load(text)
    text = str(e.value)
    assert len(text.splitlines()) <= 3
    assert "model.yaml" in text
    if line:
        assert f"model.yaml:{line}:" in text
    for part in message:
        assert part in text


def test_unknown_scale_lists_them(load):
    with pytest.raises(ModelYAMLError, match=r"no scale 'z'; choose one of n, s"):
        load(TWO_SCALES, scale="z")
    with pytest.raises(ModelYAMLError, match="no `scales`"):
        load_model_yaml({"nc": 1, "backbone": [[-1, 1, "Conv", [8]]], "head": [[-1, 1, "Conv", [8]]]}, scale="n")


@pytest.mark.parametrize(
    ("line", "key", "meant"),
    [
        ("activaton: nn.ReLU()", "activaton", "; did you mean `activation`?"),
        ("scalse: n", "scalse", "; did you mean `scale`?"),
        ("node_mod: RepC3", "node_mod", "; did you mean `node_mode`?"),  # for which a row waits
        ("remarks: none", "remarks", "\n"),
    ],
)
def test_unknown_key_warns(load, caplog, line, key, meant):
    logger = logging.getLogger("ultralytics")
    logger.addHandler(caplog.handler)
    try:
        load(with_row(2, "[-1, 1, Conv, [32, 3, 2, node_mode]]") + f"{line}\n")
    finally:
        logger.removeHandler(caplog.handler)
    assert f"model.yaml:17: unknown key `{key}` is ignored{meant}" in caplog.text


def test_letter_without_a_table_warns(load, caplog):
    logger = logging.getLogger("ultralytics")
    logger.addHandler(caplog.handler)
    try:
        load(with_line(2, "scale: n", with_line(3, "")))
    finally:
        logger.removeHandler(caplog.handler)
    assert "model.yaml:2: scale: n has no effect" in caplog.text


def test_missing_file_and_bad_syntax(load):
    with pytest.raises(NotFoundError, match=r"rtdetr-l\.yaml"):
        load_model_yaml("rtdetr-ll.yaml")
    with pytest.raises(ConfigError, match=r"model\.yaml:\d+"):
        load("nc: 4\nbackbone: [1, 2\nhead: 3\n")
