"""Options of loss and decoder: CIoU, further groups of queries, discrete sampling; recipe `dense`."""

import pytest
import torch

from tests.engine.training.child import network
from ultralytics.cfg.resolution import load_recipe
from ultralytics.models.utils.loss import DETRLoss, RTDETRDetectionLoss
from ultralytics.nn.modules.deformable import PointReading
from ultralytics.nn.modules.transformer import MSDeformAttn
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.metrics import bbox_iou


def batch(images=2):
    torch.manual_seed(3)
    owner = torch.tensor([0, 0, 1])
    boxes = torch.tensor([[0.3, 0.3, 0.2, 0.4], [0.7, 0.6, 0.3, 0.2], [0.5, 0.5, 0.5, 0.1]])
    return {"img": torch.rand(images, 3, 64, 64), "cls": torch.tensor([0, 1, 2]), "bboxes": boxes, "batch_idx": owner}


def model(head=(), **args):
    torch.manual_seed(0)
    net = RTDETRDetectionModel(network(list(head)), verbose=False)
    net.args = args
    return net.train()


def test_ciou_replaces_the_overlap_term_alone():
    boxes = torch.tensor([[[[0.4, 0.5, 0.2, 0.3], [0.1, 0.1, 0.1, 0.1]]]])  # [1, 1, 2, 4]
    target = {"cls": torch.tensor([0]), "bboxes": torch.tensor([[0.5, 0.5, 0.4, 0.2]]), "gt_groups": [1]}
    found = {
        kind: DETRLoss(nc=1, aux_loss=False, box_loss=kind)(boxes, torch.zeros(1, 1, 2, 1), target)
        for kind in ("giou", "ciou")
    }
    want = 2 * (1 - bbox_iou(boxes[0, 0, :1], target["bboxes"], xywh=True, CIoU=True))
    torch.testing.assert_close(found["ciou"]["loss_giou"], want.squeeze())
    assert found["ciou"]["loss_giou"] != found["giou"]["loss_giou"]
    assert all(torch.equal(found["giou"][k], found["ciou"][k]) for k in ("loss_bbox", "loss_class"))
    with pytest.raises(ConfigError, match="one of giou, diou"):
        DETRLoss(box_loss="iou")


@pytest.mark.parametrize("dn", [0, 8])
def test_groups_do_not_see_each_other_and_are_gone_in_evaluation(dn):
    net = model([0.0, None, -1, dn], aux_groups=1)
    net.loss(batch())
    head, seen = net.model[-1], {}
    head.decoder.register_forward_hook(lambda m, i, o: seen.update(mask=i[-1], queries=i[0].shape[1]))
    net.loss(batch())
    extra = seen["queries"] - 30 - (seen["mask"].shape[0] - seen["queries"])
    mask = seen["mask"][-(seen["queries"]) :]
    first, second = slice(-60, -30), slice(-30, None)
    assert extra > 0 and mask[first, second].all() and mask[second, first].all()
    assert not mask[first, first].any() and not mask[second, second].any()
    net.eval()
    net.loss(batch())
    assert seen["queries"] == 30


def test_terms_of_further_groups_are_their_mean():
    torch.manual_seed(1)
    boxes, scores = torch.rand(2, 1, 12, 4), torch.randn(2, 1, 12, 3)
    target = {"cls": torch.tensor([1]), "bboxes": torch.tensor([[0.5, 0.5, 0.4, 0.2]]), "gt_groups": [1]}
    loss = RTDETRDetectionLoss(nc=3, use_vfl=True)
    whole = loss((boxes, scores), target, group=4)
    parts = [loss((b, s), target) for b, s in zip(boxes.split(4, 2), scores.split(4, 2), strict=True)]
    for name in ("class", "bbox", "giou"):
        main, aux = f"loss_{name}", f"loss_{name}_aux"
        more = sum(p[main] + p[aux] for p in parts[1:]) / 2
        torch.testing.assert_close(whole[main], parts[0][main])
        torch.testing.assert_close(whole[aux], parts[0][aux] + more)


def test_discrete_sampling_reads_single_cells():
    torch.manual_seed(0)
    attention = MSDeformAttn(8, n_levels=1, n_heads=1, n_points=1, reading=PointReading(discrete=True))
    value, shapes = torch.rand(1, 6, 8), [(2, 3)]
    refer = torch.tensor([[[[0.99, 0.51]], [[-0.3, 0.2]]]])  # the lower right cell; left of the map: its nearest cell
    torch.nn.init.zeros_(attention.sampling_offsets.bias)
    out = attention(torch.rand(1, 2, 8), refer, value, shapes)
    want = attention.output_proj(attention.value_proj(value[:, [5, 0]]))
    torch.testing.assert_close(out, want)


def test_a_model_with_discrete_sampling_trains():
    net = model([0.0, None, -1, 8, 0.5, 1.0, False, True], box_loss="ciou", aux_groups=2)
    assert all(layer.cross_attn.reading.discrete for layer in net.model[-1].decoder.layers)
    loss, items = net.loss(batch())
    loss.backward()
    assert bool(items.isfinite().all()) and bool(loss.isfinite())


def test_dense_recipe():
    recipe = load_recipe("dense")
    assert (recipe["loss"], recipe["lr_schedule"], recipe["mosaic"] > 0, recipe["mixup"] > 0) == (
        *("mal", "flat_cosine"),
        *(True, True),
    )


def test_a_model_trains_with_the_box_loss_of_its_arguments():
    net = model([0.0, None, -1, 8], box_loss="focaler-wiou3", nwd_weight=0.25)
    keys = set(net.state_dict())
    total, _ = net.loss(batch())
    total.backward()
    assert (net.criterion.box_loss, net.criterion.nwd_weight) == ("focaler-wiou3", 0.25)
    assert net.criterion.iou_mean < 1 and total.isfinite()
    assert set(net.state_dict()) == keys  # the running mean is not part of the weights
