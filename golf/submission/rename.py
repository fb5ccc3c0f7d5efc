"""Short names for attributes, methods, parameters and definitions of a whole program, the same for every occurrence.

One identifier becomes one other identifier wherever it occurs, so what belongs together stays together. Left alone is
what somebody else may know by its name: members of everything that is imported, names in strings (`getattr`, keys of
state dicts), keywords of calls to what is not the program's own, attributes of torch modules (they name the weights in
the artifact), fields of records that are read as a whole, classes whose names are read, keywords of partials where
those are read, and every attribute where a name is put together at run time. Invariant: the program does the same.
"""

from __future__ import annotations

import ast
import builtins
import keyword
import re
from collections import Counter
from functools import cache
from itertools import count, product
from string import ascii_letters
from types import ModuleType
from typing import Any, TypeGuard

from golf.submission.values import foreign_members, foreign_object
from golf.submission.walk import walk

ALWAYS_FOREIGN = (  # types of objects that programs get without naming them
    *("torch.Tensor", "torch.nn.Module", "torch.optim.Optimizer", "torch.cuda", "torch.Size", "torch.Generator"),
    *("numpy.ndarray", "numpy.dtype", "pathlib.Path", "argparse.ArgumentParser", "argparse.Namespace", "io.BytesIO"),
    *("io.TextIOWrapper", "io.BufferedReader", "mmap.mmap", "zlib", "os.stat_result", "functools.partial"),
    *("types.SimpleNamespace", "concurrent.futures.ThreadPoolExecutor", "concurrent.futures.Future", "random.Random"),
)
WHOLE_READS = {"asdict", "astuple", "fields", "vars", "_asdict", "_fields", "__dict__"}


def renamed(tree: ast.Module) -> ast.Module:
    """The program with short names, edited in place."""
    nodes = list(walk(tree))
    used = Counter(name for node in nodes for name in names_of(node))
    free = own_names(tree, nodes) - foreign_names(tree, nodes)
    taken = set(used) - free
    short = (name for name in short_names() if name not in taken)
    order = sorted((name for name in used if name in free), key=lambda name: (-used[name], name))
    mapping = {name: next(short) for name in order}
    for node in nodes:
        for field in ("id", "attr", "arg", "name"):
            if getattr(node, field, None) in mapping and not isinstance(node, ast.alias):
                setattr(node, field, mapping[getattr(node, field)])
        if isinstance(node, ast.Nonlocal | ast.Global):
            node.names = [mapping.get(name, name) for name in node.names]
    return tree


def short_names() -> Any:
    """a, b, … Z, aa, ab, … without keywords and names of Python's own."""
    for length in count(1):
        for letters in product(ascii_letters, repeat=length):
            name = "".join(letters)
            if not keyword.iskeyword(name) and not hasattr(builtins, name):
                yield name


def names_of(node: ast.AST) -> list[str]:
    """Identifiers that a node has itself."""
    found = [getattr(node, field, None) for field in ("id", "attr", "arg", "name")]
    found += getattr(node, "names", []) if isinstance(node, ast.Nonlocal | ast.Global) else []
    if isinstance(node, ast.alias):
        found = [node.asname or node.name.partition(".")[0]]
    return [name for name in found if isinstance(name, str)]


def own_names(tree: ast.Module, nodes: list[ast.AST]) -> set[str]:
    """Names that the program itself gives to something."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.id if isinstance(node, ast.Name) else node.attr)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.ExceptHandler) and node.name:
            found.add(node.name)
    return found


def foreign_names(tree: ast.Module, nodes: list[ast.AST]) -> set[str]:
    """Names that something outside of the program may look for."""
    found = set(dir(builtins)) | found_in_texts(nodes)
    found |= {name for node in nodes for name in names_of(node) if name.startswith("__")}
    imported: dict[str, str] = {}
    for node in nodes:
        for alias in node.names if isinstance(node, ast.Import | ast.ImportFrom) else ():
            found.add(alias.asname or alias.name.partition(".")[0])
            source = f"{node.module}.{alias.name}" if isinstance(node, ast.ImportFrom) else alias.name
            imported[alias.asname or alias.name] = source
    named = {dotted(node, imported) for node in nodes if isinstance(node, ast.Attribute)}
    for path in {*ALWAYS_FOREIGN, *imported.values()}:
        found |= members(path)
    for path in named:
        found |= foreign_members(path) if isinstance(foreign_object(path), type) else set()
    for kind in (str, bytes, list, dict, set, tuple, int, float, memoryview, BaseException, type, property):
        found |= set(dir(kind))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    callables = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)} | set(classes)
    whole = bool(WHOLE_READS & {name for node in nodes for name in names_of(node)})
    read = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    found |= named_classes(nodes)
    if "keywords" in read:  # of partials
        found |= {k.arg for node in nodes if is_partial(node) for k in node.keywords if k.arg}
    if any(is_made_name(node) for node in nodes):
        found |= read | {n.name for n in nodes if isinstance(n, ast.FunctionDef)}
    for node in nodes:
        if isinstance(node, ast.Call):
            found |= {k.arg for k in node.keywords if k.arg} if not is_own_call(node, callables) else set()
        if isinstance(node, ast.ClassDef):
            if whole or any(ast.unparse(base) == "NamedTuple" for base in node.bases):
                found |= {
                    s.target.id for s in node.body if isinstance(s, ast.AnnAssign) and isinstance(s.target, ast.Name)
                }
            if is_torch_class(node, classes):
                found |= {n.attr for n in walk(node) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)}
    return found


def dotted(node: ast.expr, imported: dict[str, str]) -> str:
    """The path of `nn.Linear`, as `torch.nn.Linear`; "" of what does not begin with an import."""
    if isinstance(node, ast.Name):
        return imported.get(node.id, "")
    head = dotted(node.value, imported) if isinstance(node, ast.Attribute) else ""
    return f"{head}.{node.attr}" if head and isinstance(node, ast.Attribute) else ""


def is_partial(node: ast.AST) -> TypeGuard[ast.Call]:
    """partial(…)"""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "partial"


def is_made_name(node: ast.AST) -> bool:
    """getattr and the like of a name that is put together."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) > 1):
        return False
    return node.func.id in ("getattr", "hasattr", "setattr") and isinstance(node.args[1], ast.BinOp | ast.JoinedStr)


def named_classes(nodes: list[ast.AST]) -> set[str]:
    """Classes whose names the program may read: errors only, where it asks for names of the types of caught ones."""
    classes = {node.name: node for node in nodes if isinstance(node, ast.ClassDef)}
    asked = [n.value for n in nodes if isinstance(n, ast.Attribute) and n.attr in ("__name__", "__qualname__")]
    caught = {node.name for node in nodes if isinstance(node, ast.ExceptHandler)}
    caught -= {n.id for n in nodes if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
    caught -= {n.arg for n in nodes if isinstance(n, ast.arg)}
    for value in asked:
        match value:
            case ast.Call(func=ast.Name(id="type"), args=[ast.Name(id=name)]) if name in caught:
                continue
            case _:
                return set(classes)
    imported = imported_paths(nodes)
    return {name for name, node in classes.items() if asked and may_be_raised(node, classes, imported)}


def imported_paths(nodes: list[ast.AST]) -> dict[str, str]:
    """Local name of everything that is imported -> its path."""
    found: dict[str, str] = {}
    for node in nodes:
        for alias in node.names if isinstance(node, ast.Import | ast.ImportFrom) else ():
            source = f"{node.module}.{alias.name}" if isinstance(node, ast.ImportFrom) else alias.name
            found[alias.asname or alias.name.partition(".")[0]] = source
    return found


def may_be_raised(node: ast.ClassDef, classes: dict[str, ast.ClassDef], imported: dict[str, str]) -> bool:
    """Whether a class may be that of something caught: one of its bases is an error, or cannot be told."""
    for base in node.bases:
        base = base.value if isinstance(base, ast.Subscript) else base
        name = base.id if isinstance(base, ast.Name) else ""
        if name in classes:
            if may_be_raised(classes[name], classes, imported):
                return True
        elif dotted(base, imported) != "typing.NamedTuple":
            kind = getattr(builtins, name, None) or foreign_object(dotted(base, imported))
            if not isinstance(kind, type) or issubclass(kind, BaseException):
                return True
    return False


def is_own_call(node: ast.Call, callables: set[str]) -> bool:
    """Whether a call's keywords go to a function or class of the program."""
    function: ast.expr = node.func
    if isinstance(function, ast.Name) and function.id == "partial" and node.args:
        function = node.args[0]
    return isinstance(function, ast.Name) and function.id in callables


def is_torch_class(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> bool:
    """Whether a class comes from one that is not the program's own."""
    bases = [ast.unparse(base) for base in node.bases]
    return any(is_torch_class(classes[base], classes) if base in classes else base != "object" for base in bases)


def found_in_texts(nodes: list[ast.AST]) -> set[str]:
    texts = [n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return {word for text in texts for word in re.findall(r"[A-Za-z_]\w*", text)}


@cache
def members(path: str) -> frozenset[str]:
    """Members of an imported thing; of a module, those of its classes, too."""
    found: Any = foreign_object(path)
    names = set(dir(found))
    if isinstance(found, type):
        return foreign_members(path)
    for name in list(names):
        item = vars(found).get(name) if isinstance(found, ModuleType) else None
        if issubclass(type(item), type):  # not isinstance, which makes deprecated things complain
            names |= (
                set(dir(item)) | set(getattr(item, "__annotations__", {})) | set(getattr(item, "__constants__", ()))
            )
    return frozenset(names)
