"""Parameter groups, the automatic optimizer, warm-up, accumulation, freezing."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from ultralytics.engine.training import optimizer as optim
from ultralytics.utils.errors import ConfigError

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "schedules.json").read_text())


class Toy(nn.Module):
    """Two "layers" named as in a YAML model: layer 0 is the backbone, layer 1 the head."""

    def __init__(self) -> None:
        super().__init__()
        self.yaml = {"backbone": [0], "head": [1]}
        self.model = nn.Sequential(
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), nn.MultiheadAttention(4, 1), nn.Linear(4, 2)
        )
        self.logit_scale = nn.Parameter(torch.ones([]))


def arguments(**changes):
    base = {"optimizer": "auto", "lr0": 0.01, "momentum": 0.937, "warmup_bias_lr": 0.1}
    return SimpleNamespace(**{**base, **changes})


def scaler():
    return torch.amp.GradScaler("cpu", enabled=False)


# ---- groups


def test_groups_follow_names_and_classes():
    groups = optim.parameter_groups(Toy())
    sizes = {kind: len(parameters) for (kind, _), parameters in groups.items()}
    # weight: conv, in_proj, out_proj, linear; bn: norm weight, logit_scale; bias: conv, norm, in_proj, out_proj, linear
    assert sizes == {"weight": 4, "bn": 2, "bias": 5}


def test_groups_split_the_backbone_keep_frozen_and_skip_shared_parameters():
    model = Toy()
    model.model[2].weight.requires_grad_(False)
    model.again = model.model[0]  # the same parameters under a second name
    groups = {key: len(p) for key, p in optim.parameter_groups(model, backbone_layers=1).items()}
    assert groups == {
        ("weight", False): 3,
        ("bn", False): 1,
        ("bias", False): 3,
        ("weight", True): 1,
        ("bn", True): 1,
        ("bias", True): 2,
    }


def test_groups_of_no_parameters():
    assert all(not p for p in optim.parameter_groups(nn.ReLU()).values())


@pytest.mark.parametrize("name", ["SGD", "Adam", "adamw", "Adamax", "NAdam", "RAdam", "RMSprop"])
def test_every_optimizer_steps_and_decays_weights_only(name):
    model = Toy()
    choice = optim.OptimizerChoice(name, 0.1, 0.9, 0.0)
    optimizer = optim.build_optimizer(model, choice, weight_decay=0.01, backbone_lr_ratio=0.1)
    assert type(optimizer).__name__.lower() == name.lower()
    tags = [(g["param_group"], g["initial_lr"], g["weight_decay"]) for g in optimizer.param_groups]
    assert tags == [
        ("weight", 0.1, 0.01),
        ("bn", 0.1, 0.0),
        ("bias", 0.1, 0.0),
        ("backbone_weight", pytest.approx(0.01), 0.01),
        ("backbone_bn", pytest.approx(0.01), 0.0),
        ("backbone_bias", pytest.approx(0.01), 0.0),
    ]
    before = model.model[2].weight.clone()
    model.model[2].weight.grad = torch.ones_like(before)
    optimizer.step()
    assert not torch.equal(before, model.model[2].weight)


def test_unknown_optimizer_names_those_that_exist():
    with pytest.raises(ConfigError, match=r"Lion.*AdamW"):
        optim.build_optimizer(Toy(), optim.OptimizerChoice("Lion", 0.1, 0.9, 0.0), 0.0)


# ---- automatic choice


@pytest.mark.parametrize(("nc", "lr"), [(5, 0.001111), (2, 0.001667), (80, 0.000119)])
def test_auto_rate_of_a_short_run(nc, lr):
    assert optim.choose_optimizer(arguments(), nc, 10_000) == optim.OptimizerChoice("AdamW", lr, 0.9, 0.0)


def test_auto_of_a_long_run_is_the_papers_rate():
    assert optim.choose_optimizer(arguments(), 80, 10_001).lr == 1e-4


def test_auto_keeps_what_the_user_gave():
    args = arguments(lr0=0.003, momentum=0.8, warmup_bias_lr=0.05)
    choice = optim.choose_optimizer(args, 5, 10, {"lr0", "momentum", "warmup_bias_lr"})
    assert choice == optim.OptimizerChoice("AdamW", 0.003, 0.8, 0.05)


def test_a_named_optimizer_takes_the_arguments_figures():
    assert optim.choose_optimizer(arguments(optimizer="SGD"), 5, 10) == optim.OptimizerChoice("SGD", 0.01, 0.937, 0.1)


# ---- warm-up and accumulation


@pytest.mark.parametrize("case", GOLDEN["warmup_iterations"], ids=str)
def test_warmup_length(case):
    assert optim.warmup_iterations(case["warmup_epochs"], case["epochs"], case["batches"]) == case["iterations"]


@pytest.mark.parametrize(
    ("batch", "nbs", "steps", "decay"),
    [(4, 1, 1, 1.0), (4, 4, 1, 1.0), (4, 64, 16, 1.0), (128, 64, 1, 2.0), (48, 64, 1, 0.75), (24, 64, 3, 72 / 64)],
)
def test_accumulation_and_decay(batch, nbs, steps, decay):
    assert optim.accumulation(batch, nbs) == steps
    assert optim.scaled_decay(1.0, batch, nbs) == pytest.approx(decay)


@pytest.mark.parametrize("iterations", [0, 1, 2, 7])
def test_warmup_never_steps_at_rate_zero_and_ends_at_the_target(iterations):
    optimizer = optim.build_optimizer(Toy(), optim.OptimizerChoice("SGD", 0.1, 0.9, 0.0), 0.0)
    warmup = optim.Warmup(iterations, bias_lr=0.0, start_momentum=0.5, momentum=0.9, accumulate=4)
    rates = []
    for step in range(10):
        warmup.set_rates(optimizer, [0.1, 0.1, 0.1], step)
        rates.append([g["lr"] for g in optimizer.param_groups])
    assert all(lr > 0 for row in rates for lr in row)
    assert rates == sorted(rates)
    assert rates[max(iterations - 1, 0)] == [0.1, 0.1, 0.1]
    assert optimizer.param_groups[0]["momentum"] == pytest.approx(0.9)
    assert [warmup.accumulate_at(s) for s in (iterations, iterations + 5)] == [4, 4]


def test_warmup_of_biases_comes_down_and_accumulation_rises():
    optimizer = optim.build_optimizer(Toy(), optim.OptimizerChoice("SGD", 0.01, 0.9, 0.1), 0.0)
    warmup = optim.Warmup(10, bias_lr=0.1, start_momentum=0.5, momentum=0.9, accumulate=16)
    warmup.set_rates(optimizer, [0.01] * 3, 0)
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([0.001, 0.001, 0.091])
    assert optimizer.param_groups[0]["momentum"] == pytest.approx(0.54)
    counts = [warmup.accumulate_at(s) for s in range(12)]
    assert counts[0] == 1 and counts[-1] == 16 and counts == sorted(counts)


@pytest.mark.parametrize("row", GOLDEN["accumulate"]["rows"], ids=str)
def test_accumulation_of_the_reference(row):
    assert optim.accumulation(row["batch"], 64) == row["accumulate"]
    assert optim.scaled_decay(0.0005, row["batch"], 64) == pytest.approx(row["weight_decay"])


@pytest.mark.parametrize("sizes", [[8], [2, 2, 2, 2], [3, 3, 2], [1, 7]], ids=str)
@pytest.mark.parametrize("clip", [0.0, 0.05])
def test_accumulated_step_equals_the_large_batch(sizes, clip):
    torch.manual_seed(0)
    x, y = torch.randn(8, 5, dtype=torch.float64), torch.randn(8, 1, dtype=torch.float64)

    def trained(parts):
        torch.manual_seed(1)
        net = nn.Linear(5, 1).double()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        accumulator = optim.GradientAccumulator()
        for xs, ys in zip(x.split(parts), y.split(parts), strict=True):
            loss = (net(xs) - ys).square().mean()
            (loss * accumulator.factor(len(xs))).backward()
        norm = optim.optimizer_step(list(net.parameters()), optimizer, scaler(), accumulator, clip)
        assert accumulator.count == 0
        return torch.cat([p.flatten() for p in net.parameters()]), norm

    (got, norm), (want, want_norm) = trained(sizes), trained([8])
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)
    torch.testing.assert_close(norm, want_norm, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("clip", "moved"), [(0.0, 5.0), (1.0, 1.0), (9.0, 5.0)])
def test_clipping_bounds_the_step(clip, moved):
    p = nn.Parameter(torch.zeros(2))
    p.grad = torch.tensor([3.0, 4.0])
    optimizer = torch.optim.SGD([p], lr=1.0)
    norm = optim.optimizer_step([p], optimizer, scaler(), optim.GradientAccumulator(), clip)
    assert float(norm) == pytest.approx(5.0)
    assert float(p.detach().norm()) == pytest.approx(moved, rel=1e-4)


# ---- freezing


@pytest.mark.parametrize(
    ("freeze", "count"),
    [(None, 0), ([], 0), (0, 0), (1, 4), ([0], 4), ([0, 2], 6), ("in_proj", 2), (["model.0.1", 2], 4)],
)
def test_freeze(freeze, count):
    model = Toy()
    model.model[1].in_proj_bias.requires_grad_(False)  # arrives frozen, is trained unless asked for
    names = optim.freeze_layers(model, freeze)
    assert len(names) == count
    assert {n for n, p in model.named_parameters() if not p.requires_grad} == set(names)


@pytest.mark.parametrize(
    ("freeze", "word"),
    [
        (["backbon"], "backbon"),
        (["model", "logit"], "nothing to train"),
        ([0, 3], "layer 3 does not exist"),
        ([-1], "layer -1 does not exist"),
        (4, "layer 3 does not exist"),
    ],
)
def test_freeze_refuses(freeze, word):
    with pytest.raises(ConfigError, match=word):
        optim.freeze_layers(Toy(), freeze)


def test_frozen_norms_are_those_with_frozen_weights():
    model = Toy()
    assert optim.frozen_norms(model) == []
    optim.freeze_layers(model, 1)
    assert optim.frozen_norms(model) == [model.model[0][1]]


def test_no_optimizer_divides_by_a_norm_of_zero():
    p = nn.Parameter(torch.ones(2))
    p.grad = torch.zeros(2)
    optim.optimizer_step([p], torch.optim.SGD([p], lr=1.0), scaler(), optim.GradientAccumulator(), 0.1)
    assert p.tolist() == [1.0, 1.0] and math.isfinite(float(p.detach().sum()))


@pytest.mark.parametrize("betas", [3, (0.9,), ("a", 0.9), None])
def test_betas_that_are_not_two_numbers_are_refused(betas):
    optimizer = optim.build_optimizer(Toy(), optim.OptimizerChoice("AdamW", 0.1, 0.9, 0.0), 0.0)
    saved = optimizer.state_dict()
    optim.load_optimizer_state(optimizer, saved)
    saved["param_groups"][0]["betas"] = betas
    with pytest.raises(ValueError, match="betas is not 2 numbers"):
        optim.load_optimizer_state(optimizer, saved)
