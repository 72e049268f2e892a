"""int8 graphs beside the network that they came from, where 8-bit weights would overflow."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ultralytics.nn.export.onnx import INPUT, OUTPUT, quantize

pytestmark = pytest.mark.skipif(not (find_spec("onnx") and find_spec("onnxruntime")), reason="needs onnxruntime")


@pytest.fixture
def pair(tmp_path: Path) -> tuple[nn.Module, torch.Tensor, Path]:
    """A convolution whose products are all near the largest that 8 bits hold, images for it, and its int8 file."""
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 8, 3, bias=False).eval()
    nn.init.uniform_(conv.weight, 0.9, 1.0)
    images = torch.rand(2, 16, 12, 12) * 0.1 + 0.9
    plain, target = tmp_path / "plain.onnx", tmp_path / "int8.onnx"
    names = {"input_names": [INPUT], "output_names": [OUTPUT]}
    torch.onnx.export(conv, (images[:1],), str(plain), dynamo=False, opset_version=17, **names)
    quantize(plain, target, images.split(1), head="/none/")
    return conv, images, target


def test_sums_do_not_overflow(pair: tuple[nn.Module, torch.Tensor, Path]):
    import onnxruntime

    conv, images, file = pair
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    got = session.run(None, {INPUT: images[:1].numpy()})[0]
    want = conv(images[:1]).detach().numpy()
    np.testing.assert_allclose(got, want, rtol=0.02)  # 8-bit weights give about half of it without VNNI


def test_weights_have_seven_bits(pair: tuple[nn.Module, torch.Tensor, Path]):
    import onnx

    stored = [onnx.numpy_helper.to_array(t) for t in onnx.load(pair[2]).graph.initializer]
    weights = [a for a in stored if a.dtype == np.int8 and a.ndim == 4]
    assert len(weights) == 1 and 60 <= np.abs(weights[0].astype(int)).max() <= 64
