"""A program in its smallest form: minified, compressed, and behind lines that run it.

Annotations, docstrings and comments go, names become short (golf/submission/rename.py). What is left is compressed by
context mixing (golf/submission/mixing.py), whose decoder stands behind the program, compressed by zlib. Both are one
literal in a source file whose encoding is latin-1, where a byte is a character: base 85 would need a quarter more.
Invariant: the same text gives the same bytes (of one version of python-minifier).
"""

from __future__ import annotations

import ast
import inspect
import re
import zlib
from functools import cache

from golf.errors import UserError
from golf.submission.mixing import decoded, encoded, predictions
from golf.submission.positional import positional
from golf.submission.rename import named_classes, renamed
from golf.submission.walk import walk

HEAD = b"#coding:latin-1\nimport zlib\nz='''"
TAIL = b"'''.encode('latin-1')\ny=zlib.decompress(z[%d:])\nexec(y)\n"


def packed(text: str) -> bytes:
    """The self-extracting form of a program.

    Raises:
        UserError: python-minifier is not installed.
    """
    content = encoded(minified(text).encode(), decoder().encode())
    return HEAD + escaped(content + zlib.compress(decoder().encode(), 9)) + TAIL % len(content)


def escaped(content: bytes) -> bytes:
    """Bytes as they stand between triple quotes: what ends the literal, or is no text, behind a backslash."""
    return re.sub(rb"[\\\r]|'(?=''|'?\Z)|\0(?=([0-7]?))", written, content, flags=re.DOTALL)


def written(match: re.Match[bytes]) -> bytes:
    if match[0] == b"\0":
        return b"\\000" if match[1] else b"\\0"  # a digit after it would be read as a part of it
    return b"\\r" if match[0] == b"\r" else b"\\" + match[0]


@cache
def unpacked(code: bytes) -> str | None:
    """The program inside a packed file; None if it is not one, or runs something else than this decoder."""
    match = re.fullmatch(re.escape(HEAD) + b"(.*)" + re.escape(TAIL).replace(b"%d", rb"(\d+)"), code, flags=re.DOTALL)
    if not match:
        return None
    try:
        literal = ast.literal_eval("'''" + match[1].decode("latin-1") + "'''").encode("latin-1")
        ours = zlib.decompress(literal[int(match[2]) :]) == decoder().encode()
    except (SyntaxError, ValueError, zlib.error):
        return None
    return decoded(literal, decoder().encode()).decode() if ours else None


@cache
def decoder() -> str:
    """The program that reads the literal and runs what it finds."""
    functions = [inspect.getsource(function) for function in (predictions, decoded)]
    text = small(ast.parse("\n".join(["from decimal import Decimal", *functions])), ["decoded"])
    return text + "\nexec(decoded(z,y))"


def minified(text: str) -> str:
    """The program with short names and nothing for readers."""
    tree = without_vars(ast.parse(text))
    kept = sorted(named_classes(list(walk(tree))))
    return small(without_record_types(positional(renamed(tree))), kept)


def small(tree: ast.Module, kept: list[str] | None = None) -> str:
    """A program minified, but for the names of these definitions."""
    try:
        import python_minifier
    except ImportError as error:
        raise UserError(
            "code=packed needs python-minifier: type pip install python-minifier, or code=readable"
        ) from error

    return python_minifier.minify(
        ast.unparse(tree),
        remove_literal_statements=True,
        remove_annotations=python_minifier.RemoveAnnotationsOptions(
            remove_variable_annotations=True,
            remove_return_annotations=True,
            remove_argument_annotations=True,
            remove_class_attribute_annotations=False,
        ),
        rename_globals=True,
        hoist_literals=False,
        preserve_globals=kept or [],
    )


def without_record_types(tree: ast.Module) -> ast.Module:
    """Fields of dataclasses and NamedTuples need an annotation, but it may be anything; class variables need none."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        for index, item in enumerate(node.body):
            if not isinstance(item, ast.AnnAssign) or not isinstance(item.target, ast.Name):
                continue
            if item.value is not None and "ClassVar" in ast.unparse(item.annotation):
                node.body[index] = ast.Assign([item.target], item.value)
            else:
                item.annotation = ast.Constant(0)
    return ast.fix_missing_locations(tree)


class Vars(ast.NodeTransformer):
    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "vars" and len(node.args) == 1:
            return ast.Attribute(node.args[0], "__dict__", ast.Load())
        return node


def without_vars(tree: ast.Module) -> ast.Module:
    """`vars(x)` is `x.__dict__`; python-minifier keeps all local names of a program that calls it."""
    return ast.fix_missing_locations(Vars().visit(tree))
