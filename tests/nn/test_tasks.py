"""Detection models: construction, routing, loss, fusing, weight transfer, and edits of the SHSA model's YAML."""

import copy

import pytest
import torch
from torch import nn

from tests.golden.fill import fill_
from tests.nn.networks import TINY_DICT, batch_of, tiny
from ultralytics.nn.build.spec import load_model_yaml
from ultralytics.nn.modules.shsa import SHSA
from ultralytics.nn.tasks import (
    DetectionModel,
    RTDETRDetectionModel,
    guess_model_task,
    yaml_model_load,
)
from ultralytics.utils.errors import CheckpointError, ConfigError, ModelYAMLError


def test_attributes():
    model = tiny(nc=3)
    assert model.nc == 3 and model.yaml["nc"] == 3 and model.yaml["channels"] == 3
    assert model.names == {0: "0", 1: "1", 2: "2"}
    assert model.stride.tolist() == [32.0]
    assert model.task == guess_model_task(model) == guess_model_task("rtdetr-l.yaml") == "detect"
    assert model.save == [3, 4, 6, 9]
    assert isinstance(model, DetectionModel)
    assert {type(m) for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {nn.BatchNorm2d}
    assert {m.eps for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}


def test_stride_grows_with_the_network():
    data = copy.deepcopy(TINY_DICT)
    data["backbone"].append([-1, 1, "Conv", [64, 3, 2]])  # layer 6, stride 64
    data["head"] = [[-1, 1, "AIFI", [64, 4]], [[3, 5, 7], 1, "RTDETRDecoder", ["nc", 32, 20, 4, 4, 1, 64]]]
    assert RTDETRDetectionModel(data, verbose=False).stride.tolist() == [64.0]


def test_yaml_model_load():
    data = yaml_model_load("rtdetr-l.yaml")
    assert (data["nc"], data["scale"], data["yaml_file"]) == (80, "l", "rtdetr-l.yaml")


def test_predict_shapes_and_raw_tuple():
    model = tiny().eval()
    with torch.no_grad():
        y, raw = model(torch.rand(2, 3, 64, 96))
    assert y.shape == (2, 20, 6)
    assert len(raw) == 5 and raw[4] is None
    assert (y[..., 4].diff(dim=1) <= 0).all()
    model.train()
    assert len(model(torch.rand(1, 3, 64, 64))) == 5


def test_batch_equals_singles():
    model = tiny().eval()
    fill_(model, "", 1.2)
    x = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        both = model(x)[0]
        alone = torch.cat([model(x[i : i + 1])[0] for i in range(2)])
    torch.testing.assert_close(both[..., 4], alone[..., 4], rtol=1e-4, atol=1e-5)


def test_routing_against_a_hand_written_forward():
    """TINY written out by hand gives the head's inputs that the router gives."""
    model = tiny().eval()
    fill_(model, "", 1.2)
    m = model.model
    got = []
    m[10].register_forward_pre_hook(lambda _m, args: got.extend(args[0]))
    with torch.no_grad():
        x = torch.rand(1, 3, 64, 64)
        model(x)
        c3 = m[3](m[2](m[1](m[0](x))))
        c4 = m[4](c3)
        c5 = m[6](m[5](c4))
        f4 = m[9](m[8]([m[7](c5), c4]))
    for a, b in zip(got, (c3, f4, c5), strict=True):
        assert torch.equal(a, b)


def test_embed_profile_augment():
    model = tiny().eval()
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        vectors = model.predict(x, embed=[3, 6])
        model.predict(x, profile=True)
    assert [v.shape for v in vectors] == [(32 + 64,), (32 + 64,)]
    with pytest.raises(ConfigError, match="layers 0 to 9"):
        model.predict(x, embed=[10])
    with pytest.raises(ConfigError, match="augment"):
        model.predict(x, augment=True)


@pytest.mark.parametrize("counts", [(0, 0), (2, 0), (0, 1), (2, 3)])
def test_loss_in_both_modes(counts):
    """A fresh model has a loss at once, also for images without objects; nothing needs to be attached first."""
    torch.manual_seed(0)
    model = tiny()
    total, items = model(batch_of(counts=counts))
    total.backward()
    assert total.isfinite() and items.shape == (3,) and not items.requires_grad
    assert model.model[0].conv.weight.grad.abs().sum() > 0
    model.eval()
    with torch.no_grad():
        total, items = model.loss(batch_of(counts=counts))
    assert total.isfinite() and items.isfinite().all()


def test_loss_does_not_depend_on_the_order_of_targets():
    model = tiny().train()
    model.model[-1].num_denoising = 0
    batch = batch_of(counts=(3, 2))
    order = torch.tensor([4, 0, 3, 2, 1])
    mixed = {**batch, **{k: batch[k][order] for k in ("cls", "bboxes", "batch_idx")}}
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 0.0
    a, b = model.loss(batch)[0], model.loss(mixed)[0]
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_loss_of_given_predictions():
    model = tiny().eval()
    batch = batch_of()
    with torch.no_grad():
        direct = model.loss(batch)
        given = model.loss(batch, model(batch["img"]))
    torch.testing.assert_close(direct, given)


def test_fuse_leaves_no_batch_norm_and_the_same_outputs():
    model = tiny().eval()
    fill_(model, "", 1.2)
    x = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        want = model(x)[0]
        assert not model.is_fused()
        assert model.fuse(verbose=False) is model
        got = model(x)[0]
    assert model.is_fused()
    assert not [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    torch.testing.assert_close(got[..., 4], want[..., 4], rtol=1e-4, atol=1e-5)
    assert [layer.i for layer in model.model] == list(range(11))
    count = sum(p.numel() for p in model.parameters())
    assert sum(p.numel() for p in model.fuse(verbose=False).parameters()) == count  # again: nothing more to do
    clone = copy.deepcopy(model)
    with torch.no_grad():
        torch.testing.assert_close(clone(x)[0], got)


def test_info_counts_and_table():
    model = tiny()
    assert model.info(verbose=False) is None
    layers, params, gradients, gflops = model.info(detailed=True, imgsz=64)
    assert params == gradients == sum(p.numel() for p in model.parameters())
    assert layers == sum(not list(m.children()) for m in model.modules())
    layer_rows = model.layers(64)
    assert [f.shape for f in layer_rows[:4]] == ["16x32x32", "24x16x16", "32x8x8", "32x8x8"]
    assert sum(f.params for f in layer_rows) == params
    assert abs(sum(f.gflops for f in layer_rows) - gflops) < 1e-3 * gflops + 1e-6
    conv = 2 * 16 * 32 * 32 * 3 * 9 / 1e9  # layer 0 by hand: two operations a multiply-add
    assert abs(layer_rows[0].gflops - conv) < 1e-9
    assert layer_rows[10].shape == "20x6"


def test_last_row_must_be_a_head():
    with pytest.raises(ModelYAMLError, match="must be a head"):
        RTDETRDetectionModel(
            {"nc": 1, "backbone": [[-1, 1, "Conv", [8]]], "head": [[-1, 1, "Conv", [8]]]}, verbose=False
        )


# ------------------------------------------------------------------------------------------------------ load()
def test_load_everything():
    donor, model = tiny(1), tiny(2)
    donor.names = {0: "a", 1: "b", 2: "c", 3: "d"}
    report = model.load(donor, verbose=False)
    assert report.fresh == report.dropped == report.rows == []
    assert all(torch.equal(a, b) for a, b in zip(donor.state_dict().values(), model.state_dict().values(), strict=True))
    assert model.names == donor.names


def test_load_another_class_count_keeps_all_but_class_layers():
    donor, model = tiny(1), tiny(2, nc=7)
    report = model.load(donor, verbose=False)
    assert report.fresh and all("score_head" in k or "class_embed" in k for k in report.fresh)
    assert torch.equal(model.model[0].conv.weight, donor.model[0].conv.weight)
    assert model.nc == 7 and model.model[-1].nc == 7


def test_load_class_rows_by_name():
    donor, model = tiny(1), tiny(2, nc=3)
    donor.names = {0: "cat", 1: "dog", 2: "bus", 3: "car"}
    model.names = {0: "Bus", 1: "tree", 2: "cat"}
    before = model.model[-1].enc_score_head.weight.clone()
    report = model.load(donor, verbose=False)
    after, source = model.model[-1].enc_score_head.weight, donor.model[-1].enc_score_head.weight
    assert torch.equal(after[0], source[2]) and torch.equal(after[2], source[0])
    assert torch.equal(after[1], before[1])
    assert report.row_names == ["Bus", "cat"]
    assert model.names == {0: "Bus", 1: "tree", 2: "cat"}


def test_load_takes_the_epsilon_along():
    donor, model = tiny(1), tiny(2)
    for m in donor.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.eps = 1e-5
    model.load(donor, verbose=False)
    assert {m.eps for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-5}
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(x)[0], donor.eval()(x)[0])


def test_load_plain_state_dict_and_nothing():
    donor, model = tiny(1), tiny(2)
    model.load(donor.state_dict(), verbose=False)
    assert torch.equal(model.model[5].conv.weight, donor.model[5].conv.weight)
    with pytest.raises(CheckpointError, match="no tensors"):
        model.load({"epoch": 3}, verbose=False)


# ------------------------------------------------------------------------------- edits of the SHSA model's YAML
def edited(insert=None, drop=None, shsa=None):
    """`rtdetr-l.yaml` as a mapping at scale n, with one row put in or left out and the later indices moved."""
    spec = load_model_yaml("rtdetr-l.yaml", scale="n")
    data = {k: copy.deepcopy(v) for k, v in spec.data.items() if k not in ("yaml_file", "channels")}
    at = drop if drop is not None else insert
    step = 0 if at is None else (-1 if drop is not None else 1)
    first_moved = at if drop is not None else (at or 0) + 1

    def move(f):
        return f + step if step and f >= first_moved else f

    rows = data["backbone"] + data["head"]
    for row in rows:
        row[0] = [move(f) for f in row[0]] if isinstance(row[0], list) else move(row[0])
    if drop is not None:
        del data["backbone"][drop]
    if insert is not None:
        data["backbone"].insert(insert + 1, [-1, 1, "SHSA", shsa or []])
    elif shsa is not None:
        data["backbone"][4][3] = shsa
    return data


EDITS = {
    "stock": edited(),
    "without SHSA": edited(drop=4),
    "SHSA, [16, 64]": edited(shsa=[16, 64]),
    "SHSA after 6": edited(insert=6),
    "nc 3": {**edited(), "nc": 3},
}


@pytest.mark.parametrize("data", EDITS.values(), ids=EDITS)
def test_edits_build_train_and_predict(data):
    torch.manual_seed(0)
    model = RTDETRDetectionModel(data, verbose=False)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    total, _ = model(batch_of(nc=data["nc"]))
    total.backward()
    optimizer.step()
    assert total.isfinite()
    with torch.no_grad():
        y = model.eval()(torch.rand(1, 3, 64, 64))[0]
    assert y.isfinite().all() and y.shape[-1] == 6


@pytest.mark.parametrize("scale", ["s", "m", "x"])
def test_scales_build(scale):
    spec = load_model_yaml("rtdetr-l.yaml", scale=scale)
    model = RTDETRDetectionModel("rtdetr-l.yaml", scale=scale, verbose=False)
    assert model.yaml["scale"] == scale
    assert model.model[3].conv.out_channels == {"s": 128, "m": 192, "x": 320}[scale]
    assert model.model[6].m is not None and len(spec.layers) == 28
    with torch.no_grad():
        assert model.eval()(torch.rand(1, 3, 64, 64))[0].isfinite().all()


@pytest.mark.parametrize(("after", "shsa"), [(3, []), (6, []), (8, [8, 16]), (2, [16])])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_new_shsa_row_is_the_identity(after, shsa, mode):
    """The layer after a new SHSA row sees what it saw without it."""
    data = edited(drop=4) if after == 3 else edited()
    if after == 3:
        with_row = edited(shsa=shsa)
    else:
        with_row = edited(insert=after, shsa=shsa)
    torch.manual_seed(0)
    model = RTDETRDetectionModel(with_row, verbose=False).train(mode == "train")
    layer = model.model[after + 1]
    assert isinstance(layer, SHSA)
    seen = {}
    layer.register_forward_hook(lambda _m, args, out: seen.update(x=args[0], y=out))
    with torch.no_grad():
        model(torch.rand(2, 3, 64, 64))
    assert (seen["y"] - seen["x"]).abs().max() <= 1e-6
    assert len(data["backbone"]) == len(with_row["backbone"]) - 1
