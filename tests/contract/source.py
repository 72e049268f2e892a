"""The package's source as the contract tests see it: files, syntax trees, imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2] / "ultralytics"


@cache
def files() -> tuple[Path, ...]:
    """Every Python file of the package."""
    return tuple(sorted(ROOT.rglob("*.py")))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def name_of(path: Path) -> str:
    """Dotted module name of a file."""
    parts = list(path.relative_to(ROOT.parent).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> frozenset[str]:
    return frozenset(name_of(p) for p in files())


def is_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def runtime_nodes(node: ast.AST, inside_function: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """All nodes but those under `if TYPE_CHECKING`, each with whether it stands in a function."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt) and is_type_checking(child):
            continue
        deeper = inside_function or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        yield child, inside_function
        yield from runtime_nodes(child, deeper)


@cache
def nodes_of(path: Path) -> tuple[tuple[ast.AST, bool], ...]:
    """The run-time nodes of a file."""
    return tuple(runtime_nodes(tree(path)))


def targets(node: ast.AST) -> list[str]:
    """Modules that an import statement names; `from package import submodule` names the submodule."""
    if isinstance(node, ast.Import):
        return [a.name for a in node.names]
    if isinstance(node, ast.ImportFrom):
        base = node.module or ""
        return [f"{base}.{a.name}" if f"{base}.{a.name}" in modules() else base for a in node.names]
    return []


@cache
def imports() -> tuple[tuple[str, str, int, bool], ...]:
    """Run-time imports of our own modules: (importer, imported, line, inside a function)."""
    found = []
    for path in files():
        for node, inside in nodes_of(path):
            found += [
                (name_of(path), t, node.lineno, inside) for t in targets(node) if t.split(".")[0] == "ultralytics"
            ]
    return tuple(found)


@cache
def functions() -> tuple[tuple[Path, str, ast.FunctionDef | ast.AsyncFunctionDef], ...]:
    """Every function: its file, its class (or ""), and its node."""
    found: list[tuple[Path, str, ast.FunctionDef | ast.AsyncFunctionDef]] = []
    for path in files():
        stack: list[tuple[ast.AST, str]] = [(tree(path), "")]
        while stack:
            node, owner = stack.pop()
            for child in ast.iter_child_nodes(node):
                if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    found.append((path, owner, child))
                stack.append((child, child.name if isinstance(child, ast.ClassDef) else owner))
    return tuple(found)
