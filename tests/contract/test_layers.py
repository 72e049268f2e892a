"""Imports go strictly down. A reader who replaces a layer relies on lower layers knowing nothing of it."""

from __future__ import annotations

import ast

import pytest

from tests.contract.source import files, imports, modules, name_of, nodes_of, targets, tree

LAYERS = {  # the longest prefix counts
    "ultralytics.utils": 0,
    "ultralytics.cfg": 1,
    "ultralytics.optim": 1,
    "ultralytics.models.utils": 2,
    "ultralytics.nn": 3,
    "ultralytics.data": 3,
    "ultralytics.engine": 4,
    "ultralytics.models": 5,
    "ultralytics.study": 6,
    "ultralytics.cli": 7,
    "ultralytics.__main__": 7,
    "ultralytics": 7,
}
DOORS = {  # modules that look a name up in a higher layer, when it is asked for
    "ultralytics",
    "ultralytics.models",
    "ultralytics.nn.families",
    "ultralytics.engine.tuner",
    "ultralytics.utils",
    "ultralytics.utils.config.absent",  # for cfg, utils.checks and others, data.utils
    "ultralytics.utils.torch_utils",  # of nn.checkpoint, which reads weights files
    "ultralytics.nn.modules.head",  # of nn.modules.yolo, whose heads scripts import from there
    "ultralytics.nn.export.stock_pickle",  # names the function, which the file that it writes calls
}
LOCAL_THIRD_PARTIES = {  # heavy or optional: imported where they are used
    "importlib",  # its `metadata`, which few commands read
    "packaging",
    "torch",
    "torchvision",
    "timm",
    "huggingface_hub",
    "cv2",
    "matplotlib",
    "pandas",
    "scipy",
    "PIL",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "openvino",
    "safetensors",
    "pycocotools",
    "tensorboard",
    "supervision",
    "tensorrt",
    "ray",
    "optuna",
}
WING_ORDER = {  # inside a package, low to high; same number: siblings that do not import each other
    "ultralytics.nn": {
        "argument_names": -1,
        "registry": 0,
        "modules": 1,
        "build": 2,
        "checkpoint": 3,
        "cpu": 3,
        "activation_checkpointing": 3,
        "profile": 3,
        "base_model": 4,
        "absent_tasks": 5,
        "families": 4,
        "transfer": 4,
        "yaml_model": 5,
        "classify": 6,
        "detection": 7,
        "yolo": 8,
        "dfine": 8,
        "tasks": 9,
        "schema": 9,
        "backends": 10,
        "autobackend": 11,
        "export": 12,
    },
    "ultralytics.engine": {
        "origin": 0,
        "handover": 0,
        "class_names": 0,
        "published": 0,
        "results": 0,
        "writers": 1,
        "tracking": 1,
        "prediction": 2,
        "error_report": 1,
        "predictor": 3,
        "validator": 2,
        "training": 4,
        "trainer": 5,
        "export": 5,
        "exporter": 6,
        "compare": 7,
        "show": 7,
        "receptive_field": 7,
        "tuner": 7,
        "model": 6,
    },
}
MODULE_ORDER = (  # inside nn.modules
    ("utils", 0),
    ("conv", 1),
    ("block", 2),
    ("shsa", 2),
    ("transformer", 2),
    ("head", 3),
)


def layer(module: str) -> tuple[int, str]:
    prefix = max((p for p in LAYERS if module == p or module.startswith(f"{p}.")), key=len)
    return LAYERS[prefix], prefix


def upward(importer: str, imported: str) -> bool:
    (a, group_a), (b, group_b) = layer(importer), layer(imported)
    return b > a or (b == a < 7 and group_a != group_b)


@pytest.mark.parametrize(
    ("importer", "imported", "wrong"),
    [
        ("ultralytics.utils.ops", "ultralytics.utils", False),
        ("ultralytics.utils.ops", "ultralytics.cfg", True),
        ("ultralytics.nn.tasks", "ultralytics.models.utils.loss", False),
        ("ultralytics.nn.tasks", "ultralytics.models.rtdetr.val", True),
        ("ultralytics.nn.tasks", "ultralytics.data.utils", True),
        ("ultralytics.data.utils", "ultralytics.nn.tasks", True),
        ("ultralytics.models.rtdetr.train", "ultralytics.engine.trainer", False),
        ("ultralytics.engine.trainer", "ultralytics.models", True),
        ("ultralytics.models.rtdetr.val", "ultralytics.study.plan", True),
        ("ultralytics.utils.checks", "ultralytics", True),
    ],
)
def test_the_rule_itself(importer: str, imported: str, wrong: bool) -> None:
    assert upward(importer, imported) is wrong


def test_imports_go_down() -> None:
    """The package file is always loaded first and holds the version, so anyone may import it: see the next test."""
    bad = [f"{a}:{line} imports {b}" for a, b, line, _ in imports() if upward(a, b) and b != "ultralytics"]
    assert not bad, "\n".join(bad)


def test_lower_layers_take_nothing_but_the_version_from_the_package_file() -> None:
    bad = []
    for path in (path for path in files() if layer(name_of(path))[0] < 7):
        for node, _ in nodes_of(path):
            if "ultralytics" in targets(node):
                names = {a.name for a in getattr(node, "names", [])}
                bad += [] if names == {"__version__"} else [f"{path}:{node.lineno} {ast.unparse(node)}"]
    assert not bad, "\n".join(bad)


def test_own_modules_are_imported_at_the_top() -> None:
    """Only the doors look a higher name up inside a function, their `__getattr__`."""
    bad = [f"{a}:{line} imports {b} inside a function" for a, b, line, inside in imports() if inside and a not in DOORS]
    assert not bad, "\n".join(bad)


def test_local_imports_are_heavy_third_parties() -> None:
    bad = []
    for path in files():
        for node, inside in nodes_of(path):
            names = {t.split(".")[0] for t in targets(node)} - {"ultralytics"}
            bad += [f"{path}:{node.lineno} {n}" for n in names if inside and n not in LOCAL_THIRD_PARTIES]
    assert not bad, "\n".join(bad)


def test_only_the_doors_import_by_name() -> None:
    """`importlib.import_module` could hide an upward import."""
    bad = []
    for path in files():
        uses = [n for n in ast.walk(tree(path)) if isinstance(n, ast.Attribute) and n.attr == "import_module"]
        if uses and name_of(path) not in DOORS | {"ultralytics.utils.checks"}:
            bad.append(name_of(path))
    assert not bad, f"doors that are not in the list: {bad}"


def test_no_cycles() -> None:
    """Each module can be read after those that it imports."""
    edges: dict[str, set[str]] = {m: set() for m in modules()}
    for a, b, _, _ in imports():
        if a != b:
            edges[a].add(b)
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module not in done:
            for other in sorted(edges.get(module, ())):
                visit(other, (*path, module))
            done.add(module)

    for module in sorted(edges):
        visit(module, ())


def test_modules_are_ordered() -> None:
    rank = {f"ultralytics.nn.modules.{name}": n for name, n in MODULE_ORDER}
    bad = [f"{a}:{line} imports {b}" for a, b, line, _ in imports() if a in rank and b in rank and rank[b] > rank[a]]
    assert not bad, "\n".join(bad)


@pytest.mark.parametrize("package", WING_ORDER)
def test_wings_go_down(package: str) -> None:
    """A wing imports lower wings of its package only, so that each can be read without those above it."""
    order = WING_ORDER[package]

    def wing(module: str) -> str:
        return module.removeprefix(f"{package}.").split(".")[0] if module.startswith(f"{package}.") else ""

    bad = []
    for a, b, line, _ in imports():
        high, low = wing(a), wing(b)
        if high and low and high != low and order[low] >= order[high]:
            bad.append(f"{a}:{line} imports {b}")
    assert not bad, "\n".join(bad)


def test_no_star_imports_and_no_relative_ones() -> None:
    bad = []
    for path in files():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ImportFrom) and (node.level or any(a.name == "*" for a in node.names)):
                bad.append(f"{path}:{node.lineno}")
    assert not bad, "\n".join(bad)
