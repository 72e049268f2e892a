"""Weight transfer: alignment of layer lists, copying, class rows, identity starts, and the report."""

import copy

import pytest
import torch
import yaml
from torch import nn

from tests.golden.fill import fill_
from tests.nn.yamls import TINY
from ultralytics.nn.checkpoint.format import pack_model
from ultralytics.nn.modules.csp import Bottleneck
from ultralytics.nn.modules.shsa import SHSA, BasicBlock
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.nn.transfer import TransferReport, align, describe_layers, match_names, pair_cost, transfer
from ultralytics.utils.errors import CheckpointError

TINY_DICT = yaml.safe_load(TINY.replace("None", "null"))


@pytest.mark.parametrize(
    ("target", "source", "want"),
    [
        ({}, {}, []),
        ({}, {0: "cat"}, []),
        ({0: "cat"}, {0: "cat"}, []),  # the same: plain copying does it
        ({0: "0", 1: "1"}, {0: "cat", 1: "dog"}, []),  # placeholders say nothing
        ({0: "cat", 1: "dog"}, {0: "0", 1: "1"}, []),
        ({0: "cat", 1: "dog"}, {0: "dog", 1: "cat"}, [(0, 1), (1, 0)]),
        ({0: "Traffic Light"}, {0: "car", 1: "trafficlight"}, [(0, 1)]),
        ({0: "cat"}, {0: "bus", 1: "car"}, []),
    ],
)
def test_match_names(target, source, want):
    assert match_names(target, source) == want


def test_empty_transfer():
    report = transfer(nn.Linear(2, 2), {})
    assert report.copied == [] and report.fresh == ["weight", "bias"]
    assert report.lines() == ["Transferred 0/2 tensors"]
    assert TransferReport().lines() == ["Transferred 0/0 tensors"]


def test_shapes_must_agree():
    net = nn.Linear(2, 2)
    source = {"weight": torch.ones(2, 2), "bias": torch.ones(3), "other": torch.ones(1)}
    report = transfer(net, source)
    assert (report.copied, report.fresh, report.dropped) == (["weight"], ["bias"], ["bias", "other"])
    assert torch.equal(net.weight, torch.ones(2, 2))


# ---------------------------------------------------------------------------------------------------------- alignment
def state_of(*widths):
    """A state dict of layers with one vector each; width 0 is a layer without tensors."""
    return {f"model.{i}.w": torch.empty(n) for i, n in enumerate(widths) if n}


@pytest.mark.parametrize(
    ("target", "source", "want"),
    [
        ([], [], []),
        ([3], [], [(0, None)]),
        ([], [3], [(None, 0)]),
        ([3, 4, 5], [3, 4, 5], [(0, 0), (1, 1), (2, 2)]),
        ([3, 9, 4], [3, 4], [(0, 0), (1, None), (2, 1)]),  # put in
        ([3, 4], [3, 9, 4], [(0, 0), (None, 1), (1, 2)]),  # taken out
        ([3, 8, 5], [3, 4, 5], [(0, 0), (1, 1), (2, 2)]),  # changed: still the same row
        ([3, 3], [3], [(0, 0), (1, None)]),  # among equals the first
        ([3, 0, 4], [3, 0, 4], [(0, 0), (1, 1), (2, 2)]),
        ([1, 2, 3, 4, 5, 6], [3, 4, 5, 6], [(0, None), (1, None), (2, 0), (3, 1), (4, 2), (5, 3)]),
    ],
)
def test_align(target, source, want):
    pairs = align(describe_layers(state_of(*target), None), describe_layers(state_of(*source), None))
    assert [(p.target and p.target.index, p.source and p.source.index) for p in pairs] == want


def brute_cost(target, source):
    """Cost of the best alignment by trying everything."""
    if not target or not source:
        return sum(layer.gap() for layer in [*target, *source])
    options = [
        target[0].gap() + brute_cost(target[1:], source),
        source[0].gap() + brute_cost(target, source[1:]),
    ]
    if (both := pair_cost(target[0], source[0])) is not None:
        options.append(both + brute_cost(target[1:], source[1:]))
    return min(options)


@pytest.mark.parametrize("seed", range(12))
def test_align_is_cheapest(seed):
    widths = torch.randint(0, 4, (2, 5), generator=torch.Generator().manual_seed(seed)).tolist()
    target, source = (describe_layers(state_of(*w), None) for w in widths)
    got = 0
    for a, b in align(target, source):
        got += pair_cost(a, b) if a and b else (a or b).gap()
    assert got == brute_cost(target, source)


# ------------------------------------------------------------------------------------------------------------- models
def build(data, seed=2, **kwargs):
    torch.manual_seed(seed)
    return RTDETRDetectionModel(copy.deepcopy(data), verbose=False, **kwargs)


def donor(data=TINY_DICT, seed=1):
    """A model with values everywhere: no batch norm is the identity, no residual branch zero."""
    model = build(data, seed)
    fill_(model, "", 1.2)
    return model.eval()


def insert(data, after, row):
    """A copy of `data` with a backbone row behind layer `after`, the later indices moved."""
    data = copy.deepcopy(data)
    data["backbone"].insert(after + 1, row)
    for part, rows in (("backbone", data["backbone"]), ("head", data["head"])):
        for k, entry in enumerate(rows):
            if entry is not row and (part == "head" or k > after + 1):
                f = entry[0]
                entry[0] = [i + (i > after) for i in f] if isinstance(f, list) else f + (f > after)
    return data


SHSA_ROW = [-1, 1, "SHSA", []]


def shsa_free():
    """A donor without any SHSA, eight backbone layers."""
    data = copy.deepcopy(TINY_DICT)
    data["backbone"] = [
        [-1, 1, "Conv", [16, 3, 2]],
        [-1, 1, "Conv", [24, 3, 2]],
        [-1, 2, "CCRI", [24, 3, True, False]],
        [-1, 1, "Conv", [32, 3, 2]],
        [-1, 1, "Conv", [48, 3, 2]],
        [-1, 2, "CCRI", [48, 3, True, True]],
        [-1, 1, "Conv", [64, 3, 2]],
        [-1, 1, "Bottleneck", [64]],
    ]
    data["head"] = [
        [-1, 1, "AIFI", [64, 4]],
        [-1, 1, "nn.Upsample", [None, 2, "nearest"]],
        [[-1, 5], 1, "Concat", [1]],
        [-1, 1, "RepC3", [32]],
        [[3, 11, 8], 1, "RTDETRDecoder", ["nc", 32, 20, 4, 4, 1, 64]],
    ]
    return data


DONORS = {"with SHSA": TINY_DICT, "without": shsa_free()}


def outputs(model):
    x = torch.linspace(0, 60, 2 * 3 * 64 * 96).view(2, 3, 64, 96).sin().abs()
    with torch.no_grad():
        return model.eval()(x)[0]


@pytest.mark.parametrize("base", DONORS)
@pytest.mark.parametrize("places", [(3,), (6,), (3, 6), (0, 0, 2)], ids=str)
def test_inserted_shsa_keeps_the_outputs(base, places):
    """A random donor, SHSA put in after layer 3, after 6, both: the donor's outputs to 1e-5, and the report says so."""
    data = DONORS[base]
    after = [min(p, len(data["backbone"]) - 1) for p in places]
    source = donor(data)
    edited = data
    for place in sorted(after, reverse=True):
        edited = insert(edited, place, SHSA_ROW)
    model = build(edited)
    report = model.load(source, verbose=False)
    torch.testing.assert_close(outputs(model), outputs(source), rtol=1e-5, atol=1e-5)
    assert report.same_outputs and "outputs equal the source's" in report.lines()[-1]
    new = [r for r in report.layers if r.state == "new"]
    assert len(new) == len(places) and all(isinstance(model.model[r.target], SHSA) for r in new)
    assert {r.note for r in new} == {"starts as the identity"} and report.dropped == []


def test_a_trained_block_becomes_the_identity():
    """Loading into a model whose new block has weights of its own already."""
    source, model = donor(), build(insert(TINY_DICT, 1, SHSA_ROW))
    fill_(model, "", 0.7)
    assert model.load(source, verbose=False).same_outputs
    torch.testing.assert_close(outputs(model), outputs(source), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("row", [[-1, 1, "BasicBlock", []], [-1, 3, "SHSA", []], [-1, 1, "Bottleneck", [24]]], ids=str)
def test_other_residual_blocks(row):
    source, model = donor(), build(insert(TINY_DICT, 1, row))
    assert model.load(source, verbose=False).same_outputs
    torch.testing.assert_close(outputs(model), outputs(source), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("block", [SHSA(32, residual=True), BasicBlock(32), BasicBlock(32, type="i"), Bottleneck(8, 8)])
def test_identity_start_can_learn(block):
    """After `start_as_identity` the block gives its input, and a gradient reaches it."""
    fill_(block, "", 1.2)
    channels = 8 if isinstance(block, Bottleneck) else 32
    x = torch.rand(2, channels, 6, 6, generator=torch.Generator().manual_seed(0))
    assert block.start_as_identity()
    torch.testing.assert_close(block.eval()(x), x)
    block.train()(x).pow(2).sum().backward()
    assert max(float(p.grad.abs().max()) for p in block.parameters() if p.grad is not None) > 1e-3


@pytest.mark.parametrize("block", [SHSA(32), Bottleneck(8, 16), Bottleneck(8, 8, shortcut=False)])
def test_no_identity_without_a_residual(block):
    before = copy.deepcopy(block.state_dict())
    assert not block.start_as_identity()
    assert all(torch.equal(v, before[k]) for k, v in block.state_dict().items())


def test_inserted_convolution_is_no_identity():
    source, model = donor(), build(insert(TINY_DICT, 1, [-1, 1, "Conv", [24, 3, 1]]))
    report = model.load(source, verbose=False)
    assert not report.same_outputs and [r.target for r in report.layers if r.state == "new"] == [2]
    assert torch.equal(model.model[6].conv.weight, source.model[5].conv.weight)


def test_removed_row():
    data = copy.deepcopy(TINY_DICT)
    del data["backbone"][3]
    for row in data["head"]:
        row[0] = [f - (f > 3) for f in row[0]] if isinstance(row[0], list) else row[0]
    data["head"][-1][0] = [2, 8, 5]
    report = build(data).load(donor(), verbose=False)
    assert [(r.state, r.source) for r in report.layers if r.state not in ("kept", "moved")] == [("dropped", 3)]
    assert all(k.startswith("model.3.") for k in report.dropped) and report.fresh == []
    assert not report.same_outputs
    assert any("dropped" in line and "SHSA" in line for line in report.lines())


def test_changed_channels_are_left_fresh():
    data = copy.deepcopy(TINY_DICT)
    data["backbone"][4] = [-1, 1, "Conv", [56, 3, 2]]
    model = build(data)
    before = copy.deepcopy(model.state_dict())
    report = model.load(donor(), verbose=False)
    changed = {r.target: r.note for r in report.layers if r.state == "changed"}
    assert set(changed) == {4, 5, 9}  # the row, and those that read it: Conv and, behind Concat, RepC3
    assert "conv.weight is 56x32x3x3, in the source 48x32x3x3" in changed[4]
    assert all(torch.equal(model.state_dict()[k], before[k]) for k in before if k.startswith(("model.4.", "model.9.")))
    assert any("re-initialised" in line and "56x32x3x3" in line for line in report.lines())


def test_a_head_keeps_what_fits():
    """Another width of one level: its projection is fresh as a whole, the decoder is taken."""
    data = copy.deepcopy(TINY_DICT)
    data["head"][-1][0] = [2, 9, 6]
    data["backbone"][2] = [-1, 1, "Conv", [40, 3, 2]]
    model, source = build(data), donor()
    report = model.load(source, verbose=False)
    fresh = {k for k in report.fresh if k.startswith("model.10.")}
    assert fresh and all(k.startswith("model.10.input_proj.0.") for k in fresh)
    assert any(".bn." in k or ".1." in k for k in fresh)  # the norm behind the fresh convolution too
    ours, theirs = (m.model[10].query_pos_head.layers[0].weight for m in (model, source))
    assert torch.equal(ours, theirs)


def test_class_count_changes_only_class_layers():
    report = build(TINY_DICT, nc=7).load(donor(), verbose=False)
    assert report.fresh and all("score_head" in k or "class_embed" in k for k in report.fresh)
    assert {r.state for r in report.layers} == {"kept"}
    assert report.layers[-1].note == f"{len(report.fresh)} class tensors fresh" and not report.same_outputs


def test_plain_state_dict_is_aligned_by_shapes():
    source = donor()
    model = build(insert(TINY_DICT, 3, SHSA_ROW))
    report = model.load(source.state_dict(), verbose=False)
    torch.testing.assert_close(outputs(model), outputs(source), rtol=1e-5, atol=1e-5)
    assert [r.target for r in report.layers if r.state == "new"] == [4]
    assert not report.same_outputs  # the routes of a bare state dict are not known


def test_routes_are_compared():
    """The same layers wired otherwise do not claim the donor's outputs."""
    data = copy.deepcopy(TINY_DICT)
    data["head"][-1][0] = [2, 9, 6]  # level 0 from before SHSA
    report = build(data).load(donor(), verbose=False)
    assert report.fresh == [] and not report.same_outputs


def test_fused_weights_are_refused():
    with pytest.raises(CheckpointError, match="fused weights"):
        build(TINY_DICT).load({"model": pack_model(donor().fuse(verbose=False))}, verbose=False)


def test_report_is_compact():
    report = build(insert(TINY_DICT, 3, SHSA_ROW)).load(donor(), verbose=False)
    assert [" ".join(line.split()) for line in report.lines()[1:-1]] == [
        "layer source modules",
        "0-3 0-3 kept Conv, SHSA",
        "4 - new SHSA: starts as the identity",
        "5-11 4-10 moved Conv, AIFI, nn.Upsample, Concat, RepC3, ...",
    ]
    assert len(build(TINY_DICT).load(donor(), verbose=False).lines()) == 2  # all kept: nothing to tabulate


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model.", "student.net."])
def test_prefixes_of_wrappers_are_taken_off(prefix):
    source, target = (RTDETRDetectionModel(copy.deepcopy(TINY_DICT), verbose=False) for _ in range(2))
    fill_(source)
    report = target.load({prefix + k: v for k, v in source.state_dict().items()}, verbose=False)
    assert not report.fresh and all(torch.equal(v, source.state_dict()[k]) for k, v in target.state_dict().items())


def test_the_state_dict_of_the_rows_alone_loads():
    source, target = (RTDETRDetectionModel(copy.deepcopy(TINY_DICT), verbose=False) for _ in range(2))
    fill_(source)
    assert not target.load(source.model.state_dict(), verbose=False).fresh


def test_weights_of_which_nothing_fits_give_a_warning(capsys):
    RTDETRDetectionModel(copy.deepcopy(TINY_DICT), verbose=False).load({"other.weight": torch.ones(3)}, verbose=False)
    assert "nothing was taken" in capsys.readouterr().out


def test_one_network_in_two_forms_of_rows():
    """The rows of forks, and ours: nothing is lost and the outputs are equal bit for bit, with another epsilon too."""
    torch.manual_seed(0)
    source, target = (RTDETRDetectionModel(f"rtdetr-{n}.yaml", nc=2, verbose=False) for n in ("resnet18", "r18"))
    fill_(source)
    assert source.state_dict().keys() != target.state_dict().keys()
    report = target.load(source, verbose=False)
    assert not report.fresh and len(report.copied) == len(source.state_dict())
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(source.eval()(image)[0], target.eval()(image)[0])
    other = RTDETRDetectionModel("rtdetr-r34.yaml", nc=2, verbose=False)  # of another depth: aligned row by row
    assert other.load(source, verbose=False).fresh
