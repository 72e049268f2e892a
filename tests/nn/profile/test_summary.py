"""Totals, comparisons and the flagged rows of a model's tables."""

import copy
from pathlib import Path

import pytest
import torch
import yaml

from tests.nn.yamls import TINY
from ultralytics.cli import main as cli
from ultralytics.nn.profile.summary import compare_rows, layer_table, totals_line, wide_lines
from ultralytics.nn.tasks import ClassificationModel, RTDETRDetectionModel

PAGE = Path(__file__).parents[3] / "docs" / "models.md"


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return RTDETRDetectionModel(yaml.safe_load(TINY.replace("None", "null")), verbose=False)


def test_totals(model):
    """The counts are those of the model and of its fused copy."""
    got = model.totals(64)
    fused = copy.deepcopy(model).eval().fuse(verbose=False)
    layers, params, _, gflops = model.info(imgsz=64)
    assert (got.layers, got.params) == (layers, params) and abs(got.gflops - gflops) < 1e-6
    assert got.fused_params == sum(p.numel() for p in fused.parameters()) < params
    assert 0 < got.fused_gflops < got.gflops and got.wide == {}
    assert got.peak > 4 * (3 + 16) * 64 * 64 / 4  # image and first map at least
    assert not model.is_fused()
    line = totals_line(got, 64)
    assert f"{got.fused_params:,} parameters" in line and "64 px: about" in line


@pytest.mark.parametrize(("size", "whole"), [(33, 64), ((32, 60), [32, 64])])
def test_a_size_that_the_joins_do_not_allow_is_rounded_up(model, size, whole, capsys, tmp_path):
    """Every look at a detector at such a size is one at the next multiple of 32, and says so."""
    looks = (
        lambda s: model.info(imgsz=s),
        lambda s: model.info(imgsz=s, detailed=True),
        lambda s: model.totals(s),
        lambda s: model.layers(s),
    )
    for look in looks:
        want = look(whole)
        capsys.readouterr()
        assert look(size) == want
        assert capsys.readouterr().out.count("is not a multiple of the stride 32") == 1
    assert model.draw(tmp_path / "g.svg", size).is_file()


def test_a_classifier_is_counted_at_any_size(capsys):
    model = ClassificationModel("shvit_s1.yaml", nc=3, verbose=False)
    assert model.layers(100)[0].shape == "64x13x13"  # the first three halvings of the stem: 50, 25, 13
    assert "stride" not in capsys.readouterr().out


def test_compare_rows(model):
    one = model.totals(64)
    two = one._replace(name="two", params=one.params + 1000, gflops=one.gflops - 0.5, wide={3: 5000}, peak=None)
    head, first, second = compare_rows([one, two])
    assert first[6:8] == ("", "") and second[6:] == ("+1,000", "-0.5", "?")
    assert second[0] == "two !" and len(head) == len(first) == len(second)
    assert compare_rows([]) == [head]


def test_flagged_rows(model):
    lines = layer_table(model.layers(64), {3: 6400})
    assert [i for i, line in enumerate(lines) if "! 6,400 tokens" in line] == [4]  # below the header
    assert wide_lines({3: 6400}) == [
        "layer 3: attention over 6,400 tokens (more than 4,096) without the fused path; one N x N map takes 156 MB"
    ]
    assert wide_lines({}) == []


@pytest.mark.parametrize(
    ("kind", "cfg", "scale", "side"),
    [(RTDETRDetectionModel, "rtdetr-l.yaml", "n", 640), (ClassificationModel, "shvit_s1.yaml", None, 224)],
)
def test_the_page_of_models_has_the_codes_numbers(kind, cfg, scale, side):
    """The two cheapest rows of docs/models.md, without the differences to other rows."""
    row = compare_rows([kind(cfg, scale=scale, verbose=False).totals(side)])[1]
    page = [line.strip("| ").split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines()]
    (printed,) = [cells for cells in page if cells[0] == row[0]]
    assert (*printed[:6], printed[-1]) == (*row[:6], row[-1])


def test_command(tmp_path, capsys):
    """`yolo info`: two YAMLs give two rows, as text and as Markdown; one with `save=` a graph; mistakes are named."""
    names = []
    for stem in ("one", "two"):
        (tmp_path / f"{stem}.yaml").write_text(TINY)
        names.append(str(tmp_path / f"{stem}.yaml"))
    cli.entrypoint(["info", *names, "imgsz=64"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[0].split()[:2] == ["model", "layers"] and lines[2].split()[-3:-1] == ["+0", "+0.0"]
    cli.entrypoint(["info", *names, "imgsz=64", "format=markdown"])
    assert capsys.readouterr().out.splitlines()[1].startswith("|:---|---:|")
    cli.entrypoint(["info", *names, "imgsz=64", "format=latex"])
    assert capsys.readouterr().out.startswith("\\begin{tabular}{lrr")
    cli.entrypoint(["info", f"model={names[0]}", "imgsz=64", f"save={tmp_path / 'g.svg'}"])
    out = capsys.readouterr().out
    assert (tmp_path / "g.svg").is_file() and "at the peak" in out
    for tokens, message in (
        (["format=word"], "text, markdown, latex"),
        ([*names[1:], "save=g.svg"], "one graph at a time"),
    ):
        with pytest.raises(SystemExit):
            cli.entrypoint(["info", names[0], *tokens])
        assert message in capsys.readouterr().err
