"""Heads of RT-DETRv2, D-FINE and DEIMv2: rows, maps of any shape, training without targets, precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ultralytics.nn.modules import DEIMDecoder, DFINEDecoder, MSDeformAttn, RTDETRDecoderv2
from ultralytics.nn.modules.conv import fuse_children
from ultralytics.nn.modules.deformable import PointReading
from ultralytics.nn.modules.detr.dfine_decoder import FineForm
from ultralytics.utils.errors import ConfigError

HEADS = {
    "dfine": lambda **k: DFINEDecoder(5, (16, 24), 16, 9, (3, 2), 2, 3, 32, **k),
    "deim": lambda **k: DFINEDecoder(5, (16, 24), 16, 9, (3, 2), 2, 3, 32, act=nn.SiLU, **k),
    "deimv2": lambda **k: DEIMDecoder(5, (16, 24), 16, 9, (3, 2), 2, 3, 32, **k),
    "deimv2-small": lambda **k: DEIMDecoder(5, (16, 24), 16, 9, (3, 2), 2, 3, 32, gated=False, share_boxes=True, **k),
    "rtdetrv2": lambda **k: RTDETRDecoderv2(5, (16, 24), 16, 9, (3, 2), 2, 3, 32, **k),
}


def head(name: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    module: nn.Module = HEADS[name](**options)
    for p in module.parameters():  # no layer may be zero: its input would not matter
        if p.dim() > 1:
            nn.init.normal_(p, std=0.2)
    return module


def maps(count: int = 2) -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(count, 16, 6, 10), torch.randn(count, 24, 3, 5)]


def targets(*groups: int) -> dict[str, Any]:
    torch.manual_seed(2)
    n = sum(groups)
    return {"cls": torch.arange(n) % 5, "bboxes": torch.rand(n, 4) * 0.3 + 0.3, "gt_groups": list(groups)}


@pytest.mark.parametrize("name", HEADS)
def test_rows_of_a_map_that_is_not_square(name: str) -> None:
    module = head(name).eval()
    with torch.no_grad():
        rows, _ = module(maps())
        alone = torch.cat([module([level[i : i + 1] for level in maps()])[0] for i in range(2)])
    assert rows.shape == (2, 9, 6) and bool((rows[:, :-1, 4] >= rows[:, 1:, 4]).all())
    torch.testing.assert_close(rows, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("groups", [(2, 3), (0, 0), (0, 150)])
def test_training_reaches_every_parameter(name: str, groups: tuple[int, ...]) -> None:
    module = head(name).train()
    raw = module(maps(), targets(*groups))
    assert raw.dn_meta is not None
    slots, queries = raw.dn_meta["dn_num_split"]
    boxes = raw[1] if name != "rtdetrv2" else raw.dec_bboxes
    assert boxes.shape == (3, 2, slots + queries, 4) and slots >= 2 * max(groups)
    sum(t.float().square().sum() for t in raw if isinstance(t, Tensor)).backward()
    lacking = [
        n for n, p in module.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.isfinite().all())
    ]
    assert not lacking


@pytest.mark.parametrize("name", HEADS)
def test_ordinary_queries_do_not_see_denoising(name: str) -> None:
    module = head(name).train()
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.eval()
    boxes = 1 if name != "rtdetrv2" else 0
    with torch.no_grad():
        raw, plain = module(maps(), targets(2, 3)), module(maps())
        torch.testing.assert_close(raw[boxes][:, :, -9:], plain[boxes], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_mixed_precision_is_finite(name: str, dtype: torch.dtype) -> None:
    module = head(name).train()
    with torch.autocast("cpu", dtype):
        raw = module([level * 50 for level in maps()], targets(2, 3))
    assert all(bool(t.isfinite().all()) for t in raw if isinstance(t, Tensor))


@pytest.mark.parametrize("name", HEADS)
def test_fused_gives_the_same(name: str) -> None:
    module = head(name, eval_idx=1).eval()
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.running_var, 0.5, 2)
    with torch.no_grad():
        want = module(maps())[0]
        fused = fuse_children(module.fuse())
        torch.testing.assert_close(fused(maps())[0], want, rtol=1e-4, atol=1e-5)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fused.modules())


@pytest.mark.parametrize("name", HEADS)
def test_a_wanted_class_is_not_crowded_out(name: str) -> None:
    module = head(name).eval()
    with module.restricted_to([3]):
        rows, _ = module(maps())
    assert set(rows[..., 5].flatten().tolist()) == {3.0}


@pytest.mark.parametrize("select", ["one2many", "agnostic"])
@pytest.mark.parametrize("name", ["dfine", "rtdetrv2"])
def test_other_selections(name: str, select: str) -> None:
    module = head(name, select=select).eval()
    rows, raw = module(maps())
    assert rows.shape == (2, 9, 6)
    assert (raw.enc_logits if name == "dfine" else raw.enc_scores).shape[-1] == (1 if select == "agnostic" else 5)


def test_learnt_queries_and_wider_last_layers() -> None:
    form = FineForm(layer_scale=2)
    module = DFINEDecoder(5, (16, 24), 16, 9, (3, 2), 2, 3, 32, eval_idx=1, learnt_init_query=True, form=form)
    assert module.decoder.widths == [16, 16, 32]
    assert module.train()(maps(), targets(1, 1)).logits.shape[0] == 3 and module.eval()(maps())[0].shape == (2, 9, 6)


def test_further_levels_come_from_the_last_input() -> None:
    for cls in (DFINEDecoder, RTDETRDecoderv2):
        module = cls(5, (16, 24), 16, 9, (3, 2, 1), 2, 2, 32).eval()
        assert module(maps())[0].shape == (2, 9, 6)
        with pytest.raises(ConfigError, match="levels"):
            cls(5, (16, 24), 16, 9, (3,), 2, 2, 32)


@pytest.mark.parametrize("option", [{"select": "best"}, {"eval_idx": 3}, {"nd": -1}])
@pytest.mark.parametrize("name", ["dfine", "rtdetrv2"])
def test_wrong_options_are_refused(name: str, option: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(option))):
        HEADS[name](**option)


def test_discrete_sampling_off_square_reads_the_nearest_cell() -> None:
    """Columns are held to the width and rows to the height; offsets get no gradient."""
    layer = MSDeformAttn(4, 1, 1, [1], projected=False, reading=PointReading(discrete=True, rounding=0.5))
    nn.init.zeros_(layer.sampling_offsets.bias)
    value = torch.arange(2 * 5 * 4.0).view(1, 10, 4)  # 2 rows of 5 cells
    places = [(0.5, 0.5), (0.95, 0.95), (1.5, -0.5), (0.31, 0.2)]
    refer = torch.tensor([[[[x, y, 0.1, 0.1]] for x, y in places]])
    out = layer(torch.randn(1, 4, 4), refer, value, [(2, 5)])
    want = []
    for x, y in places:
        column, row = min(max(int(x * 5 + 0.5), 0), 4), min(max(int(y * 2 + 0.5), 0), 1)
        want.append(value[0, row * 5 + column])
    torch.testing.assert_close(out[0], torch.stack(want))
    assert not out.requires_grad or layer.sampling_offsets.weight.grad is None


@pytest.mark.parametrize("points", [[1], [2, 0], []])
def test_points_must_name_all_levels(points: list[int]) -> None:
    with pytest.raises(ValueError, match="2 levels"):
        MSDeformAttn(8, 2, 2, points)
