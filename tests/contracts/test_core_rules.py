"""The rules that keep the core exportable as one file: who imports what, and nothing that moving code would change."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import golf
from golf.errors import UserError
from golf.submission.source import CoreModule, core_modules, owners_of_names

PACKAGE = Path(golf.__file__).parent
MODULES = core_modules()
ALLOWED_AT_TOP = {"torch", "numpy", "golf", "__future__"}
FORBIDDEN = {"lightning", "hydra", "omegaconf", "wandb", "rich", "pytorch_lightning", "yaml"}
READS_ANNOTATIONS = {"get_type_hints", "__annotations__", "singledispatch", "custom_op", "get_annotations", "script"}
CONSTANT_CALLS = {"dataclass", "struct", "re", "frozenset", "tuple", "range", "float", "Path", "prod", "TypeVar"}


def imports_of(tree: ast.AST) -> list[ast.Import | ast.ImportFrom]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]


def imported_packages(node: ast.Import | ast.ImportFrom) -> set[str]:
    names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
    return {name.partition(".")[0] for name in names}


def test_top_level_names_are_unique_and_imports_agree():
    assert len(owners_of_names(MODULES.values())) > 150


@pytest.mark.parametrize("name", MODULES)
def test_imports(name):
    module = MODULES[name]
    for node in imports_of(module.tree):
        where = f"{module.path}:{node.lineno}"
        assert not imported_packages(node) & FORBIDDEN, f"{where}: core never imports this"
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{where}: core imports absolutely"
            assert node.names[0].name != "*", f"{where}: no star imports"
        if imported_packages(node) == {"golf"}:
            assert isinstance(node, ast.ImportFrom), f"{where}: write from golf.x.y import Name"
            assert all(alias.asname is None for alias in node.names), f"{where}: no renaming"
            assert node.module in MODULES, f"{where}: {node.module} is not core"
    for node in module.tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            foreign = {p for p in imported_packages(node) if p not in sys.stdlib_module_names}
            assert foreign <= ALLOWED_AT_TOP, f"{module.path}:{node.lineno}: import {foreign} inside the function"


@pytest.mark.parametrize("name", MODULES)
def test_nothing_happens_at_import(name):
    for node in MODULES[name].tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom):
            continue
        where = f"{MODULES[name].path}:{node.lineno}"
        if isinstance(node, ast.Expr):
            assert isinstance(node.value, ast.Constant), f"{where}: a statement that runs at import"
            continue
        assert isinstance(node, ast.Assign | ast.AnnAssign), f"{where}: definitions and constants only"
        for call in (item for item in ast.walk(node) if isinstance(item, ast.Call)):
            function = call.func.value if isinstance(call.func, ast.Attribute) else call.func
            assert isinstance(function, ast.Name | ast.Constant), f"{where}: computes something at import"
            assert getattr(function, "id", "dataclass") in CONSTANT_CALLS, f"{where}: calls something at import"


@pytest.mark.parametrize("name", MODULES)
def test_annotations_are_not_read_while_running(name):
    """The exported file postpones annotations, so nothing may depend on their values."""
    used = {n.attr for n in ast.walk(MODULES[name].tree) if isinstance(n, ast.Attribute)}
    used |= {n.id for n in ast.walk(MODULES[name].tree) if isinstance(n, ast.Name)}
    assert not used & READS_ANNOTATIONS, f"{MODULES[name].path} reads annotations"


def test_import_linter_contracts():
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def parsed(tmp_path: Path, name: str, source: str) -> CoreModule:
    path = tmp_path / f"{name}.py"
    path.write_text(source)
    return CoreModule(f"golf.models.{name}", path)


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("def act(): pass\n", "class act: pass\n", "act is defined in"),
        ("def compile(): pass\n", "X = 1\n", "Python's own name"),
        ("from math import prod\n", "def prod(): pass\n", "prod is imported in"),
        ("from math import floor\n", "from torch import floor\n", "floor is imported in"),
    ],
)
def test_clashes_are_named(tmp_path, first, second, said):
    modules = [parsed(tmp_path, "one", first), parsed(tmp_path, "two", second)]
    with pytest.raises(UserError, match=said):
        owners_of_names(modules)


def test_statements_that_run_at_import_are_refused(tmp_path):
    with pytest.raises(UserError, match="definitions and constants only"):
        parsed(tmp_path, "one", "for i in range(3):\n    print(i)\n")
