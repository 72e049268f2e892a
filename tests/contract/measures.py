"""What the contract tests and `benchmarks/house.py` measure of a source tree: sizes, names, types, state.

Everything is read from syntax trees; nothing of the package is imported. `root` is the folder of a checkout, so that
two commits can be compared. Names that two modules may both define are listed in `names.yaml`.
"""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import yaml

HERE = Path(__file__).resolve().parent
PACKAGE = "ultralytics"
MAX_LINES = 499
MAX_COMPLEXITY = 12

Function = ast.FunctionDef | ast.AsyncFunctionDef
_BRANCHES = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.IfExp, ast.match_case)


class Place(NamedTuple):
    """One finding: path from the root of the tree, line (1-based), what was found."""

    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {self.text}"


# ------------------------------------------------------------------------------------------------------------- the tree
@cache
def files(root: Path, *parts: str) -> tuple[Path, ...]:
    """Python files below `parts` of the tree (default: the package), sorted."""
    found: set[Path] = set()
    for part in parts or (PACKAGE,):
        path = root / part
        found |= {path} if path.is_file() else set(path.rglob("*.py"))
    return tuple(sorted(found))


@cache
def tree(path: Path) -> ast.Module:
    """Syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """All nodes of a file."""
    return tuple(ast.walk(tree(path)))


def relative(root: Path, path: Path) -> str:
    """Path from the root of the tree, with forward slashes."""
    return path.relative_to(root).as_posix()


def functions(root: Path) -> Iterator[tuple[Path, Function]]:
    """Every function and method of the package."""
    for path in files(root):
        yield from ((path, n) for n in nodes(path) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


# ---------------------------------------------------------------------------------------------------------------- sizes
def modules_per_package(root: Path) -> dict[str, int]:
    """Modules that lie directly in each package, `__init__` not counted, the fullest first."""
    counts = Counter(relative(root, p.parent) for p in files(root) if p.name != "__init__.py")
    return dict(counts.most_common())


def long_files(root: Path) -> list[Place]:
    """Files over `MAX_LINES` lines."""
    lengths = ((p, len(p.read_text(encoding="utf-8").splitlines())) for p in files(root))
    return [Place(relative(root, p), n, f"{n} lines") for p, n in lengths if n > MAX_LINES]


def complexity(function: ast.AST) -> int:
    """Branches, operands of `and` and `or` beyond the first, plus 1; nested functions count for themselves."""
    total, stack = 1, list(ast.iter_child_nodes(function))
    while stack:
        node = stack.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        total += len(node.values) - 1 if isinstance(node, ast.BoolOp) else isinstance(node, _BRANCHES)
        stack += ast.iter_child_nodes(node)
    return total


def complexities(root: Path) -> list[tuple[int, Place]]:
    """Complexity of every function, the largest first."""
    rows = [(complexity(f), Place(relative(root, p), f.lineno, f.name)) for p, f in functions(root)]
    return sorted(rows, key=lambda row: (-row[0], row[1]))


# ---------------------------------------------------------------------------------------------------------------- names
def _names_of(target: ast.expr) -> Iterator[str]:
    """Names that an assignment to `target` binds."""
    if isinstance(target, ast.Name):
        yield target.id
    elif isinstance(target, ast.Tuple | ast.List):
        for part in target.elts:
            yield from _names_of(part)


def defined(module: ast.Module) -> Iterator[tuple[str, int]]:
    """Public names that the top level of a module defines: functions, classes, constants and aliases, not imports."""
    for node in module.body:
        names: list[str] = []
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            names = [name for target in node.targets for name in _names_of(target)]
        elif isinstance(node, ast.AnnAssign):
            names = list(_names_of(node.target))
        yield from ((name, node.lineno) for name in names if not name.startswith("_"))


def duplicate_names(root: Path) -> dict[str, list[Place]]:
    """Public names that two or more modules define, each with its places."""
    found: dict[str, dict[str, Place]] = defaultdict(dict)
    for path in files(root):
        for name, line in defined(tree(path)):
            found[name].setdefault(relative(root, path), Place(relative(root, path), line, name))
    return {name: list(places.values()) for name, places in sorted(found.items()) if len(places) > 1}


@cache
def allowed_names() -> dict[str, str]:
    """Names that several modules may define, each with the reason."""
    return dict(yaml.safe_load((HERE / "names.yaml").read_text(encoding="utf-8")) or {})


def unexplained_duplicates(root: Path) -> dict[str, list[Place]]:
    """Duplicate names without an entry in the allow-list."""
    return {name: places for name, places in duplicate_names(root).items() if name not in allowed_names()}


def functions_named_as_modules(root: Path) -> list[Place]:
    """Functions and classes that a package re-exports under the name of the module that defines them."""
    found = []
    for path in files(root):
        if path.name != "__init__.py":
            continue
        siblings = {p.stem for p in path.parent.glob("*.py")} | {
            p.parent.name for p in path.parent.glob("*/__init__.py")
        }
        for node in nodes(path):
            if isinstance(node, ast.ImportFrom):
                found += [
                    Place(relative(root, path), node.lineno, f"{a.asname or a.name} hides the module of its name")
                    for a in node.names
                    if (a.asname or a.name) in siblings and (node.module or "").split(".")[-1] == a.name
                ]
    return found


# ---------------------------------------------------------------------------------------------------------------- types
def all_annotations(root: Path) -> Iterator[tuple[Path, ast.expr]]:
    """Annotations of arguments, results, attributes and variables of the package."""
    for path in files(root):
        for node in nodes(path):
            if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
                yield path, node.annotation
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns is not None:
                yield path, node.returns


def is_any(annotation: ast.expr) -> bool:
    """Whether an annotation is `Any` itself, not a type that contains it."""
    return ast.unparse(annotation) in {"Any", "typing.Any", "'Any'"}


def argument_annotations(root: Path) -> list[tuple[Path, ast.expr]]:
    """Annotations of the named arguments of functions, without `*args` and `**kwargs`."""
    return [
        (path, arg.annotation)
        for path, function in functions(root)
        for arg in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)
        if arg.annotation is not None
    ]


def any_annotations(pairs: Iterable[tuple[Path, ast.expr]], root: Path) -> list[Place]:
    """Those that are a plain `Any`."""
    return [Place(relative(root, p), a.lineno, "Any") for p, a in pairs if is_any(a)]


# ---------------------------------------------------------------------------------------------------------------- state
def class_chain(root: Path, name: str) -> list[ast.ClassDef]:
    """A class of the package and its bases in the package; empty when there is none of that name."""
    classes = {n.name: n for p in files(root) for n in tree(p).body if isinstance(n, ast.ClassDef)}
    chain, waiting = [], [name]
    while waiting:
        node = classes.get(waiting.pop(0))
        if node is not None and node not in chain:
            chain.append(node)
            waiting += [ast.unparse(base).split(".")[-1].split("[")[0] for base in node.bases]
    return chain


def names_on_self(classes: Sequence[ast.ClassDef]) -> tuple[set[str], set[str]]:
    """Names that methods assign on `self`, and all distinct names that they use on it."""
    assigned, used = set(), set()
    for node in (n for c in classes for n in ast.walk(c)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
            used.add(node.attr)
            if isinstance(node.ctx, ast.Store):
                assigned.add(node.attr)
    return assigned, used


def writes_to_args(root: Path) -> list[Place]:
    """Assignments to `args.x` or `setattr(args, ...)` outside `cfg`, which owns the arguments."""
    found = []
    for path in files(root):
        if relative(root, path).startswith(f"{PACKAGE}/cfg/"):
            continue
        for node in nodes(path):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del) and _is_args(node.value):
                found.append(Place(relative(root, path), node.lineno, ast.unparse(node)))
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "setattr" and _is_args(node.args[0]):
                found.append(Place(relative(root, path), node.lineno, ast.unparse(node)))
    return found


def _is_args(node: ast.expr) -> bool:
    """Whether an expression is a namespace of arguments: `args`, or an attribute of that name."""
    return ast.unparse(node).split(".")[-1] == "args"
