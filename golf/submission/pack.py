"""A program in its smallest form: minified, compressed, and behind one line that runs it.

Annotations, docstrings and comments go, local and global names become short, and LZMA's output is written in base 85,
so that the file is text. Invariant: the same text gives the same bytes (of one version of python-minifier).
"""

from __future__ import annotations

import ast
import base64
import lzma

from golf.errors import UserError

STUB = 'import lzma,base64\nexec(lzma.decompress(base64.b85decode("%s")))\n'
CONTEXT_BITS = [(literal, position) for literal in (3, 4, 2, 1, 0) for position in (0, 1, 2)]


def packed(text: str) -> str:
    """The self-extracting form of a program.

    Raises:
        UserError: python-minifier is not installed.
    """
    content = minified(text).encode()
    attempts = [compressed(content, literal, position) for literal, position in CONTEXT_BITS]
    return STUB % base64.b85encode(min(attempts, key=len)).decode()


def unpacked(code: str) -> str | None:
    """The program inside a packed file; None if it is not one."""
    head, _, rest = code.partition('b85decode("')
    if not rest or not STUB.startswith(head):
        return None
    return lzma.decompress(base64.b85decode(rest.partition('"')[0])).decode()


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

    tree = without_record_types(ast.parse(text))
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
