"""Building from rows: plans against the recorded layer tables, edits, and a table of broken YAMLs."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.nn.yamls import TINY, line_of, with_line, with_row
from ultralytics.nn.build.builder import build_model, parse_model, plan_model, set_batch_norm
from ultralytics.nn.build.spec import load_model_yaml
from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.registry import REGISTRY, Plan, register
from ultralytics.nn.tasks import RTDETRDetectionModel, load_checkpoint, pack_model, save_checkpoint
from ultralytics.utils.errors import ConfigError, ModelYAMLError

GOLDEN = Path(__file__).parents[2] / "golden"
TABLES = json.loads((GOLDEN / "parse.json").read_text())["models"]
CASES = {c["id"]: c for c in json.loads((GOLDEN / "cases.json").read_text())["cases"] if c["group"] == "model"}


def source_of(table):
    cfg = table["cfg"]
    return cfg if isinstance(cfg, str) else CASES[cfg["case"]]["cfg"]["yaml"]


@pytest.fixture
def yaml_file(tmp_path):
    def write(text):
        path = tmp_path / "broken.yaml"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize("table", TABLES, ids=lambda t: str(t["cfg"]))
def test_recorded_layer_tables(table):
    """From, repeats, arguments, output list and parameter counts of every row, as recorded from the reference."""
    spec = load_model_yaml(source_of(table))
    assert spec.save == sorted(set(table["savelist"]))
    plans = plan_model(spec)
    with torch.device("meta"):
        layers, _ = build_model(spec, plans=plans)
    for plan, layer, want in zip(plans, layers, table["layers"], strict=True):
        got = [plan.spec.index, plan.spec.route, plan.repeats, layer.np, json.loads(json.dumps(plan.copies[0]))]
        assert got == [want["i"], want["from"], want["n"], want["params"], want["args"]]
        assert layer.type.rsplit(".", 1)[1] == want["module"].rsplit(".", 1)[1]


# (layer, row, message that the message must hold); every message names the file, the line and the layer.
BROKEN = [
    # the module
    (0, "[-1, 1, Cnv, [16, 3, 2]]", ["unknown module 'Cnv'", "Conv"]),
    (2, "[-1, 1, conv, [32, 3, 2]]", ["unknown module 'conv'", "Conv"]),
    (3, "[-1, 1, SHSAA, []]", ["unknown module", "SHSA"]),
    (6, "[-1, 1, AIFFI, [64, 4]]", ["unknown module", "AIFI"]),
    (7, "[-1, 1, Upsample, [None, 2, nearest]]", ["unknown module", "nn.Upsample"]),
    (7, "[-1, 1, nn.Upsampel, [None, 2, nearest]]", ["unknown module", "nn.Upsample"]),
    (10, "[[3, 9, 6], 1, RTDETRDecode, [nc]]", ["unknown module", "RTDETRDecoder"]),
    (4, "[-1, 1, Zorblax, [48]]", ["unknown module", "@register"]),
    (4, "[-1, 1, nn.Module.forward, []]", ["unknown module"]),
    (4, "[-1, 1, nn.init, []]", ["unknown module"]),
    (4, "[-1, 1, torchvision.ops.nms, []]", ["unknown module"]),
    (4, "[-1, 1, 7, [48]]", ["must be a name"]),
    # number and type of the arguments
    (2, "[-1, 1, Conv, []]", ["too few", "Conv(c1, c2, k=1"]),
    (9, "[-1, 1, RepC3, []]", ["too few", "RepC3("]),
    (4, "[-1, 1, HGBlock, [16]]", ["too few", "HGBlock(c1, cm, c2"]),
    (2, "[-1, 1, Conv, [32, 3, 2, 1, 1, 1, True, 5]]", ["too many", "Conv(c1, c2, k=1"]),
    (3, "[-1, 1, SHSA, [16, 16, True, 1, 2]]", ["too many", "SHSA(dim"]),
    (2, "[-1, 1, Conv, [wide, 3, 2]]", ["integer", "'wide'"]),
    (2, "[-1, 1, Conv, [-32, 3, 2]]", ["at least 1"]),
    (2, "[-1, 1, Conv, [32.5, 3, 2]]", ["integer", "32.5"]),
    (2, "[-1, 1, Conv, [32, three, 2]]", ["wrong arguments", "'three'", "Conv(c1"]),
    (2, "[-1, 1, Conv, [32, 0, 2]]", ["conv.weight", "0x0"]),
    (2, "[-1, 1, Conv, [32, 3, 2, None, 5]]", ["groups"]),
    (2, "[-1, 1, Conv, [32, 3, 0]]", ["does not fit", "Conv(c1"]),
    (3, "[-1, 1, SHSA, [16, 64]]", ["pdim", "32"]),
    (3, "[-1, 1, SHSA, [0]]", ["qk_dim"]),
    (6, "[-1, 1, AIFI, [64, 7]]", ["num_heads", "AIFI(64, 64, 7)"]),
    (6, "[-1, 1, AIFI, [sixty, 4]]", ["wrong arguments", "'sixty'"]),
    (4, "[-1, 1, nn.Conv2d, [32, 48]]", ["kernel_size", "Conv2d("]),
    (10, "[[3, 9, 6], 1, RTDETRDecoder, []]", ["too few", "RTDETRDecoder(nc"]),
    (10, "[[3, 9, 6], 1, RTDETRDecoder, [nc, 30]]", ["num_heads"]),
    (4, "[-1, 1, Conv, [48, 3, 2, None, 1, 1, nn.Foo()]]", ["unknown module 'nn.Foo'"]),
    (4, "[-1, 1, Conv, [48, 3, 2, None, 1, 1, nn.ReLU(]]", ["neither nn.Name"]),
    (4, "[-1, 1, Conv, [48, 3, 2, None, 1, 1, relu]]", ["act='relu'", "nn.ReLU()"]),
    (4, "[-1, 1, Conv, [48, 3, 2, None, 1, 1, 1]]", ["act=1", "True"]),
    (4, "[-1, 1, Conv, [48, 3, 2, None, 1, 1, \"nn.ReLU(__import__('os'))\"]]", ["neither nn.Name"]),
    # channels and map sizes
    (4, "[-1, 1, nn.Conv2d, [16, 48, 3]]", ["layer 3 (SHSA, line 8) gives 32x80x80", "16 channels", "[0]"]),
    (4, "[-1, 1, ResNetLayer, [16, 16, 2, False, 1]]", ["16 input channels", "32"]),
    (1, "[-1, 1, nn.Conv2d, [3, 24, 3, 2, 1]]", ["layer 0 (Conv, line 5) gives 16x320x320", "3 channels"]),
    (4, "[-1, 1, nn.Linear, [32, 48]]", ["gives 32x80x80", "Linear("]),
    (4, "[-1, 1, nn.BatchNorm1d, [32]]", ["gives 32x80x80"]),
    (5, "[-1, 2, nn.Conv2d, [48, 64, 3, 2, 1]]", ["48 channels"]),
    (8, "[[-1, 3], 1, Concat, [1]]", ["64x40x40", "32x80x80", "layers [4, 7]"]),
    (8, "[[6, 4], 1, Concat, [1]]", ["64x20x20", "48x40x40", "layers [5, 6]"]),
    (8, "[[-1, 4], 1, Concat, [5]]", ["Dimension out of range", "Concat("]),
    (5, "[-1, 1, nn.MaxPool2d, [900, 2]]", ["too small", "gives 48x40x40"]),
    # from
    (0, "[0, 1, Conv, [16, 3, 2]]", ["at itself", "the image"]),
    (0, "[-2, 1, Conv, [16, 3, 2]]", ["before the first layer", "the image"]),
    (4, "[8, 1, Conv, [48, 3, 2]]", ["from 8 points forward", "0 to 3"]),
    (4, "[4, 1, Conv, [48, 3, 2]]", ["at itself"]),
    (8, "[[-1, 99], 1, Concat, [1]]", ["from 99 points forward", "0 to 7"]),
    (8, "[[-1, -9], 1, Concat, [1]]", ["from -9 points before", "-1 to -8"]),
    (4, "[[], 1, Concat, [1]]", ["from is []"]),
    (4, "[x, 1, Conv, [48, 3, 2]]", ["from is 'x'"]),
    (4, "[1.5, 1, Conv, [48, 3, 2]]", ["from is 1.5"]),
    (4, "[true, 1, Conv, [48, 3, 2]]", ["from is True"]),
    (8, "[-1, 1, Concat, [1]]", ["takes a list of inputs"]),
    (8, "[[-1, 4], 1, Conv, [32]]", ["takes one input", "Concat"]),
    # the head and its levels
    (10, "[9, 1, RTDETRDecoder, [nc]]", ["list of its levels"]),
    (10, "[[6, 9, 3], 1, RTDETRDecoder, [nc]]", ["wrong levels", "64x20x20", "fine to coarse"]),
    (10, "[[9, 9, 6], 1, RTDETRDecoder, [nc]]", ["wrong levels", "once"]),
    (10, "[[2, 3, 9, 6], 1, RTDETRDecoder, [nc]]", ["wrong levels"]),
    (10, "[[3, 9, 6], 2, RTDETRDecoder, [nc]]", ["repeats"]),
    (9, "[[3, 4, 6], 1, RTDETRDecoder, [nc]]", ["must be the last row"]),
    (10, "[-1, 1, Conv, [32]]", ["must be a head", "RTDETRDecoder"]),
    (10, "[[3, 9, 6], 1, RTDETRDecoder, [num_classes, 32]]", ["count of a head is written nc, not num_classes"]),
    (10, "[[3, 9, 6], 1, RTDETRDecoder, [7, 32]]", ["built for 7 classes", "nc is 4", "write nc"]),
    (10, "[[3, 9, 6], 1, RTDETRDecoder, [nc, 32, 0]]", ["nq=0", "at least 1"]),
    (10, "[[3, 9, 6], 1, RTDETRDecoder, [nc, 32, 20, 4, 4, 1, 64, 0.0, None, -9]]", ["eval_idx=-9", "-1 to 0"]),
    # the row's form
    (4, "[-1, 0, Conv, [48, 3, 2]]", ["repeats is 0"]),
    (4, "[-1, two, Conv, [48, 3, 2]]", ["repeats is 'two'"]),
    (4, "[-1, 1, Conv]", ["[from, repeats, module, args]"]),
    (4, "[-1, 1, Conv, 48]", ["args must be a list", "[48]"]),
    (4, "Conv", ["[from, repeats, module, args]"]),
    (8, "[[-1, 4], 2, Concat, [1]]", ["repeats is 2"]),
]


@pytest.mark.parametrize(("layer", "row", "message"), BROKEN, ids=lambda v: v if isinstance(v, str) else None)
def test_broken_rows(yaml_file, layer, row, message):
    path = yaml_file(with_row(layer, row))
    with pytest.raises(ModelYAMLError) as e:
        RTDETRDetectionModel(path, verbose=False)
    lines = str(e.value).splitlines()
    assert len(lines) <= 3
    assert lines[0].startswith(f"{path}:{line_of(layer)}: layer {layer}")
    for word in message:
        assert word in str(e.value), f"'{word}' is not in:\n{e.value}"


def test_tiny_is_right(yaml_file):
    """The text that the table breaks builds when it is left alone."""
    model = RTDETRDetectionModel(yaml_file(TINY), verbose=False)
    assert [layer.i for layer in model.model] == list(range(11))


def test_a_head_with_a_number_of_classes(yaml_file, tmp_path):
    """A number is as good as nc where it is the model's class count; another count, as of a data set, is refused."""
    path = yaml_file(with_row(10, "[[3, 9, 6], 1, RTDETRDecoder, [4, 32, 20, 4, 4, 1, 64]]"))
    model = RTDETRDetectionModel(path, verbose=False)
    assert model.nc == model.model[-1].nc == 4
    save_checkpoint(tmp_path / "m.pt", {"model": pack_model(model)})
    assert load_checkpoint(tmp_path / "m.pt")[0].model[-1].nc == 4
    with pytest.raises(ModelYAMLError, match=r"layer 10 .*4 classes, but the model's nc is 9"):
        RTDETRDetectionModel(path, nc=9, verbose=False)
    with pytest.raises(ModelYAMLError, match="write nc"):
        parse_model({**dict(load_model_yaml(path).data), "nc": 9}, verbose=False)


def test_mapping_without_lines():
    with pytest.raises(ModelYAMLError, match=r"^model dict: layer 1 \(Cov\): unknown module"):
        plan_model(load_model_yaml({"nc": 1, "backbone": [[-1, 1, "Conv", [8]]], "head": [[-1, 1, "Cov", [8]]]}))


@pytest.mark.parametrize("activation", ["nn.Nothing()", "nn.ReLU", "ReLU", "nn.ReLU(1, 2, 3)", "print(1)"])
def test_broken_activation(yaml_file, activation):
    with pytest.raises(ModelYAMLError, match="activation"):
        plan_model(load_model_yaml(yaml_file(TINY + f"activation: {activation}\n")))


def test_activation_reaches_conv_and_nothing_stays(yaml_file):
    layers, _ = parse_model(yaml_file(TINY + "activation: nn.LeakyReLU(0.2)\n"), verbose=False)
    assert isinstance(layers[0].act, nn.LeakyReLU) and layers[0].act.negative_slope == 0.2
    layers, _ = parse_model(yaml_file(TINY), verbose=False)
    assert isinstance(layers[0].act, nn.SiLU)


def mini(row, *, nc=3):
    """Two convolutions, one row to look at, and a plain end."""
    return {"nc": nc, "backbone": [[-1, 1, "Conv", [8, 3, 2]], row], "head": [[-1, 1, "nn.Identity", []]]}


@pytest.mark.parametrize(
    ("row", "channels", "args"),
    [
        ([-1, 1, "Conv", [16, 3]], 16, (8, 16, 3)),
        ([-1, 1, "nn.Conv2d", [8, "nc", 3]], 3, (8, 3, 3)),  # found by the dry run
        ([-1, 1, "nn.BatchNorm2d", []], 8, (8,)),
        ([-1, 1, "nn.BatchNorm2d", [64]], 8, (8,)),
        ([-1, 1, "nn.ConvTranspose2d", [16, 2, 2]], 16, (8, 16, 2, 2)),
        ([-1, 1, "nn.PixelShuffle", [2]], 2, (2,)),
        ([-1, 1, "torch.nn.Conv2d", [8, 4, 1]], 4, (8, 4, 1)),
        ([-1, 1, "torchvision.ops.Permute", [[0, 2, 1, 3]]], 320, ([0, 2, 1, 3],)),
        ([[0], 1, "Concat", [1]], 8, (1,)),
        ([[0, 0, -1], 1, "Concat", [1]], 24, (1,)),
    ],
)
def test_channels(row, channels, args):
    plan = plan_model(load_model_yaml(mini(row)))[1]
    assert plan.out_channels == channels
    assert plan.copies == (args,)


def test_chained_copies_continue_from_the_first():
    """The second copy takes the first one's output channels."""
    plans = plan_model(load_model_yaml(mini([-1, 3, "Conv", [16, 3]])))
    assert plans[1].copies == ((8, 16, 3), (16, 16, 3), (16, 16, 3))
    layers, _ = build_model(load_model_yaml(mini([-1, 3, "Conv", [16, 3]])))
    assert isinstance(layers[1], nn.Sequential) and len(layers[1]) == 3
    assert layers[1].type == "ultralytics.nn.modules.conv.Conv"
    assert layers(torch.zeros(1, 3, 16, 16)).shape == (1, 16, 8, 8)


@pytest.mark.parametrize("ch", [1, 3, 6])
def test_image_channels(ch):
    layers, _ = build_model(load_model_yaml(mini([-1, 1, "Conv", [16, 3]])), ch)
    assert layers[0].conv.in_channels == ch


@pytest.mark.parametrize("ch", ["3", 2.0, None, 0, -1, True])
def test_image_channels_that_are_none(ch):
    with pytest.raises(ConfigError, match=r"ch=.*integer, at least 1"):
        build_model(load_model_yaml(mini([-1, 1, "Conv", [16, 3]])), ch)


def test_batch_norm_settings():
    layers, _ = build_model(load_model_yaml(mini([-1, 1, "nn.BatchNorm2d", []])))
    assert (layers[0].bn.eps, layers[0].bn.momentum, layers[1].eps) == (1e-3, 0.03, 1e-3)
    set_batch_norm(layers, eps=1e-5, momentum=0.1)
    assert (layers[0].bn.eps, layers[1].momentum) == (1e-5, 0.1)


def test_building_spends_no_memory_on_a_plan():
    """Planning a model of some 4 billion parameters is quick and allocates none of them."""
    plans = plan_model(load_model_yaml(mini([-1, 1, "nn.Conv2d", [8, 10**7, 7]])))
    assert plans[1].output.is_meta and plans[1].out_channels == 10**7


@pytest.fixture
def own_blocks():
    """Blocks that a user might register, gone afterwards."""

    @register
    class OwnPlain(nn.Module):
        def __init__(self, channels, grow=2):
            super().__init__()
            self.conv = nn.Conv2d(channels, channels * grow, 3, padding=1)

        def forward(self, x):
            return self.conv(x)

    @register(lambda row: Plan((row.c1,), row.c1 + 1))
    class OwnWrongRule(nn.Conv2d):
        def __init__(self, c):
            super().__init__(c, c, 1)

    @register
    class OwnNeedsValues(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.conv = nn.Conv2d(channels, 5, 1)

        def forward(self, x):
            return self.conv(x) * (1.0 if x.sum().item() < 1e9 else 0.0)

    @register(multi_input=True)
    class OwnSum(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.channels = channels

        def forward(self, x):
            return x[0] + x[1]

    names = ["OwnPlain", "OwnWrongRule", "OwnNeedsValues", "OwnSum"]
    yield names
    for name in names:
        REGISTRY._entries.pop(name)


def test_own_blocks(own_blocks):
    plans = plan_model(load_model_yaml(mini([-1, 1, "OwnPlain", [3]])))
    assert plans[1].copies == ((8, 3),) and plans[1].out_channels == 24
    assert plan_model(load_model_yaml(mini([-1, 1, "OwnNeedsValues", []])))[1].out_channels == 5
    joined = plan_model(load_model_yaml(mini([[0, 0], 1, "OwnSum", []])))[1]
    assert joined.copies == (([8, 8],),) and joined.out_channels == 8
    with pytest.raises(ModelYAMLError, match=r"rule says 9 output channels, its forward gives 8"):
        plan_model(load_model_yaml(mini([-1, 1, "OwnWrongRule", []])))


def test_parse_model_is_upstreams_entry(capsys):
    layers, save = parse_model(mini([0, 1, "Conv", [16, 3]]), ch=3, verbose=False)
    assert save == [0]
    assert isinstance(layers, nn.Sequential) and isinstance(layers[0], Conv)
    assert [layer.f for layer in layers] == [-1, 0, -1]


def test_with_line_counts_from_one():
    assert with_line(1, "nc: 9").startswith("nc: 9\nscales:")
