"""Compiled networks answer as the plain ones; what cannot be compiled is said, never left out silently.

Most cases compile with the backend `eager`, which captures the graph and its guards but makes no code.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from tests.engine.tiny import spread_network
from ultralytics.nn.autobackend import AutoBackend, _compilable
from ultralytics.nn.backends import compiled
from ultralytics.nn.backends.compiled import Compiled, CompiledRows, compile_mode
from ultralytics.utils.errors import ConfigError

IMAGES = torch.rand(3, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each graph that was made."""
    made: list[int] = []

    def backend(graph: Any, inputs: Any) -> Callable[..., Any]:
        made.append(len(inputs))
        return graph.forward  # type: ignore[no-any-return]

    monkeypatch.setattr(compiled, "BACKEND", backend)
    return made


class Lines(nn.Module):
    """Stands in for a network: rows are the mean of each image."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Identity())

    def forward(self, im: torch.Tensor, embed: Any = None) -> Any:
        return (im.mean((1, 2, 3))[:, None, None], None) if embed is None else "vectors"


def test_a_network_by_its_own_backend(counted):
    """Non-square input, a last smaller batch, a class filter, embeddings, and keys, on a fused detector."""
    network = spread_network()
    plain, fast = AutoBackend(network), AutoBackend(network, compile=True)
    with torch.no_grad():
        want = plain(IMAGES)[0]
        torch.testing.assert_close(fast(IMAGES), want, rtol=0, atol=1e-5)
        torch.testing.assert_close(fast(IMAGES[:2]), want[:2], rtol=0, atol=1e-5)
        assert len(counted) == 1
        with plain.model.model[-1].restricted_to([1]), fast.model.model[-1].restricted_to([1]):
            rows = fast(IMAGES)
            torch.testing.assert_close(rows, plain(IMAGES)[0], rtol=0, atol=1e-5)
        assert set(rows[..., 5].unique().tolist()) == {1.0} and len(counted) == 2
        for a, b in zip(fast(IMAGES, embed=[2, 6]), plain(IMAGES, embed=[2, 6]), strict=True):
            assert torch.equal(a, b)
    assert list(fast.model.state_dict()) == list(plain.model.state_dict())
    assert network.model[0].bn is not None and not network.is_fused()


def test_small_batches(counted):
    """A remainder is filled up; a size that stays is compiled."""
    rows = CompiledRows(Lines(), True)
    sizes = [(3, 1), (3, 1), (2, 1), (3, 1), (1, 1), (1, 2), (1, 2), (3, 2)]  # images, graphs afterwards
    for images, graphs in sizes:
        assert torch.equal(rows(IMAGES[:images]), IMAGES[:images].mean((1, 2, 3))[:, None, None])
        assert len(counted) == graphs, images
    assert rows(IMAGES, embed=[1]) == "vectors"


def test_shapes_and_types_are_logged_once(counted, capsys):
    double = Compiled(lambda x: 2 * x, True)
    for im in (IMAGES, IMAGES, IMAGES[..., :64], IMAGES, IMAGES.half()):
        assert torch.equal(double(im), 2 * im)
    out = capsys.readouterr().out
    assert out.count("Compiling the network for inputs of 3x3x64x96") == 2
    assert out.count("took") == len(counted) == 3


def test_too_many_shapes(counted, monkeypatch):
    monkeypatch.setattr(compiled, "MAX_SHAPES", 2)
    double = Compiled(lambda x: 2 * x, True)
    for width in (32, 64):
        double(IMAGES[..., :width])
    with pytest.raises(ConfigError, match="3x3x64x96 is input shape 3"):
        double(IMAGES)
    double(IMAGES[..., :32])


def test_answers_do_not_share_memory(counted):
    rows = CompiledRows(Lines(), True)
    first = rows(IMAGES)
    kept = first.clone()
    rows(IMAGES + 1)
    assert torch.equal(first, kept)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("InvalidCxxCompiler", "install one"),
        ("TritonMissing", "pip install triton"),
        ("MissingOperatorWithoutDecomp", "leave compile out"),
    ],
)
def test_what_is_missing_is_said(monkeypatch, error, message):
    import torch._inductor.exc as known

    def backend(graph: Any, inputs: Any) -> Any:
        kind = getattr(known, error)
        made = kind.__new__(kind, "no compiler of this kind")  # without the arguments of its own __init__
        made.first_useful_frame = None
        raise made

    monkeypatch.setattr(compiled, "BACKEND", backend)
    with pytest.raises(ConfigError, match="compile=True") as caught:
        Compiled(lambda x: 2 * x, True)(IMAGES)
    assert message in str(caught.value) and len(str(caught.value).splitlines()) <= 3


def test_a_graph_that_cannot_be_captured_is_an_error(counted):
    def breaks(x: torch.Tensor) -> torch.Tensor:
        print("a side effect", flush=True) if float(x.sum()) > 0 else None
        torch._dynamo.graph_break()
        return x

    with pytest.raises(ConfigError, match="cannot be compiled"):
        Compiled(breaks, True)(IMAGES)


def test_errors_of_the_network_pass():
    with pytest.raises(RuntimeError) as caught:
        raise RuntimeError("boom") from None
    assert compiled._why(caught.value) is None


def test_modes():
    assert compile_mode(True) is None and compile_mode("max-autotune") == "max-autotune"
    with pytest.raises(ConfigError, match="reduce-overhead"):
        compile_mode("fastest")


def test_exported_files_are_refused():
    backend = AutoBackend(spread_network())
    backend.model = None
    with pytest.raises(ConfigError, match="already"):
        _compilable(backend, "x.onnx", True)


@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="no C++ compiler")
def test_inductor():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU()).eval()
    with torch.no_grad():
        got = Compiled(network, True)(IMAGES)
        torch.testing.assert_close(got, network(IMAGES), rtol=0, atol=1e-5)
