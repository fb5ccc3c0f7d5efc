"""A program without what its configuration rules out: folded constants, dead branches, unused parameters and fields.

The facts come from golf/submission/interpret.py. Each pass edits the syntax tree in place; statements that are not
touched stay the very objects that were parsed, so that golf/submission/emit.py can print them as they were written.
Invariant: an edit is made only where the facts prove that the program does the same without it. Checks of input that
end in one of golf's errors are the exception (golf/submission/checks.py), and the file's heading tells.
"""

from __future__ import annotations

import ast
import gc
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from golf.submission.checks import Checks, without_docstring
from golf.submission.defaults import remove_defaults
from golf.submission.effects import Effects
from golf.submission.evaluated import Evaluation
from golf.submission.folding import (
    asked_part,
    in_place_of_star,
    is_bare_return,
    is_empty,
    is_empty_dict,
    is_once,
    is_text,
    literal,
    negated,
    written_value,
)
from golf.submission.inline import inlined
from golf.submission.interpret import Interpreter, interpreted
from golf.submission.known import KnownNames
from golf.submission.names import bound_in, names_read
from golf.submission.once import done_once
from golf.submission.plain_classes import without_needless_classes
from golf.submission.plain_names import without_numbers
from golf.submission.pure import is_trial, may_raise, waits_for_expressions
from golf.submission.records import split_records
from golf.submission.settings import fields_as_globals
from golf.submission.tidy import tidied
from golf.submission.understood import not_understood
from golf.submission.unused import remove_definitions, remove_unused
from golf.submission.values import Box, ClassFacts, only_constant
from golf.submission.walk import walk
from golf.submission.wrappers import unwrapped

LITERALS = (type(None), bool, int, float, str, bytes)
MOST_BYTES = 16  # of a constant that is written wherever it is read
MOST_PASSES, PASSES_THAT_MOVE = 12, 6


def specialised(tree: ast.Module, keep_checks: Iterable[str] | None = None) -> ast.Module:
    """Edit a program until nothing more can be left out. `keep_checks`: definitions that keep theirs; None = all."""
    with without_collection():
        return _specialised(tree, keep_checks)


@contextmanager
def without_collection() -> Iterator[None]:
    """No search for reference cycles meanwhile: it takes a quarter of the time and frees nothing."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _specialised(tree: ast.Module, keep_checks: Iterable[str] | None) -> ast.Module:
    before = ""
    if not_understood(tree) is not None:
        return tree
    if keep_checks is not None:
        Checks(set(keep_checks)).visit(tree)
    for number in range(MOST_PASSES):
        without_needless_classes(tree)
        done_once(tree)
        facts = interpreted(tree)
        if unwrapped(tree, facts):
            facts = interpreted(tree)
        Folder(facts).visit(tree)
        remove_unused(tree, facts)
        split_records(tree)
        tidied(tree)
        after = ast.dump(tree)
        moved = fields_as_globals(tree, facts) or (number < PASSES_THAT_MOVE and inlined(tree, facts))
        if not moved and after == before:
            remove_defaults(tree, facts)  # once all is settled: calls that are worked out beforehand leave some out
            remove_definitions(tree)
            break
        before = after
    without_numbers(tree)
    return ast.fix_missing_locations(tree)


class Folder(ast.NodeTransformer):
    """Constants for what can only be one, and branches that are never taken dropped."""

    def __init__(self, facts: Interpreter):
        self.facts, self.effects = facts, Effects(facts)
        self.guarded = 0  # in how many `try` blocks this is, whose handlers may wait for what an expression raises
        self.reads: Counter[str] = Counter()  # names that the function reads in which this is
        self.names, self.evaluation = KnownNames(facts), Evaluation(facts)
        blocks = [n for n in walk(facts.tree) if isinstance(n, ast.Module | ast.FunctionDef | ast.ClassDef)]
        self.docstrings = {id(node.body[0]) for node in blocks if node.body and is_text(node.body[0])}

    def pure(self, node: ast.AST | None) -> bool:
        return self.effects.pure(node)

    # -- statements ---------------------------------------------------------------------------------------------------
    def body(self, statements: list[ast.stmt], needed: bool = True) -> list[ast.stmt]:
        kept: list[ast.stmt] = []
        for node in statements:
            if id(node) not in self.facts.visited and not isinstance(node, ast.Pass):
                continue
            found: Any = self.visit(node)
            kept += found if isinstance(found, list) else [] if found is None else [found]
        useful = [node for node in kept if not isinstance(node, ast.Pass)]
        return useful or ([ast.Pass()] if needed else [])

    def visit_Module(self, node: ast.Module) -> ast.Module:
        self.reads = names_read(node)
        node.body = self.body(node.body)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        function = self.facts.functions[id(node)]
        if not function.live:  # where its name is still read, something with this name has to be there
            node.body, node.decorator_list = [ast.copy_location(ast.Pass(), node)], []
            return node
        node.decorator_list = [self.visit(item) for item in node.decorator_list]
        node.args = self.generic_visit_all(node.args)
        outer, self.reads = (self.guarded, self.reads, self.names.bound), names_read(node)
        self.guarded, self.names.bound = 0, bound_in(node) | (self.names.bound or set())
        node.body = self.body(node.body)
        self.guarded, self.reads, self.names.bound = outer
        if function.owner is not None and node.name == "__post_init__" and is_empty(without_docstring(node.body)):
            return None
        while len(node.body) > 1 and is_bare_return(node.body[-1]):
            node.body.pop()
        return node

    def generic_visit_all(self, node: ast.arguments) -> ast.arguments:
        node.defaults = [self.visit(item) for item in node.defaults]
        node.kw_defaults = [None if item is None else self.visit(item) for item in node.kw_defaults]
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> Any:
        node.body = self.body(node.body)
        return node

    def visit_If(self, node: ast.If) -> Any:
        outcomes = self.facts.truth(self.facts.values.get(id(node.test), frozenset()))
        if len(outcomes) == 1 and self.pure(node.test):
            return self.body(node.body if True in outcomes else node.orelse, needed=False) or None
        node.test = self.condition(node.test)
        node.body = self.body(node.body)
        node.orelse = self.body(node.orelse, needed=False)
        if isinstance(node.test, ast.Constant):
            return (node.body if node.test.value else node.orelse) or None
        if is_empty(node.body) and not node.orelse and self.pure(node.test):
            return None
        if is_empty(node.body) and node.orelse:
            node.test, node.body, node.orelse = negated(node.test), node.orelse, []
        return node

    def visit_For(self, node: ast.For) -> Any:
        inside = names_read(node)
        used_later = any(self.reads[name] > inside[name] for name in bound_in(node.target))
        if self.is_never_filled(node.iter) and not used_later:
            return self.body(node.orelse, needed=False) or None
        node.iter = self.visit(node.iter)
        node.body, node.orelse = self.body(node.body), self.body(node.orelse, needed=False)
        if is_once(node) and not any(inside[name] for name in bound_in(node.target)) and not used_later:
            return node.body
        if is_empty(node.body) and not node.orelse and self.pure(node.iter) and not used_later:
            return None
        return node

    def is_never_filled(self, node: ast.expr) -> bool:
        """Whether what is iterated over is a container into which nothing ever comes."""
        held = self.facts.values.get(id(node), frozenset())
        boxes = [atom for atom in held if isinstance(atom, Box) and atom.kind in ("list", "tuple", "set", "dict")]
        empty = all(atom.exact and not (atom.items or atom.others or atom.lost) for atom in boxes)
        return bool(held) and len(boxes) == len(held) and empty and self.pure(node)

    def visit_ListComp(self, node: ast.ListComp) -> Any:
        if self.is_never_filled(node.generators[0].iter):
            return ast.copy_location(ast.List([], ast.Load()), node)
        self.generic_visit(node)
        never = any(isinstance(test, ast.Constant) and not test.value for part in node.generators for test in part.ifs)
        if never and self.pure(node.generators[0].iter):
            return ast.copy_location(ast.List([], ast.Load()), node)
        return node

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> Any:
        if self.is_never_filled(node.generators[0].iter):
            return ast.copy_location(ast.Tuple([], ast.Load()), node)
        return self.generic_visit(node)

    def visit_While(self, node: ast.While) -> Any:
        node.test = self.condition(node.test)
        node.body, node.orelse = self.body(node.body), self.body(node.orelse, needed=False)
        return node

    def visit_With(self, node: ast.With) -> Any:
        node.items = [self.visit(item) for item in node.items]
        node.body = self.body(node.body)
        return node

    def visit_Try(self, node: ast.Try) -> Any:
        waits = waits_for_expressions(node, {facts.node.name for facts in self.facts.classes.values()})
        self.guarded += waits
        node.body = self.body(node.body)
        self.guarded -= waits
        for handler in node.handlers:
            handler.body = self.body(handler.body)
        node.orelse, node.finalbody = self.body(node.orelse, False), self.body(node.finalbody, False)
        return node.finalbody if is_empty(node.body) else node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> Any:
        """Known values are written into the text."""
        parts: list[Any] = []
        for item in node.values:
            found = written_value(item) if self.part_of_text(item) else item
            if isinstance(found, ast.Constant) and parts and isinstance(parts[-1], ast.Constant):
                parts[-1] = ast.copy_location(ast.Constant(f"{parts[-1].value}{found.value}"), node)
            elif not (isinstance(found, ast.Constant) and not found.value):
                parts.append(found)
        node.values = parts
        if all(isinstance(part, ast.Constant) for part in parts):
            return literal("".join(part.value for part in parts), node)
        return node

    def part_of_text(self, item: ast.expr) -> bool:
        """Fold what an f-string shows, and how; whether there is something that it shows."""
        if not isinstance(item, ast.FormattedValue):
            return False
        item.value = self.visit(item.value)
        for part in item.format_spec.values if isinstance(item.format_spec, ast.JoinedStr) else ():
            self.part_of_text(part)
        return True

    def visit_Assert(self, node: ast.Assert) -> Any:
        return None if self.pure(node.test) and not self.guarded else self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        if node.value is not None:
            node.value = self.visit(node.value)
        if not isinstance(node.target, ast.Name):
            node.target = self.visit(node.target)
        return node

    def does_nothing(self, node: ast.expr) -> bool:
        """Whether a call ends in functions without a body."""
        callees = self.facts.calls.get(id(node), set())
        if not isinstance(node, ast.Call) or not callees or None in callees or not self.pure(node.func):
            return False
        if not all(map(self.pure, node.args)) or not all(self.pure(keyword.value) for keyword in node.keywords):
            return False
        nodes = [function.node for function, _ in callees if function.kind != "foreign"]
        plain = len(nodes) == len(callees) and all(isinstance(item, ast.FunctionDef) for item in nodes)
        return plain and all(is_empty(without_docstring(item.body)) for item in nodes)

    def visit_Expr(self, node: ast.Expr) -> Any:
        if self.does_nothing(node.value):
            return None
        if isinstance(node.value, ast.Constant):
            return node if id(node) in self.docstrings else None
        node.value = self.visit(node.value)
        waited_for = may_raise(node.value) if self.guarded else is_trial(node.value)
        return None if self.pure(node.value) and not isinstance(node.value, ast.Yield) and not waited_for else node

    # -- expressions --------------------------------------------------------------------------------------------------
    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, ast.expr) and not isinstance(node, ast.Constant):
            folded = self.folded(node)
            if folded is not None:
                return folded
        return super().visit(node)

    def folded(self, node: ast.expr) -> ast.expr | None:
        """The constant that an expression can only be, if it does nothing else."""
        if isinstance(getattr(node, "ctx", None), ast.Store | ast.Del) or isinstance(node, ast.Starred | ast.JoinedStr):
            return None
        value = self.facts.values.get(id(node), frozenset())
        known = only_constant(value)
        if isinstance(node, ast.Call) and self.names.bound is not None:
            result = self.evaluation.result(node, self.names.bound)
            if result is not None:
                return result
        if known is None and self.pure(node):
            return self.names.expression(value, node)
        if known is None or not isinstance(known.value, LITERALS) or not self.pure(node):
            return None
        if isinstance(known.value, float) and known.value != known.value:
            return None
        if isinstance(known.value, bytes) and len(known.value) > MOST_BYTES:
            return None
        return literal(known.value, node)

    def condition(self, node: ast.expr) -> ast.expr:
        """A test, of which only the truth matters."""
        outcomes = self.facts.truth(self.facts.values.get(id(node), frozenset()))
        if len(outcomes) == 1 and self.pure(node):
            return literal(True in outcomes, node)
        found = self.visit(node)
        if isinstance(found, ast.BoolOp):
            found = self.shorter_test(found)
        return found

    def shorter_test(self, node: ast.BoolOp) -> ast.expr:
        """`a and True` is `a` where only the truth matters, `a and False` is False where `a` does nothing."""
        is_and, last = isinstance(node.op, ast.And), node.values[-1]
        if not isinstance(last, ast.Constant):
            return node
        if bool(last.value) is not is_and:
            return literal(not is_and, node) if all(map(self.pure, node.values)) else node
        node.values.pop()
        return node if len(node.values) > 1 else node.values[0]

    def visit_IfExp(self, node: ast.IfExp) -> Any:
        outcomes = self.facts.truth(self.facts.values.get(id(node.test), frozenset()))
        if len(outcomes) == 1 and self.pure(node.test):
            return self.visit(node.body if True in outcomes else node.orelse)
        node.test = self.condition(node.test)
        node.body, node.orelse = self.visit(node.body), self.visit(node.orelse)
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> Any:
        is_and, kept = isinstance(node.op, ast.And), []
        for position, part in enumerate(node.values):
            outcomes = self.facts.truth(self.facts.values.get(id(part), frozenset()))
            last = position == len(node.values) - 1
            if not last and outcomes == {is_and} and self.pure(part):
                continue
            if not outcomes and kept:
                break  # never evaluated
            kept.append(self.visit(part))
            if outcomes == {not is_and}:
                break
        no_matter = isinstance(kept[-1], ast.Constant) and kept[-1].value is is_and
        if len(kept) > 1 and no_matter and isinstance(kept[-2], ast.Compare):
            kept.pop()
        node.values = kept
        return node if len(kept) > 1 else kept[0]

    def visit_Call(self, node: ast.Call) -> Any:
        node.func = self.visit(node.func)
        node.args = [self.visit(item) for item in node.args]
        for keyword in node.keywords:
            keyword.value = self.visit(keyword.value)
        node.args = [part for item in node.args for part in in_place_of_star(item)]
        node.keywords = [part for item in node.keywords for part in self.spelled_out(item)]
        if self.names.is_bare_partial(node):
            return node.args[0]
        node.keywords = [item for item in node.keywords if not (item.arg is None and self.is_empty(item.value))]
        if isinstance(node.func, ast.Name) and node.func.id == "isinstance" and len(node.args) == 2:
            node.args[1] = self.made_kinds(node.args[1])
        match node:
            case ast.Call(ast.Name("getattr"), [owner, ast.Constant(str(name)), *others]) if name.isidentifier():
                if all(self.has_method(owner, name, other) for other in others):
                    return ast.copy_location(ast.Attribute(owner, name, ast.Load()), node)
            case _:
                pass
        return node

    def has_method(self, node: ast.expr, name: str, otherwise: ast.expr) -> bool:
        """Whether everything that a value can be has a method, so that nothing else is ever taken."""
        held = self.facts.values.get(id(node), frozenset())
        return bool(held) and all(self.facts.has_method(atom, name) for atom in held) and self.pure(otherwise)

    def made_kinds(self, node: ast.expr) -> ast.expr:
        """The classes of a test without those of which there never is an instance; one at least stays."""
        if not isinstance(node, ast.BinOp | ast.Tuple):
            return node
        parts = node.elts if isinstance(node, ast.Tuple) else [node.left, node.right]
        kept = [part for part in parts if not self.is_never_made(part)]
        if len(kept) == len(parts) or not kept:
            if isinstance(node, ast.BinOp):
                node.left, node.right = self.made_kinds(node.left), self.made_kinds(node.right)
            return node
        if isinstance(node, ast.Tuple) and len(kept) > 1:
            node.elts = kept
            return node
        return self.made_kinds(kept[0])

    def is_never_made(self, node: ast.expr) -> bool:
        """Whether a name is that of a class of the program that nothing makes an instance of."""
        held = self.facts.values.get(id(node), frozenset())
        kinds = [atom for atom in held if isinstance(atom, ClassFacts)]
        made = [item for item in self.facts.classes.values() if (item.instantiated or item.lost)]
        return len(kinds) == 1 == len(held) and not any(kinds[0] in item.lineage() for item in made)

    def spelled_out(self, keyword: ast.keyword) -> list[ast.keyword]:
        """`**held` as `a=1, b=Kind`, where that is all it ever holds."""
        held = self.facts.values.get(id(keyword.value), frozenset())
        box = next(iter(held)) if len(held) == 1 else None
        if keyword.arg is not None or not isinstance(box, Box) or not self.pure(keyword.value):
            return [keyword]
        if not box.exact or box.lost or box.unsure or box.others or not all(isinstance(key, str) for key in box.items):
            return [keyword]
        found: list[ast.keyword] = []
        for name, value in box.items.items():
            known = only_constant(value)
            simple = known is not None and isinstance(known.value, LITERALS)
            spelled = literal(known.value, keyword.value) if known is not None and simple else None
            spelled = spelled or self.names.expression(value, keyword.value)
            if spelled is None:
                return [keyword]
            found.append(ast.copy_location(ast.keyword(name, spelled), keyword))
        return found

    def is_empty(self, node: ast.expr) -> bool:
        """Whether a dictionary has nothing in it, ever."""
        held = self.facts.values.get(id(node), frozenset({None}))
        boxes = all(isinstance(a, Box) and not a.items and not a.others and not a.lost for a in held)
        return is_empty_dict(node) or (bool(held) and boxes and self.pure(node))

    def visit_Subscript(self, node: ast.Subscript) -> Any:
        """`(a, b)[0]` and `{"a": x, "b": y}["a"]` are the part that is asked for, if the others do nothing."""
        self.generic_visit(node)
        part = asked_part(node)
        return node if part is None or not self.pure(node.value) else part

    def visit_Assign(self, node: ast.Assign) -> Any:
        node.value = self.visit(node.value)
        node.targets = [self.visit(target) for target in node.targets]
        target = node.targets[0]
        same = isinstance(target, ast.Name) and isinstance(node.value, ast.Name) and target.id == node.value.id
        return None if same and len(node.targets) == 1 else node

    def visit_Dict(self, node: ast.Dict) -> Any:
        box = self.facts.boxes.get((id(node), "dict"))
        prune = box is not None and not box.read_whole and not box.lost and box.exact
        keys: list[Any] = []
        values: list[ast.expr] = []
        for key, value in zip(node.keys, node.values):
            name = key.value if isinstance(key, ast.Constant) else None
            if prune and box is not None and key is not None and name not in box.read_keys and self.pure(value):
                continue
            found = self.visit(value)
            if key is None and is_empty_dict(found):
                continue
            if key is None and isinstance(found, ast.Dict):
                keys += found.keys
                values += found.values
                continue
            keys.append(None if key is None else self.visit(key))
            values.append(found)
        node.keys, node.values = keys, values
        return node

    def visit_List(self, node: ast.List) -> Any:
        return self._display(node)

    def visit_Tuple(self, node: ast.Tuple) -> Any:
        return self._display(node)

    def _display(self, node: Any) -> Any:
        found: list[ast.expr] = []
        for item in node.elts:
            if isinstance(item, ast.Starred) and self.is_never_filled(item.value):
                continue
            visited = self.visit(item)
            if isinstance(visited, ast.Starred) and isinstance(visited.value, ast.List | ast.Tuple):
                found += visited.value.elts
            else:
                found.append(visited)
        node.elts = found
        only: Any = found[0].value if len(found) == 1 and isinstance(found[0], ast.Starred) else None
        return only if isinstance(node, ast.List) and isinstance(only, ast.ListComp) else node

    def visit_comprehension(self, node: ast.comprehension) -> Any:
        node.iter = self.visit(node.iter)
        node.ifs = [self.condition(item) for item in node.ifs]
        node.ifs = [item for item in node.ifs if not (isinstance(item, ast.Constant) and item.value)]
        return node
