"""The RT-DETR head: query selection, denoising queries, rows, folding, and what it starts from."""

import copy
import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from ultralytics.models.utils.loss import RTDETRDetectionLoss
from ultralytics.nn.modules.head import DecoderOutput, RTDETRDecoder
from ultralytics.nn.registry import REGISTRY, RowContext

FACTS = json.loads((Path(__file__).parents[2] / "golden" / "facts.json").read_text())
CHANNELS = (8, 12)
SIZES = ((6, 5), (3, 3))


def head(nc=3, nq=10, seed=0, **kwargs):
    torch.manual_seed(seed)
    return RTDETRDecoder(nc, CHANNELS, hd=16, nq=nq, ndp=2, nh=4, ndl=2, d_ffn=32, **kwargs)


def trained(**kwargs):
    """A head whose weights are all random, so that no output is trivial."""
    module = head(**kwargs)
    for name, p in module.named_parameters():
        if "norm" not in name:
            nn.init.normal_(p, std=0.3)
    for projection in module.input_proj:
        nn.init.uniform_(projection[1].running_mean)
        nn.init.uniform_(projection[1].running_var, 0.5, 2.0)
        nn.init.uniform_(projection[1].weight, 0.5, 2.0)
        nn.init.normal_(projection[1].bias)
    return module


def maps(b=2, sizes=SIZES, seed=1):
    gen = torch.Generator().manual_seed(seed)
    return [torch.randn(b, c, *size, generator=gen) for c, size in zip(CHANNELS, sizes, strict=True)]


def targets(groups=(2, 1), nc=3):
    n = sum(groups)
    gen = torch.Generator().manual_seed(2)
    boxes = torch.rand(n, 4, generator=gen) * 0.2 + 0.3
    return {"cls": torch.arange(n) % nc, "bboxes": boxes, "gt_groups": list(groups)}


# -------------------------------------------------------------------------------------------------- construction
@pytest.mark.parametrize(
    ("option", "bound"),
    [
        ({"nq": 0}, "nq=0 .* at least 1"),
        ({"nq": 2.5}, "nq=2.5 .* integer"),
        ({"nq": True}, "nq=True .* integer"),
        ({"nq": "many"}, "nq='many' .* integer"),
        ({"ndl": 0}, "ndl=0 .* at least 1"),
        ({"nd": -1}, "nd=-1 .* at least 0"),
        ({"eval_idx": 2}, "eval_idx=2 .* -2 to 1"),
        ({"eval_idx": -3}, "eval_idx=-3 .* -2 to 1"),
        ({"eval_idx": None}, "eval_idx=None .* -2 to 1"),
        ({"box_noise_scale": -0.5}, "box_noise_scale=-0.5 .* at least 0"),
        ({"box_noise_scale": math.nan}, "box_noise_scale=nan .* at least 0"),
    ],
)
def test_options_outside_their_bounds_are_refused(option, bound):
    sizes = {"hd": 16, "nq": 10, "ndp": 2, "nh": 4, "ndl": 2, "d_ffn": 32}
    with pytest.raises(ValueError, match=bound):
        RTDETRDecoder(3, CHANNELS, **{**sizes, **option})


@pytest.mark.parametrize("option", [{"nq": 1}, {"nd": 0}, {"eval_idx": -2}, {"eval_idx": 1}, {"box_noise_scale": 0}])
def test_options_at_their_bounds_train_and_answer(option):
    module = head(**option)
    raw = module(maps(), targets())
    assert raw.dec_bboxes.shape[:2] == (2, 2) and torch.isfinite(raw.dec_scores).all()
    assert (raw.dn_meta is None) == (option.get("nd") == 0)
    rows, _ = module.eval()(maps())
    assert rows.shape == (2, option.get("nq", 10), 6)


def test_row_in_a_yaml_gives_the_channels_of_all_levels():
    entry = REGISTRY.get("RTDETRDecoder")
    plan = entry.rule(RowContext(in_channels=(8, 12), args=(3, 16, 10)))
    assert plan.args == (3, [8, 12], 16, 10) and entry.multi_input and entry.is_head


def test_state_dict_keys_are_upstreams():
    """Checkpoints of both worlds rely on these names and shapes."""
    per_layer = ["self_attn.in_proj_weight", "self_attn.in_proj_bias", "self_attn.out_proj.weight"]
    per_layer += ["self_attn.out_proj.bias", "norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "norm3.weight"]
    per_layer += ["norm3.bias", "linear1.weight", "linear1.bias", "linear2.weight", "linear2.bias"]
    names = ("sampling_offsets", "attention_weights", "value_proj", "output_proj")
    per_layer += [f"cross_attn.{n}.{k}" for n in names for k in ("weight", "bias")]
    want = {f"decoder.layers.{i}.{k}" for i in range(2) for k in per_layer}
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    want |= {f"input_proj.{i}.{k}" for i in range(2) for k in ("0.weight", *(f"1.{n}" for n in norm))}
    linear = ["enc_output.0", "enc_output.1", "enc_score_head", "dec_score_head.0", "dec_score_head.1"]
    linear += [f"query_pos_head.layers.{i}" for i in range(2)]
    linear += [f"{h}.layers.{i}" for h in ("enc_bbox_head", "dec_bbox_head.0", "dec_bbox_head.1") for i in range(3)]
    want |= {f"{name}.{k}" for name in linear for k in ("weight", "bias")} | {"denoising_class_embed.weight"}
    state = head().state_dict()
    assert set(state) == want
    assert state["decoder.layers.1.cross_attn.sampling_offsets.weight"].shape == (32, 16)
    assert state["query_pos_head.layers.0.weight"].shape == (32, 4)
    assert set(head(learnt_init_query=True).state_dict()) == want | {"tgt_embed.weight"}


@pytest.mark.parametrize("nc", [1, 5, 80, 365])
def test_score_prior_is_one_percent_for_every_class_count(nc):
    module = head(nc)
    for layer in (module.enc_score_head, *module.dec_score_head):
        torch.testing.assert_close(layer.bias.detach().sigmoid(), torch.full((nc,), 0.01))


def test_initial_zeros_are_the_references():
    module = RTDETRDecoder(5, (16, 24), 32, 20, 2, 4, 2, 48)
    zero = {name for name, p in module.named_parameters() if not p.any()}
    assert zero == set(FACTS["rtdetr_init_nc5"]["zero"])


def test_initial_values_can_be_drawn_again():
    module = trained()
    module.apply(lambda m: m.reset_parameters() if hasattr(m, "reset_parameters") else None)
    assert float(module.enc_score_head.bias.detach()[0]) == pytest.approx(-math.log(99))
    assert not module.dec_bbox_head[1].layers[-1].weight.any()
    assert not module.decoder.layers[1].cross_attn.sampling_offsets.weight.any()
    assert module.decoder.layers[1].cross_attn.sampling_offsets.bias.any()


# ------------------------------------------------------------------------------------------------------- anchors
def test_anchors_equal_the_references():
    golden = FACTS["anchors"]
    anchors = RTDETRDecoder._generate_anchors([[3, 4], [2, 2], [1, 1]])
    torch.testing.assert_close(anchors.logits[0], torch.tensor(golden["anchors"]), rtol=0, atol=1e-5)
    assert anchors.valid.flatten().tolist() == golden["valid"] and anchors.usable == len(golden["valid"])


def test_anchors_of_a_large_image():
    golden = FACTS["anchors_large"]
    anchors = RTDETRDecoder._generate_anchors(golden["shapes"])
    areas = [h * w for h, w in golden["shapes"]]
    assert [int(v.sum()) for v in anchors.valid[0].split(areas)] == golden["valid_per_level"]
    finite = anchors.logits[anchors.logits.isfinite().all(-1)]
    assert float(finite.mean()) == pytest.approx(golden["finite_mean"], abs=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_invalid_anchors_are_never_picked(training):
    """A map 60 cells wide has its outermost cells off the valid range; here they are the most confident ones."""
    module = head(nq=200).train(training)
    module.input_proj[0][1] = module.input_proj[1][1] = module.enc_output = nn.Identity()
    for weight in (module.input_proj[0][0].weight, module.enc_score_head.weight):
        nn.init.ones_(weight)
    x = maps(1, ((2, 60), (1, 30)))
    x[0][..., 0] = x[0][..., -1] = 50.0
    out = module(x)
    raw = out if training else out[1]
    assert raw.enc_bboxes.shape[1] == 2 * 60 + 30 - 4  # all that are valid, and no more
    boxes = raw.enc_bboxes.detach()
    assert bool(boxes.isfinite().all()) and 0.01 < float(boxes.min()) and float(boxes.max()) < 0.99
    assert bool(raw.dec_scores.isfinite().all())


def test_the_most_confident_valid_tokens_are_picked_in_order():
    module = trained().eval()
    feats, shapes = module._get_encoder_input(maps())
    scores = module.enc_score_head(module.enc_output(feats))
    order = scores.amax(-1).argsort(dim=1, descending=True, stable=True)[:, :10]
    want = torch.stack([s[i] for s, i in zip(scores, order, strict=True)])
    torch.testing.assert_close(module(maps())[1].enc_scores, want)
    assert shapes == [list(s) for s in SIZES]


def test_anchors_are_remembered_without_mixing_up_sizes():
    module = trained().eval()
    for sizes in (SIZES, ((5, 6), (3, 3)), SIZES):
        fresh = copy.deepcopy(module)
        fresh._anchors = None
        assert torch.equal(module(maps(sizes=sizes))[0], fresh(maps(sizes=sizes))[0])
    assert not any("anchor" in key for key in module.state_dict())


def test_training_after_inference_mode():
    module = head()
    with torch.inference_mode():
        module.eval()(maps())
    assert not module._anchors[1].logits.is_inference()
    module.train()(maps(), targets()).dec_bboxes.sum().backward()


# ---------------------------------------------------------------------------------------------------------- rows
def rows_by_sorting(boxes, logits, classes, rows):
    """All pairs of query and class, sorted; ties keep their order."""
    pairs = [
        (*boxes[q].tolist(), float(logits[q, c].detach().sigmoid()), float(c))
        for q in range(len(boxes))
        for c in classes
    ]
    return torch.tensor(sorted(pairs, key=lambda r: -r[4])[:rows])


@pytest.mark.parametrize("classes", [None, [2], [2, 0], (1, 0, 2)])
def test_rows_are_the_best_pairs(classes):
    module = trained().eval()
    with module.restricted_to(classes):
        rows, raw = module(maps())
    for b in range(2):
        chosen = range(3) if classes is None else classes
        want = rows_by_sorting(raw.dec_bboxes[-1, b], raw.dec_scores[-1, b], chosen, 10)
        torch.testing.assert_close(rows[b], want)


def test_a_wanted_class_is_not_crowded_out():
    module = trained().eval()
    module.dec_score_head[-1].bias.data = torch.tensor([9.0, -9.0, 9.0])
    assert not (module(maps())[0][..., 5] == 1).any()
    with module.restricted_to([1]):
        rows = module(maps())[0]
    assert rows.shape == (2, 10, 6) and bool((rows[..., 5] == 1).all())


def test_a_restriction_ends_with_its_block_and_is_not_set_from_outside():
    module = trained().eval()
    with pytest.raises(RuntimeError, match="stop"), module.restricted_to([1, 2]):
        with module.restricted_to([0]):
            assert module.classes == (0,)
        assert module.classes == (1, 2)
        raise RuntimeError("stop")
    assert module.classes is None
    for name in ("classes", "selector"):
        with pytest.raises(AttributeError, match=name):
            setattr(module, name, None)


def test_the_selection_can_be_prescribed():
    module = trained().eval()
    with module.selecting_by(lambda confidence, queries: torch.arange(queries).flip(0).expand(len(confidence), -1)):
        prescribed = module(maps())[1]
    own = module(maps())[1]
    assert module.selector == module.best_tokens and not torch.equal(own.enc_bboxes, prescribed.enc_bboxes)
    with module.selecting_by(lambda confidence, queries: torch.arange(queries).expand(len(confidence), -1)):
        torch.testing.assert_close(module(maps())[1].enc_bboxes, prescribed.enc_bboxes.flip(1))


def test_fewer_tokens_than_queries():
    rows, raw = trained(nq=50).eval()(maps(1, ((2, 2), (1, 1))))
    assert raw.dec_bboxes.shape == (1, 1, 5, 4) and rows.shape == (1, 15, 6)


def test_export_gives_rows_alone_at_most_max_det():
    module = trained().eval()
    want = module(maps())[0]
    module.export, module.max_det = True, 4
    assert torch.equal(module(maps()), want[:, :4])


def test_batch_equals_single_images():
    module = trained().eval()
    x = maps(3)
    rows, raw = module(x)
    for i in range(3):
        one, raw_one = module([level[i : i + 1] for level in x])
        torch.testing.assert_close(rows[i : i + 1, :, 4], one[..., 4], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(raw.dec_bboxes[:, i : i + 1], raw_one.dec_bboxes, rtol=1e-4, atol=1e-6)


def test_folding_keeps_outputs_and_leaves_no_batchnorm():
    module = trained().eval()
    folded = copy.deepcopy(module).fuse()
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    assert sum(p.numel() for p in folded.parameters()) == sum(p.numel() for p in module.parameters())
    assert folded.fuse() is folded
    for a, b in zip(module(maps())[1][:4], folded(maps())[1][:4], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


# --------------------------------------------------------------------------------------------------- denoising
def test_output_unpacks_as_upstreams_tuple():
    out = head().train()(maps(), targets())
    boxes, scores, enc_boxes, enc_scores, meta = out
    assert isinstance(out, DecoderOutput) and meta["dn_num_split"] == [200, 10]
    assert boxes.shape == (2, 2, 210, 4) and scores.shape == (2, 2, 210, 3)
    assert enc_boxes.shape == (2, 10, 4) and enc_scores.shape == (2, 10, 3)


@pytest.mark.parametrize("groups", [(0, 0), (2, 1), (150, 0)])
def test_matching_queries_do_not_see_denoising_queries(groups):
    """What is detected must not depend on the targets that are fed in."""
    module = trained(nd=20).train()
    with_targets, without = module(maps(), targets(groups)), module(maps())
    for a, b in zip(with_targets[:2], without[:2], strict=True):
        torch.testing.assert_close(a[:, :, -10:], b, rtol=1e-4, atol=1e-5)


def test_denoising_boxes_without_noise_are_the_targets():
    """Scale 0 hands out logits like any other (golden `rtdetr_train_dn` does not), so references are the targets."""
    module = trained(nd=4, label_noise_ratio=0.0, box_noise_scale=0.0).train()
    batch = targets()
    seen = []
    module.decoder.layers[0].register_forward_pre_hook(lambda m, args: seen.append(args[1]))
    module(maps(), batch)
    reference = seen[0][:, :8]  # two groups of two positives and two negatives
    torch.testing.assert_close(reference[0, :2], batch["bboxes"][:2], rtol=0, atol=1e-5)
    torch.testing.assert_close(reference[1, 6], batch["bboxes"][2], rtol=0, atol=1e-5)


@pytest.mark.parametrize("groups", [(2, 1), (0, 0), None])
def test_gradients_reach_every_parameter(groups):
    """Also without targets, or DDP would wait for the denoising embedding."""
    module = trained().train()
    batch = None if groups is None else targets(groups)
    out = module(maps(), batch)
    known = batch or targets((0, 0))
    boxes, scores, dn = out.dec_bboxes, out.dec_scores, {}
    if out.dn_meta:
        dn_boxes, boxes = boxes.split(out.dn_meta["dn_num_split"], 2)
        dn_scores, scores = scores.split(out.dn_meta["dn_num_split"], 2)
        dn = {"dn_bboxes": dn_boxes, "dn_scores": dn_scores, "dn_meta": out.dn_meta}
    preds = torch.cat((out.enc_bboxes[None], boxes)), torch.cat((out.enc_scores[None], scores))
    sum(RTDETRDetectionLoss(3, use_vfl=True)(preds, known, **dn).values()).backward()
    missing = [n for n, p in module.named_parameters() if p.grad is None]
    assert missing == []
    assert all(bool(p.grad.isfinite().all()) for p in module.parameters())


def test_learnt_queries_receive_gradient_and_tokens_give_the_boxes():
    module = trained(learnt_init_query=True).train()
    module(maps()).dec_scores.sum().backward()
    assert bool(module.tgt_embed.weight.grad.any()) and module.enc_bbox_head.layers[0].weight.grad is None


def test_reduced_precision():
    module = trained().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = module(maps(), targets())
    assert out.dec_bboxes.dtype == out.enc_bboxes.dtype == torch.float32
    assert all(bool(t.isfinite().all()) for t in out[:4])
    half = trained().half().eval()
    rows, _ = half([x.half() for x in maps()])
    full, _ = trained().eval()(maps())
    torch.testing.assert_close(rows[..., 4].float(), full[..., 4], rtol=0, atol=2e-2)


@pytest.mark.filterwarnings("ignore")
def test_export_to_a_graph():
    module = trained().eval()
    module.export = True
    program = torch.export.export(module, (maps(),))
    torch.testing.assert_close(program.module()(maps()), module(maps()), rtol=1e-4, atol=1e-5)
    names = {str(node.target) for node in program.graph.nodes}
    assert any("grid_sampler" in n for n in names) and not any("embedding_bag" in n for n in names)
