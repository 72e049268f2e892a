"""Budgets that keep the source readable: sizes, complexity, arguments, and constructs that are not used at all."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.contract.source import ROOT, files, functions, name_of, tree

MAX_FILE = 499
MAX_BODY, P90_BODY = 60, 25
MAX_COMPLEXITY = 12
MAX_CTOR_ARGS = 8
UPSTREAM_SIGNATURES = {  # constructors whose arguments the interface fixes
    "RTDETRDecoder",
    "Results",
    "SHViT",
    "HGBlock",
    "DETRLoss",
    "RTDETRDetectionLoss",
    "DeformableTransformerDecoder",
    "TransformerEncoderLayer",
    "AIFI",
    "A2C2f",
    "RandomPerspective",
    "BaseDataset",
    "RepConv",
    "Blocks",
    "DCNv2",
    "DiverseBranchBlock",
    "C2f_PKIModule",
    "iRMB",
    "DFINEDecoder",
    "DEIMDecoder",
    "RTDETRDecoderv2",
    "AutoBackend",
    "Format",
}
_BRANCHES = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.IfExp, ast.match_case)


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of the body without the docstring."""
    first = (
        function.body[1] if ast.get_docstring(function, clean=False) and len(function.body) > 1 else function.body[0]
    )
    if ast.get_docstring(function, clean=False) and len(function.body) == 1:
        return 0
    return (function.end_lineno or 0) - first.lineno + 1


def complexity(function: ast.AST) -> int:
    """Branches, operands of `and` and `or` beyond the first, plus 1; nested functions count for themselves."""
    total, stack = 1, list(ast.iter_child_nodes(function))
    while stack:
        node = stack.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        total += isinstance(node, _BRANCHES) + (len(node.values) - 1 if isinstance(node, ast.BoolOp) else 0)
        stack += ast.iter_child_nodes(node)
    return total


def where(path: Path, owner: str, function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    dotted = f"{owner}.{function.name}" if owner else function.name
    return f"{path.relative_to(ROOT.parent)}:{function.lineno} {dotted}"


def parse(source: str) -> ast.FunctionDef:
    node = ast.parse(source).body[0]
    assert isinstance(node, ast.FunctionDef)
    return node


@pytest.mark.parametrize(
    ("source", "lines", "cx"),
    [
        ("def f(): ...", 1, 1),
        ("def f():\n    'doc'", 0, 1),
        ("def f():\n    'doc'\n    return 1", 1, 1),
        ("def f(a):\n    if a:\n        return 1\n    return 2 if b else 3", 3, 3),
        ("def f(a):\n    return a and b or c", 1, 3),
        (
            "def f(a):\n    try:\n        pass\n    except OSError:\n        pass\n    def g():\n        if a: pass",
            6,
            2,
        ),
    ],
)
def test_the_measures_themselves(source: str, lines: int, cx: int) -> None:
    assert (body_lines(parse(source)), complexity(parse(source))) == (lines, cx)


def test_files_are_short() -> None:
    lengths = {p.relative_to(ROOT.parent): len(p.read_text(encoding="utf-8").splitlines()) for p in files()}
    bad = {str(p): n for p, n in lengths.items() if n > MAX_FILE}
    assert not bad, bad


def test_functions_are_short() -> None:
    lengths = sorted(((body_lines(f), where(p, o, f)) for p, o, f in functions()), reverse=True)
    bad = [f"{n} lines: {name}" for n, name in lengths if n > MAX_BODY]
    assert not bad, "\n".join(bad)
    p90 = lengths[len(lengths) // 10][0]
    assert p90 <= P90_BODY, f"a tenth of all functions is longer than {p90} lines"


def test_functions_are_simple() -> None:
    bad = [f"{complexity(f)}: {where(p, o, f)}" for p, o, f in functions() if complexity(f) > MAX_COMPLEXITY]
    assert not bad, "\n".join(bad)


def test_constructors_take_few_arguments() -> None:
    bad = []
    for path, owner, f in functions():
        count = len(f.args.posonlyargs) + len(f.args.args) + len(f.args.kwonlyargs) - 1
        if f.name == "__init__" and count > MAX_CTOR_ARGS and owner not in UPSTREAM_SIGNATURES:
            bad.append(f"{count}: {where(path, owner, f)}")
    assert not bad, "\n".join(bad)


def test_everything_is_typed() -> None:
    bad = []
    for path, owner, f in functions():
        args = [*f.args.posonlyargs, *f.args.args, *f.args.kwonlyargs, f.args.vararg, f.args.kwarg]
        untyped = [a.arg for a in args if a is not None and a.annotation is None and a.arg not in {"self", "cls"}]
        if untyped or f.returns is None:
            bad.append(f"{where(path, owner, f)} {untyped or 'return'}")
    assert not bad, "\n".join(bad)


def test_what_is_public_says_what_it_means() -> None:
    bad = [str(p) for p in files() if p.read_text(encoding="utf-8").strip() and not ast.get_docstring(tree(p))]
    for path in files():
        for node in tree(path).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                overload = any(ast.unparse(d).endswith("overload") for d in node.decorator_list)
                if not ast.get_docstring(node) and not overload:
                    bad.append(f"{path.relative_to(ROOT.parent)}:{node.lineno} {node.name}")
    assert not bad, "\n".join(bad)


def test_no_global_no_eval_no_broad_except() -> None:
    bad = []
    for path in files():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Global):
                bad.append(f"{path}:{node.lineno} global")
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"eval", "exec"}:
                bad.append(f"{path}:{node.lineno} {node.func.id}")
            if isinstance(node, ast.ExceptHandler) and name_of(path) != "ultralytics.cli.main" and _broad(node):
                bad.append(f"{path}:{node.lineno} broad except")
    assert not bad, "\n".join(bad)


def _broad(handler: ast.ExceptHandler) -> bool:
    """Catches everything and does not raise it again."""
    names = "" if handler.type is None else ast.unparse(handler.type)
    reraises = any(isinstance(n, ast.Raise) and n.exc is None for n in ast.walk(handler))
    return (handler.type is None or "Exception" in names.replace("Exceptions", "").split(".")[-1:]) and not reraises


def test_checkpoints_are_read_as_data() -> None:
    """Every torch.load says weights_only=True; nothing is unpickled otherwise."""
    bad = []
    for path in files():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                said = {k.arg: ast.unparse(k.value) for k in node.keywords}.get("weights_only")
                bad += [] if said == "True" else [f"{path}:{node.lineno} torch.load"]
            if isinstance(node, ast.Attribute) and ast.unparse(node) in {f"pickle.{n}" for n in ("load", "loads")}:
                bad.append(f"{path}:{node.lineno} pickle")
    assert not bad, "\n".join(bad)
