"""Core modules as text that can be moved: their definitions, what each one refers to, and the edits that moving needs.

Read with `ast` and cut by position, so that comments and formatting survive. Invariant: core modules import each other
only as `from golf.x.y import Name`, execute nothing at import, and share one space of top-level names; hence a
definition can be moved into another file, and an unused one left out, without changing what the others do.
"""

from __future__ import annotations

import ast
import builtins
import importlib.util
import re
import site
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import golf
from golf.errors import UserError
from golf.submission.walk import children, walk

CORE_PACKAGES = ("models", "optim", "data", "quant", "codec", "evaluation", "ttt")
CORE_MODULES = ("loop", "clock", "progress", "errors", "script")
ANNOTATION_OF_ABSENT = "Any"
DYNAMIC_ACCESS = ("getattr", "hasattr")
Edit = tuple[int, int, bytes]


@dataclass
class References:
    """What a piece of code refers to. `types`: names in annotations; `attributes`: what follows a dot."""

    names: set[str] = field(default_factory=set)
    types: set[str] = field(default_factory=set)
    attributes: set[str] = field(default_factory=set)

    def add(self, other: References) -> None:
        self.names |= other.names
        self.types |= other.types
        self.attributes |= other.attributes


@dataclass
class Definition:
    """One top-level statement (class, function or constant) with the comment lines above it.

    `called_from_outside`: a class with a base that is not golf's, whose methods third-party code may call by name.
    """

    module: CoreModule
    names: tuple[str, ...]
    node: ast.stmt
    begin: int
    end: int
    called_from_outside: bool = True

    @property
    def is_block(self) -> bool:
        """A function or a class, as against a constant."""
        return isinstance(self.node, ast.FunctionDef | ast.ClassDef)

    @property
    def methods(self) -> dict[str, ast.FunctionDef]:
        """Methods that can be left out where no kept code calls them."""
        if not isinstance(self.node, ast.ClassDef) or self.called_from_outside:
            return {}
        functions = [item for item in self.node.body if isinstance(item, ast.FunctionDef)]
        return {item.name: item for item in functions if not item.name.startswith("__")}

    def bases(self) -> list[str]:
        """Names of the base classes; empty for anything but a class."""
        return [ast.unparse(base) for base in self.node.bases] if isinstance(self.node, ast.ClassDef) else []

    def references(self) -> References:
        """Of everything but the methods that can be left out."""
        return collect_references(self.node, skipped=self.methods.values())


class CoreModule:
    """One parsed core module."""

    def __init__(self, name: str, path: Path, packages: frozenset[str] = frozenset({"golf"})):
        self.name, self.path, self.packages = name, path, packages  # packages whose modules go into the file
        self.source = path.read_bytes()
        self.tree = ast.parse(self.source, filename=str(path))
        self.docstring = ast.get_docstring(self.tree) or ""
        self._line_starts = [0, *(match.end() for match in re.finditer(rb"\n", self.source))]
        self.imports: dict[str, tuple[str, str]] = {}  # local name -> (module, name in it); "" = the module itself
        self.golf_imports: dict[str, str] = {}  # local name -> golf module, function-level ones included
        self.needs_first: list[str] = []  # golf modules imported at the top
        self.definitions: list[Definition] = []
        self._read()

    def _read(self) -> None:
        previous_end = 0
        for node in self.tree.body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                self._read_import(node, top=True)
            elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
                names = defined_names(node)
                if not names:
                    raise UserError(f"{self.path}:{node.lineno}: core modules hold definitions and constants only")
                begin = self._with_comments(node, previous_end)
                self.definitions.append(Definition(self, names, node, begin, self.line_end(node)))
            previous_end = self.line_end(node)
        for node in walk(self.tree):
            if isinstance(node, ast.ImportFrom) and self.is_own(node.module):
                self.golf_imports.update({alias.name: node.module or "" for alias in node.names})
        self.golf_names = {name for definition in self.definitions for name in definition.names} | {*self.golf_imports}

    def _read_import(self, node: ast.Import | ast.ImportFrom, top: bool) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                self.imports[alias.asname or alias.name.partition(".")[0]] = (alias.name, "")
        elif self.is_own(node.module):
            self.needs_first.append(node.module or "")
        elif node.module != "__future__":
            self.imports.update({alias.asname or alias.name: (node.module or "", alias.name) for alias in node.names})

    def is_own(self, module: str | None) -> bool:
        """Whether an imported module goes into the file, too."""
        return (module or "").split(".")[0] in self.packages

    # -- positions ----------------------------------------------------------------------------------------------------
    def offset(self, line: int, column: int) -> int:
        return self._line_starts[line - 1] + column

    def line_end(self, node: ast.stmt) -> int:
        """After the line break of a statement's last line."""
        last = node.end_lineno or node.lineno
        return self._line_starts[last] if last < len(self._line_starts) else len(self.source)

    def first_line(self, node: ast.stmt) -> int:
        decorators = getattr(node, "decorator_list", [])
        return min([node.lineno, *(decorator.lineno for decorator in decorators)])

    def _with_comments(self, node: ast.stmt, floor: int) -> int:
        """Where a statement begins, with the comment lines directly above it."""
        line = self.first_line(node)
        while line > 1:
            start, end = self._line_starts[line - 2], self._line_starts[line - 1]
            if start < floor or not self.source[start:end].lstrip().startswith(b"#"):
                break
            line -= 1
        return self._line_starts[line - 1]

    # -- text ---------------------------------------------------------------------------------------------------------
    def text(self, definition: Definition, live_methods: set[str], present: set[str]) -> str:
        """A definition as it goes into one file: without golf imports, unused methods, and types that are not there."""
        edits: list[Edit] = []
        for name, method in definition.methods.items():
            if name not in live_methods:
                edits.append((self._method_begin(definition, method), self.line_end(method), b""))
        for node in walk(definition.node):
            if isinstance(node, ast.ImportFrom) and self.is_own(node.module):
                end = self.line_end(node)
                blank = re.match(rb"\n*", self.source[end:])
                edits.append((self.offset(node.lineno, 0), end + (blank.end() if blank else 0), b""))
        absent = self.golf_names - present
        for annotation in annotations_of(definition.node):
            begin = self.offset(annotation.lineno, annotation.col_offset)
            end = self.offset(annotation.end_lineno or annotation.lineno, annotation.end_col_offset or 0)
            known = re.sub(rb"[.\w]+", lambda match: type_or_any(match, absent), self.source[begin:end])
            edits.append((begin, end, known))
        return apply_edits(self.source, definition.begin, definition.end, edits).decode().rstrip() + "\n"

    def _method_begin(self, definition: Definition, method: ast.FunctionDef) -> int:
        """Where a method begins, with the comments and blank lines above it."""
        assert isinstance(definition.node, ast.ClassDef)
        before = [item for item in definition.node.body if item.lineno < method.lineno]
        floor = self.line_end(before[-1]) if before else self.offset(definition.node.lineno + 1, 0)
        begin = self._with_comments(method, floor)
        return begin - len(self.source[floor:begin]) + len(self.source[floor:begin].rstrip(b" \n"))


def apply_edits(source: bytes, begin: int, end: int, edits: Iterable[Edit]) -> bytes:
    """source[begin:end] with edits (positions in `source`); an edit inside another one's range is dropped."""
    pieces, position = [], begin
    for first, last, replacement in sorted(edits, key=lambda edit: (edit[0], -edit[1])):
        if first >= position:
            pieces += [source[position:first], replacement]
            position = last
    return b"".join([*pieces, source[position:end]])


def defined_names(node: ast.stmt) -> tuple[str, ...]:
    """Names that a top-level statement binds."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return (node.name,)
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return tuple(item.id for target in targets for item in walk(target) if isinstance(item, ast.Name))


def annotations_of(node: ast.AST) -> Iterator[ast.expr]:
    """Every annotation expression below a node."""
    for item in walk(node):
        if isinstance(item, ast.FunctionDef) and item.returns is not None:
            yield item.returns
        if isinstance(item, ast.arg | ast.AnnAssign) and item.annotation is not None:
            yield item.annotation


def type_or_any(match: re.Match[bytes], absent: set[str]) -> bytes:
    """A name of an annotation, or Any where it is a type that is not in the file."""
    return ANNOTATION_OF_ABSENT.encode() if match[0].decode() in absent else match[0]


def collect_references(node: ast.AST, skipped: Iterable[ast.AST] = ()) -> References:
    """Names and attributes that a node uses, except in the skipped nodes below it; `getattr(x, "name")` is a use."""
    found, excluded = References(), {id(item) for item in skipped}
    queue: list[tuple[ast.AST, bool]] = [(node, False)]  # and whether it is inside an annotation
    while queue:
        item, is_type = queue.pop()
        if id(item) in excluded:
            continue
        annotation = item.returns if isinstance(item, ast.FunctionDef) else getattr(item, "annotation", None)
        queue += [(child, is_type or child is annotation) for child in children(item)]
        if isinstance(item, ast.Name):
            (found.types if is_type else found.names).add(item.id)
        elif isinstance(item, ast.Attribute):
            found.attributes.add(item.attr)
        elif isinstance(item, ast.Constant) and isinstance(item.value, str) and is_type:
            found.types.update(re.findall(r"\w+", item.value))
        elif isinstance(item, ast.Call) and isinstance(item.func, ast.Name) and item.func.id in DYNAMIC_ACCESS:
            found.attributes |= {str(arg.value) for arg in item.args[1:] if isinstance(arg, ast.Constant)}
    return found


@cache  # a process has one golf
def core_modules(root: Path | None = None) -> dict[str, CoreModule]:
    """Every core module by name."""
    root = root or Path(golf.__file__).parent
    paths = [path for package in CORE_PACKAGES for path in sorted((root / package).rglob("*.py"))]
    paths += [root / f"{name}.py" for name in CORE_MODULES]
    found = {}
    for path in paths:
        if path.name != "__init__.py":
            name = ".".join(["golf", *path.relative_to(root).with_suffix("").parts])
            found[name] = CoreModule(name, path)
    return found


def user_modules(names: Iterable[str]) -> dict[str, CoreModule]:
    """Modules of the user's own techniques, and what they import from each other; installed packages are not taken.

    They obey the rules of the core: `from package.module import Name`, definitions and constants only.
    """
    found: dict[str, Path] = {}
    queue = list(names)
    while queue:
        name = queue.pop()
        path = own_source(name)
        if path is None or name in found:
            continue
        found[name] = path
        imports = [node for node in walk(ast.parse(path.read_bytes())) if isinstance(node, ast.ImportFrom)]
        queue += [node.module for node in imports if node.module]
    packages = frozenset({"golf", *(name.split(".")[0] for name in found)})
    return {name: CoreModule(name, path, packages) for name, path in sorted(found.items())}


def own_source(module: str) -> Path | None:
    """The file of a module that is neither golf's nor the standard library's nor installed; None for the others."""
    top = module.split(".")[0]
    if top == "golf" or top in sys.stdlib_module_names or importlib.util.find_spec(top) is None:
        return None
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return None
    installed = {Path(folder).resolve() for folder in site.getsitepackages()}
    path = Path(spec.origin).resolve()
    return None if any(folder in path.parents for folder in installed) else path


def owners_of_names(modules: Iterable[CoreModule]) -> dict[str, Definition]:
    """Top-level name → its definition.

    Raises:
        UserError: a name defined twice, or one that Python or an import of another module already uses.
    """
    owners: dict[str, Definition] = {}
    imported: dict[str, tuple[tuple[str, str], CoreModule]] = {}
    listed = list(modules)
    for module in listed:
        for definition in module.definitions:
            for name in definition.names:
                if name in owners:
                    raise UserError(
                        f"{name} is defined in {owners[name].module.path} and in {module.path}: rename one of them, "
                        "because an exported file holds both"
                    )
                if hasattr(builtins, name):
                    raise UserError(f"{module.path} defines {name}, which is Python's own name: rename it")
                owners[name] = definition
    for module in listed:
        for name, source in module.imports.items():
            first, other = imported.setdefault(name, (source, module))
            if first != source or name in owners:
                where = owners[name].module.path if name in owners else other.path
                raise UserError(f"{name} is imported in {module.path} but means something else in {where}: rename one")
    for definition in owners.values():
        definition.called_from_outside = has_foreign_base(definition, owners)
    return owners


def has_foreign_base(definition: Definition, owners: dict[str, Definition]) -> bool:
    """Whether a class comes from one that is not golf's own, however far up."""
    return any(base not in owners or has_foreign_base(owners[base], owners) for base in definition.bases())
