"""Reads Python source without importing it: which file a dotted name lives in, and what defines it there.

Invariant: nothing of the target is executed. Only the search for a top-level package goes through importlib (which
imports no parent for a name without dots); everything below is found in the file system and parsed with `ast`.
"""

from __future__ import annotations

import ast
import importlib.util
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

_MAX_HOPS = 12  # re-exports followed before a chain is called circular


class NotFound(Exception):
    """A dotted name that leads nowhere: where the search stopped, the missing part, and the names that exist there."""

    def __init__(self, where: str, missing: str, names: list[str]) -> None:
        super().__init__(f"{where or 'sys.path'} has no {missing!r}")
        self.where, self.missing, self.names = where, missing, names


@dataclass(frozen=True, eq=False)
class Source:
    """One parsed module: its top-level bindings by name, its star imports, and where its text is."""

    name: str
    path: Path
    bindings: dict[str, ast.AST]
    stars: tuple[str, ...]
    is_package: bool

    @property
    def third_party(self) -> bool:
        """Installed or standard-library code, as against golf's own and the user's folders."""
        return self.name.split(".")[0] != "golf" and _is_installed(self.path)

    def public_names(self) -> list[str]:
        return [name for name in self.bindings if not name.startswith("_")]


@dataclass(frozen=True, eq=False)
class Definition:
    """What a dotted name means: `node` is a function or class, or None where it exists but cannot be read."""

    module: str
    name: str
    source: Source | None
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.expr | None
    owner: ast.ClassDef | None = None


@lru_cache(maxsize=1)
def _installed_roots() -> tuple[Path, ...]:
    keys = ("stdlib", "platstdlib", "purelib", "platlib")
    return tuple({Path(sysconfig.get_paths()[key]).resolve() for key in keys})


def _is_installed(path: Path) -> bool:
    resolved = path.resolve()
    if {"site-packages", "dist-packages"} & set(resolved.parts):
        return True
    return any(resolved.is_relative_to(root) for root in _installed_roots())


def _top_level(name: str) -> tuple[Path | None, list[Path]]:
    """(file, folders to search for submodules) of a top-level package or module; raises NotFound."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        raise NotFound("", name, [])
    folders = [Path(folder) for folder in spec.submodule_search_locations or []]
    file = Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    return file, folders


def _submodules(folders: list[Path]) -> Iterator[str]:
    for folder in folders:
        if folder.is_dir():
            for entry in folder.iterdir():
                if entry.suffix == ".py" and entry.stem != "__init__":
                    yield entry.stem
                elif (entry / "__init__.py").exists():
                    yield entry.name


def _descend(folders: list[Path], part: str) -> tuple[Path | None, list[Path]] | None:
    for folder in folders:
        package, module = folder / part, folder / f"{part}.py"
        if (package / "__init__.py").is_file():
            return package / "__init__.py", [package]
        if module.is_file():
            return module, []
        if next(folder.glob(f"{part}.*.so"), None) is not None:
            return None, []
    return None


def locate(target: str) -> tuple[str, Path | None, list[Path], list[str]]:
    """Longest module prefix of a dotted name: (module, its file or None, its submodule folders, the rest)."""
    parts = target.split(".")
    file, folders = _top_level(parts[0])
    module = parts[0]
    for index, part in enumerate(parts[1:], 1):
        step = _descend(folders, part)
        if step is None:
            return module, file, folders, parts[index:]
        (file, folders), module = step, f"{module}.{part}"
    return module, file, folders, []


def read_source(module: str, path: Path) -> Source:
    stat = path.stat()
    return _parse(module, path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=512)
def _parse(module: str, path: Path, _mtime_ns: int, _size: int) -> Source:
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    bindings: dict[str, ast.AST] = {}
    stars: list[str] = []
    is_package = path.name == "__init__.py"
    for node in _top_statements(tree.body):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            bindings[node.name] = node
        elif isinstance(node, ast.Assign):
            bindings.update({t.id: node.value for t in node.targets if isinstance(t, ast.Name)})
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            bindings[node.target.id] = node.value
        elif isinstance(node, ast.Import | ast.ImportFrom):
            _bind_import(node, module, is_package, bindings, stars)
        elif type(node).__name__ == "TypeAlias":  # `type X = …`, Python 3.12
            bindings[node.name.id] = node.value  # type: ignore[attr-defined]
    return Source(module, path, bindings, tuple(stars), is_package)


def _bind_import(
    node: ast.Import | ast.ImportFrom, module: str, is_package: bool, bindings: dict[str, ast.AST], stars: list[str]
) -> None:
    """Binds each imported name to the dotted name it stands for."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            dotted = alias.name if alias.asname else alias.name.split(".")[0]
            bindings[alias.asname or dotted] = ast.Constant(dotted, kind="import")
        return
    origin = node.module or ""
    if node.level:
        base = module.split(".")
        base = base[: len(base) - node.level + (1 if is_package else 0)]
        origin = ".".join([*base, *([node.module] if node.module else [])])
    for alias in node.names:
        if alias.name == "*":
            stars.append(origin)
        else:
            bindings[alias.asname or alias.name] = ast.Constant(f"{origin}.{alias.name}", kind="import")


def _top_statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements of a module, looking into `if` and `try` (definitions under a version test)."""
    for node in body:
        if isinstance(node, ast.If):
            yield from _top_statements([*node.orelse, *node.body])
        elif isinstance(node, ast.Try):
            handlers = [statement for handler in node.handlers for statement in handler.body]
            yield from _top_statements([*handlers, *node.body, *node.orelse])
        else:
            yield node


def dotted_name(node: ast.AST) -> str | None:
    """`a.b.c` of a Name or Attribute expression, else None."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = dotted_name(node.value)
        return f"{base}.{node.attr}" if base else None
    return None


def resolve(target: str, hops: int = 0) -> Definition:
    """The definition behind a dotted name, through re-exports; raises NotFound where the trail ends."""
    module, file, folders, rest = locate(target)
    if not rest:
        return Definition(module, "", read_source(module, file) if file else None, None)
    if file is None:
        if folders:  # a namespace package: only submodules can follow
            raise NotFound(module, rest[0], sorted(_submodules(folders)))
        return Definition(module, ".".join(rest), None, None)
    source = read_source(module, file)
    return _member(source, rest, sorted(_submodules(folders)), hops)


def lookup(source: Source, name: str, hops: int = 0) -> Definition | None:
    """What a (dotted) name written inside `source` means; None for builtins and what cannot be found."""
    try:
        return _member(source, name.split("."), [], hops)
    except NotFound:
        return None


def _member(source: Source, rest: list[str], submodules: list[str], hops: int) -> Definition:
    bound = source.bindings.get(rest[0])
    if hops > _MAX_HOPS:
        return Definition(source.name, ".".join(rest), source, None)
    if bound is None:
        return _unbound(source, rest, submodules, hops)
    if isinstance(bound, ast.Constant) and bound.kind == "import":
        return resolve(".".join([str(bound.value), *rest[1:]]), hops + 1)
    if isinstance(bound, ast.FunctionDef | ast.AsyncFunctionDef) and len(rest) == 1:
        return Definition(source.name, rest[0], source, bound)
    if isinstance(bound, ast.ClassDef):
        return _class_member(source, bound, rest, hops)
    alias = dotted_name(bound)
    if alias and alias != rest[0]:
        found = lookup(source, ".".join([alias, *rest[1:]]), hops + 1)
        if found is not None:
            return found
    expression = bound if len(rest) == 1 and isinstance(bound, ast.expr) else None
    return Definition(source.name, ".".join(rest), source, expression)


def _unbound(source: Source, rest: list[str], submodules: list[str], hops: int) -> Definition:
    for star in source.stars:
        try:
            return resolve(".".join([star, *rest]), hops + 1)
        except NotFound:
            continue
    exported = source.bindings.get("__all__")
    listed = exported is not None and rest[0] in {
        item.value for item in ast.walk(exported) if isinstance(item, ast.Constant)
    }
    if listed and "__getattr__" in source.bindings:  # a lazy module: the name exists, its definition is elsewhere
        return Definition(source.name, ".".join(rest), source, None)
    raise NotFound(source.name, rest[0], [*source.public_names(), *submodules])


def _class_member(source: Source, node: ast.ClassDef, rest: list[str], hops: int) -> Definition:
    if len(rest) == 1:
        return Definition(source.name, rest[0], source, node)
    members = {n.name: n for n in node.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    member = members.get(rest[1])
    if isinstance(member, ast.FunctionDef) and len(rest) == 2:
        return Definition(source.name, ".".join(rest), source, member, owner=node)
    for base in node.bases:
        found = lookup(source, dotted_name(base) or "", hops + 1)
        if found is not None and found.source is not None and isinstance(found.node, ast.ClassDef):
            try:
                return _class_member(found.source, found.node, [found.name, *rest[1:]], hops + 1)
            except NotFound:
                continue
    raise NotFound(f"{source.name}.{node.name}", rest[1], [name for name in members if not name.startswith("_")])
