"""What the specialiser knows of a program: abstract values, functions, classes and containers.

A value is a set of atoms, everything that an expression may be: constants, functions, classes, instances (one atom for
all instances of a class), containers (one for each place that makes one) and `ANY`, something unknown. The empty set
is "nothing got here yet". Invariant: values only grow, so that the interpreter's rounds come to an end.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

MOST_CONSTANTS = 8  # more different constants than this are "something unknown"
CONSTANT_TYPES = (type(None), bool, int, float, str, bytes)


@dataclass(frozen=True, eq=False)
class Constant:
    """One constant, made by `constant`; the type is a field because True == 1 == 1.0."""

    kind: str
    value: Any


@dataclass(frozen=True, eq=False)
class Foreign:
    """Something that is imported or built in, by its dotted name; made by `foreign`."""

    path: str


@dataclass(frozen=True, eq=False)
class Instance:
    """Any instance of a class of the program: `ClassFacts.instance`."""

    of: ClassFacts


@dataclass(frozen=True)
class Bound:
    """A method of the program with its object; `function` is a name where the method is a foreign base's."""

    function: Any
    receiver: Any


Value = frozenset[Any]
NOTHING: Value = frozenset()


@cache  # one atom for one name, so that comparing atoms is comparing objects
def foreign(path: str) -> Value:
    return frozenset({Foreign(path)})


UNKNOWN: Value = foreign("?")
(ANY,) = UNKNOWN
PLAIN: Value = foreign("#")  # a number, text, tensor …: something unknown that is not the program's own
(STRANGER,) = PLAIN


DEVICE = "torch.device:"  # and its type: what `torch.device("cuda")` returns


def is_device(atom: Any) -> bool:
    """Whether an atom is a device whose type is known."""
    return type(atom) is Foreign and atom.path.startswith(DEVICE)


@lru_cache(maxsize=None, typed=True)
def same_constant(value: Any) -> Value:
    return frozenset({Constant(type(value).__name__, value)})


def constant(value: Any) -> Value:
    """A constant as a value; -0.0 is not told from 0.0, so it counts as unknown."""
    is_negative_zero = isinstance(value, float) and not value and str(value) == "-0.0"
    return UNKNOWN if is_negative_zero else same_constant(value)


(NONE,) = constant(None)
BOTH: Value = constant(True) | constant(False)


def widened(value: Value) -> Value:
    """The value with too many constants taken as something unknown, which any constant is a case of."""
    if len(value) < 2:
        return value
    constants = [atom for atom in value if type(atom) is Constant]
    if constants and (ANY in value or STRANGER in value or len(constants) > MOST_CONSTANTS):
        return value.difference(constants) | (NOTHING if ANY in value else PLAIN)
    return value


def joined(value: Value, more: Value) -> Value:
    """Both, widened; the very same value where nothing is added."""
    return value if more <= value else widened(value | more)


def result_of(*operands: Value) -> Value:
    """What something foreign makes of these: nothing of the program's own where it was given nothing of that."""
    known = all(type(atom) is Constant or atom is STRANGER or is_device(atom) for value in operands for atom in value)
    return PLAIN if known else UNKNOWN


def only_constant(value: Value) -> Constant | None:
    """The constant that a value is, if it can be nothing else."""
    if len(value) != 1:
        return None
    (atom,) = value
    return atom if isinstance(atom, Constant) else None


@dataclass(eq=False)
class Scope:
    """Variables of a module, function, class body or comprehension. `local`: names that are assigned here."""

    parent: Scope | None = None
    local: set[str] = field(default_factory=set)
    values: dict[str, Value] = field(default_factory=dict)
    assignments: dict[str, int] = field(default_factory=dict)
    is_class: bool = False
    is_comprehension: bool = False

    def owner(self, name: str) -> Scope | None:
        """The scope that a name belongs to."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.local and (scope is self or not scope.is_class):
                return scope
            scope = scope.parent
        return None


@dataclass(eq=False)
class FunctionFacts:
    """A function, method or lambda: its scope, what it returns, and who else calls it."""

    node: Any
    name: str
    scope: Scope
    owner: ClassFacts | None = None
    kind: str = "plain"  # plain | property | classmethod | staticmethod | foreign (decorated by something unknown)
    is_generator: bool = False
    returns: Value = NOTHING
    live: bool = False
    lost: bool = False  # somebody unknown may call it with anything

    @property
    def parameters(self) -> list[ast.arg]:
        return [*self.node.args.posonlyargs, *self.node.args.args]

    def default_of(self, name: str) -> ast.expr | None:
        """The default of a parameter."""
        arguments = self.node.args
        positional = self.parameters
        for parameter, default in zip(reversed(positional), reversed(arguments.defaults)):
            if parameter.arg == name:
                return default
        for parameter, default in zip(arguments.kwonlyargs, arguments.kw_defaults):
            if parameter.arg == name:
                return default
        return None


@dataclass(eq=False)
class ClassFacts:
    """A class: members of its body, attributes of its instances, and what it comes from."""

    node: ast.ClassDef
    name: str
    scope: Scope
    bases: list[ClassFacts] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    methods: dict[str, FunctionFacts] = field(default_factory=dict)
    fields: list[tuple[str, ast.expr | None]] = field(default_factory=list)  # of a dataclass or NamedTuple
    is_record: bool = False  # dataclass or NamedTuple: its constructor takes `fields`
    is_tuple: bool = False
    attributes: dict[str, Value] = field(default_factory=dict)
    instantiated: bool = False
    lost: bool = False
    ancestry: list[ClassFacts] = field(default_factory=list)
    foreign_lineage: list[str] = field(default_factory=list)
    structural: bool = False  # its fields are used as a whole: asdict, unpacked, compared …

    def __post_init__(self) -> None:
        self.instance = Instance(self)
        self.value: Value = frozenset({self.instance})

    def lineage(self) -> list[ClassFacts]:
        """This class and its golf bases, nearest first."""
        if self.ancestry:
            return self.ancestry
        found: list[ClassFacts] = [self]
        for base in self.bases:
            found += [item for item in base.lineage() if item not in found]
        return found

    def own_names(self) -> set[str]:
        """What the body of the class itself binds."""
        bound = {item.name for item in self.node.body if isinstance(item, ast.FunctionDef | ast.ClassDef)}
        given = [
            n for item in self.node.body if isinstance(item, ast.Assign) for t in item.targets for n in ast.walk(t)
        ]
        given += [item.target for item in self.node.body if isinstance(item, ast.AnnAssign) and item.value is not None]
        return bound | {n.id for n in given if isinstance(n, ast.Name)}

    def settle(self) -> None:
        """All bases are known now."""
        self.ancestry = self.lineage()
        self.foreign_lineage = [path for item in self.ancestry for path in item.foreign]

    def method(self, name: str, after: ClassFacts | None = None) -> FunctionFacts | None:
        lineage = self.lineage()
        if after is not None:
            lineage = lineage[lineage.index(after) + 1 :] if after in lineage else []
        return next((item.methods[name] for item in lineage if name in item.methods), None)

    def foreign_bases(self) -> list[str]:
        return self.foreign_lineage

    def is_module(self) -> bool:
        return any(path.startswith("torch.nn.") for path in self.foreign_bases())

    def all_fields(self) -> list[tuple[str, ast.expr | None]]:
        found = dict[str, ast.expr | None]()
        for item in reversed(self.lineage()):
            found.update(item.fields)
        return list(found.items())

    @property
    def findable(self) -> bool:
        """Whether something unknown may be an instance of this class."""
        return self.lost or (self.instantiated and bool(self.foreign_bases()))


@dataclass(eq=False)
class Box:
    """A container or a partial. `items`: what is at known keys or positions; `others`: everything else in it."""

    kind: str  # list | tuple | dict | set | partial
    node: Any
    items: dict[Any, Value] = field(default_factory=dict)
    others: Value = NOTHING
    function: Value = NOTHING
    exact: bool = True  # whether `items` are all keys it ever has
    unsure: set[Any] = field(default_factory=set)  # keys of `items` that a dictionary does not have at all times
    lost: bool = False
    read_keys: set[Any] = field(default_factory=set)
    read_whole: bool = False

    def elements(self) -> Value:
        found = self.others
        for value in self.items.values():
            found |= value
        return found


@lru_cache(maxsize=4096)
def foreign_object(path: str) -> Any:
    """The real thing behind a dotted name; None if it cannot be found."""
    parts = path.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:cut]))
        except Exception:  # whatever an import raises: the name is not known then
            continue
        for part in parts[cut:]:
            found = getattr(found, part, None)
        return found
    return None


def foreign_has(paths: list[str], name: str) -> bool:
    """Whether one of these foreign classes has a member of this name, or sets one (or cannot be found)."""
    return any(foreign_object(path) is None or name in foreign_members(path) for path in paths)


@lru_cache(maxsize=64)
def foreign_members(path: str) -> frozenset[str]:
    """Members of a foreign class and the attributes that its source sets on `self`."""
    found: Any = foreign_object(path)
    names = set(dir(found))
    for item in getattr(found, "__mro__", ()):
        try:
            source = inspect.getsource(item)
        except (OSError, TypeError):
            continue
        names |= set(re.findall(r"self\.(\w+)", source)) | set(getattr(item, "__annotations__", {}))
    return frozenset(names)
