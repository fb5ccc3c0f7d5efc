"""A program in its smallest form: minified, compressed, and behind one line that runs it.

Annotations, docstrings and comments go, names become short (golf/submission/rename.py), and LZMA's output is a literal
in a source file whose encoding is latin-1, where a byte is a character: base 85 would need a quarter more.
Invariant: the same text gives the same bytes (of one version of python-minifier).
"""

from __future__ import annotations

import ast
import lzma
import re

from golf.errors import UserError
from golf.submission.rename import renamed

HEAD = b"#coding:latin-1\nimport lzma\nexec(lzma.decompress('"
TAIL = b"'.encode('latin-1')))\n"
CONTEXT_BITS = [(literal, position) for literal in (3, 4, 2, 1, 0) for position in (0, 1, 2)]


def packed(text: str) -> bytes:
    """The self-extracting form of a program.

    Raises:
        UserError: python-minifier is not installed.
    """
    content = minified(text).encode()
    attempts = [HEAD + escaped(compressed(content, *bits)) + TAIL for bits in CONTEXT_BITS]
    return min(attempts, key=len)


def escaped(content: bytes) -> bytes:
    """Bytes as they stand between quotes: what ends a literal or a line, or is no text, behind a backslash."""
    return re.sub(rb"[\\'\n\r]|\0(?=([0-7]?))", written, content, flags=re.DOTALL)


def written(match: re.Match[bytes]) -> bytes:
    if match[0] == b"\0":
        return b"\\000" if match[1] else b"\\0"  # a digit after it would be read as a part of it
    return {b"\n": b"\\n", b"\r": b"\\r"}.get(match[0], b"\\" + match[0])


def unpacked(code: bytes) -> str | None:
    """The program inside a packed file; None if it is not one."""
    if not code.startswith(HEAD):
        return None
    literal = ast.literal_eval(code[len(HEAD) - 1 : -len(TAIL) + 1].decode("latin-1"))
    return lzma.decompress(literal.encode("latin-1")).decode()


def compressed(content: bytes, literal: int, position: int) -> bytes:
    """LZMA in its smallest container, with this many context bits."""
    settings = {"id": lzma.FILTER_LZMA1, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 20}
    settings |= {"lc": literal, "lp": 0, "pb": position}
    return lzma.compress(content, format=lzma.FORMAT_ALONE, filters=[settings])


def minified(text: str) -> str:
    """The program with short names and nothing for readers."""
    try:
        import python_minifier
    except ImportError as error:
        raise UserError(
            "code=packed needs python-minifier: type pip install python-minifier, or code=readable"
        ) from error

    tree = without_record_types(renamed(without_vars(ast.parse(text))))
    classes = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
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
        preserve_globals=classes if ".__name__" in text else [],
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
