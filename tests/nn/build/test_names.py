"""From names and texts of a YAML row to classes and modules; nothing is evaluated."""

import pytest
import torchvision
from torch import nn

from ultralytics.nn.build.names import find_entry, resolve_nn_text, signature_text
from ultralytics.nn.modules import SHSA, Conv
from ultralytics.utils.errors import ModelYAMLError


@pytest.mark.parametrize(
    ("name", "cls", "ruled"),
    [
        ("Conv", Conv, True),
        ("SHSA", SHSA, True),
        ("nn.Conv2d", nn.Conv2d, False),
        ("torch.nn.Conv2d", nn.Conv2d, False),
        ("nn.BatchNorm2d", nn.BatchNorm2d, True),
        ("torch.nn.ConvTranspose2d", nn.ConvTranspose2d, True),
        ("torchvision.ops.DeformConv2d", torchvision.ops.DeformConv2d, False),
    ],
)
def test_names(name, cls, ruled):
    entry = find_entry(name)
    assert entry.cls is cls and (entry.rule is not None) == ruled


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("Cnov", "Conv"),
        ("nn.Conv2D", "nn.Conv2d"),
        ("ReLU", "nn.ReLU"),
        ("torchvision.ops.DeformConv2D", "torchvision.ops.DeformConv2d"),
        ("nn.functional", "own modules"),
        ("nn.Conv2d.forward", "own modules"),
        ("torchvision.ops.nms", "own modules"),
        ("os.system", "own modules"),
        ("", "own modules"),
    ],
)
def test_names_that_are_no_module(name, near):
    with pytest.raises(ModelYAMLError, match="unknown module") as e:
        find_entry(name)
    assert near in str(e.value)


@pytest.mark.parametrize("value", ["nearest", "nnReLU", "ReLU()", 3, None, True, 0.5, (1, 2)])
def test_other_values_stay(value):
    assert resolve_nn_text(value) is value


def test_texts_become_modules():
    assert resolve_nn_text("nn.ReLU") is nn.ReLU
    leaky = resolve_nn_text("torch.nn.LeakyReLU(0.25, inplace=True)")
    assert (type(leaky), leaky.negative_slope, leaky.inplace) == (nn.LeakyReLU, 0.25, True)
    one, (two, three) = resolve_nn_text(["nn.GELU()", ["nn.Hardtanh(-2, 2)", "text"]])
    assert isinstance(one, nn.GELU) and (two.min_val, two.max_val, three) == (-2, 2, "text")


@pytest.mark.parametrize(
    "text",
    [
        "nn.ReLU(",
        "nn.ReLU()()",
        "nn.ReLU() + nn.ReLU()",
        "nn.ReLU(inplace=print('x'))",
        "nn.ReLU(*[1])",
        "nn.ReLU(size=3)",
        "nn.init.zeros_",
        "nn.ReLU.forward",
        "nn.LeakyReLU(open('x'))",
        "nn.1",
    ],
)
def test_texts_that_are_neither_class_nor_call(text, capsys):
    with pytest.raises(ModelYAMLError):
        resolve_nn_text(text)
    assert capsys.readouterr().out == ""


def test_signatures_have_no_annotations():
    class Own(nn.Module):
        def __init__(self, c1: int, *more: int, k: float = 0.5) -> None: ...

    assert signature_text(Own) == "Own(c1, *more, k=0.5)"
