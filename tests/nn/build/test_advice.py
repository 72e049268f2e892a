"""What builds and is probably not meant is reported; what the package ships is not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest

from tests.nn.yamls import TINY, with_row
from ultralytics.nn.build.advice import warn_model
from ultralytics.nn.build.builder import plan_model
from ultralytics.nn.build.spec import load_model_yaml
from ultralytics.utils.config.yaml_io import load_with_lines

Report = Callable[[str], str]


@pytest.fixture
def report(caplog: pytest.LogCaptureFixture) -> Iterator[Report]:
    """The warnings about a YAML."""
    logger = logging.getLogger("ultralytics")
    logger.addHandler(caplog.handler)

    def warn(text: str) -> str:
        caplog.clear()
        spec = load_model_yaml(load_with_lines(text)[0])
        warn_model(spec, plan_model(spec))
        return caplog.text

    yield warn
    logger.removeHandler(caplog.handler)


def test_sound_models_are_silent(report: Report) -> None:
    assert report(TINY) == ""
    assert report(with_row(3, "[-1, 1, SHSA, [32]]")) == ""  # a width of query and key that is possible


def test_unused_layer(report: Report) -> None:
    text = report(with_row(10, "[[3, 6], 1, RTDETRDecoder, [nc, 32, 20, 4, 4, 1, 64]]"))
    assert "layer 9 (RepC3) is not used: no later `from` names it" in text
    assert "Was that meant?" not in text


def test_row_put_in_without_renumbering(report: Report) -> None:
    second = "  - [-1, 1, SHSA, []]\n  - [-1, 1, SHSA, []]"
    text = report(TINY.replace("  - [-1, 1, SHSA, []]", second).replace("[[-1, 4], 1, Concat", "[[-1, 5], 1, Concat"))
    assert "layer 10 (RepC3) is not used" in text
    assert "layer 11 (RTDETRDecoder) reads layer 9, the row above it. Was that meant?" in text
    assert "`yolo insert` renumbers" in text
    assert "layer 11 (RTDETRDecoder) reads layer 9 (Concat), joined maps without a convolution or norm" in text
    assert "channels of its inputs: 32 (layer 3), 112 (layer 9), 64 (layer 6)" in text


def test_channels_as_first_argument(report: Report) -> None:
    wide = with_row(5, "[-1, 1, Conv, [128, 3, 2]]", with_row(3, "[-1, 1, SHSA, []]"))
    text = report(with_row(6, "[-1, 1, SHSA, [128]]", wide))
    assert "layer 6 (SHSA) has qk_dim=128 (default 16): that is its first argument; the 128 channels come from" in text
    assert "SHSA, []" in text
