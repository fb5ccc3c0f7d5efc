"""A syntax tree as text: what was not edited as it was written, with its comments; the rest formatted anew.

The tree is one that was parsed from `source` and then edited in place. Of docstrings the first clause is kept.
Invariant: the text parses to the tree, docstrings aside.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections import Counter
from itertools import pairwise
from typing import Any

from golf.submission.walk import walk

WIDTH = 120
SHORT = 36  # characters of an item that shares a line with others
BLOCKS = (ast.FunctionDef, ast.ClassDef)
PARTS = ("body", "orelse", "finalbody", "handlers")


class Original:
    """The text a tree was parsed from, and what every statement was like then."""

    def __init__(self, source: str, tree: ast.Module):
        self.lines = source.splitlines()
        self.nodes = [node for node in walk(tree) if isinstance(node, ast.stmt)]  # kept, so that ids stay theirs
        self.dumps = {id(node): head_dump(node) for node in self.nodes}
        self.head_ends = {id(node): self._head_end(node) for node in self.nodes}
        starts = Counter(first_line(node) for node in self.nodes)
        self.shared = {line for line, count in starts.items() if count > 1}  # by several statements
        noted = {number for number, line in enumerate(self.lines, 1) if "#" in line}
        for node in self.nodes:
            node.commented = not noted.isdisjoint(range(first_line(node) - 1, self.head_ends[id(node)] + 1))  # type: ignore[attr-defined]
        self.banners = {number: line for number, line in enumerate(self.lines) if line.startswith("# -----")}

    def _head_end(self, node: ast.stmt) -> int:
        body = getattr(node, "body", None)
        if not body:
            return node.end_lineno or node.lineno
        end = first_line(body[0]) - 1
        while (end > node.lineno and self.lines[end - 1].lstrip().startswith(("#", "@"))) or not self.lines[
            end - 1
        ].strip():
            end -= 1
        return end

    def is_untouched(self, node: ast.stmt) -> bool:
        return self.dumps.get(id(node)) == head_dump(node)

    def text(self, node: ast.stmt, indent: int) -> list[str] | None:
        """The lines of a simple statement, or of the head of a compound one, as they were written."""
        begin, end = first_line(node), self.head_ends[id(node)]
        if not self.shared.isdisjoint(range(begin, max(begin, end) + 1)):
            return None
        if self.lines[node.lineno - 1][: node.col_offset].strip():
            return None
        lines = self.lines[begin - 1 : end]
        shift = indent - (len(lines[0]) - len(lines[0].lstrip()))
        if shift and any('"""' in line for line in lines):
            return None
        moved = [line[-shift:] if shift < 0 else " " * shift + line if line else line for line in lines]
        return moved if all(len(line) <= WIDTH for line in moved) else None

    def comments(self, node: ast.stmt, indent: int) -> list[str]:
        """The comment lines directly above a statement."""
        if id(getattr(node, "was", node)) not in self.dumps:
            return []
        number = first_line(node) - 1
        found: list[str] = []
        while number and self.lines[number - 1].lstrip().startswith("#") and number - 1 not in self.banners:
            number -= 1
            found.insert(0, " " * indent + self.lines[number].strip())
        return (
            found if all(len(line) <= WIDTH for line in found) and not re.match(r"\s*# -- ", "".join(found[:1])) else []
        )

    def section(self, node: ast.stmt) -> int:
        """The line of the banner above a statement; -1 before the first."""
        return max((number for number in self.banners if number < node.lineno), default=-1)

    def about(self, banner: int) -> list[str]:
        """The first paragraph below a banner."""
        found: list[str] = []
        for line in self.lines[banner + 1 :]:
            if not line.startswith("# "):
                break
            found.append(line)
        return found


def first_line(node: ast.stmt) -> int:
    return min([node.lineno, *(item.lineno for item in getattr(node, "decorator_list", []))])


def head_dump(node: ast.stmt) -> str:
    """A statement without the statements in it."""
    kept = {name: getattr(node, name) for name in PARTS if isinstance(getattr(node, name, None), list)}
    for name in kept:
        setattr(node, name, [])
    text = ast.dump(node)
    for name, value in kept.items():
        setattr(node, name, value)
    return text


def emitted(tree: ast.Module, original: Original) -> str:
    """The text of the edited tree, section by section."""
    lines: list[str] = []
    last_section, previous = -1, ""
    for node in tree.body:
        section = original.section(node)
        if section != last_section:
            lines += ["", "", original.banners[section]]
            last_section, previous = section, "banner"
        kind = kind_of(node)
        if previous and (kind != previous or kind == "block"):
            lines += ["", ""] if "block" in (kind, previous) else [""]
        about = set(original.about(section)) if section >= 0 else set[str]()
        if is_docstring(node):
            lines += original.lines[node.lineno - 1 : node.end_lineno]
        else:
            lines += [line for line in original.comments(node, 0) if line not in about]
            lines += statement(node, 0, original)
        previous = kind
    return "\n".join(lines).strip("\n") + "\n"


def kind_of(node: ast.stmt) -> str:
    """What is written next to each other: imports of one sort, constants; blocks stand alone."""
    if isinstance(node, ast.ImportFrom | ast.Import):
        module = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
        top = (module or "").partition(".")[0]
        return "future" if top == "__future__" else "standard" if top in sys.stdlib_module_names else "installed"
    return "block" if isinstance(node, (*BLOCKS, ast.If)) else "docstring" if is_docstring(node) else "constant"


def statement(node: ast.stmt, indent: int, original: Original) -> list[str]:
    """The lines of one statement."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return docstring(node.value.value, indent)
    kept = original.text(node, indent) if original.is_untouched(node) else None
    lines = head(node, indent) if kept is None else with_fewer_lines(node, kept, indent)
    if isinstance(node, ast.If) and lines[0].lstrip().startswith("elif "):
        lines[0] = lines[0].replace("elif ", "if ", 1)
    inner = indent + 4
    match node:
        case ast.FunctionDef() | ast.ClassDef():
            return lines + block(node.body, inner, original, spaced=isinstance(node, ast.ClassDef))
        case ast.If():
            lines += block(node.body, inner, original)
            if len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If):
                inside = statement(node.orelse[0], indent, original)
                return [*lines, " " * indent + "el" + inside[0].lstrip(), *inside[1:]]
            return lines + tail("else", node.orelse, indent, original)
        case ast.For() | ast.While():
            return lines + block(node.body, inner, original) + tail("else", node.orelse, indent, original)
        case ast.With():
            return lines + block(node.body, inner, original)
        case ast.Try():
            lines += block(node.body, inner, original)
            for handler in node.handlers:
                kind = "" if handler.type is None else " " + double_quoted(ast.unparse(handler.type))
                name = f" as {handler.name}" if handler.name else ""
                lines += [" " * indent + f"except{kind}{name}:", *block(handler.body, inner, original)]
            lines += tail("else", node.orelse, indent, original)
            return lines + tail("finally", node.finalbody, indent, original)
        case _:
            return lines


def with_fewer_lines(node: ast.stmt, kept: list[str], indent: int) -> list[str]:
    """The lines of a statement as they were written, or formatted anew where that saves some and loses nothing."""
    if len(kept) < 4 or isinstance(node, BLOCKS) or getattr(node, "commented", False):
        return kept
    lines = head(node, indent)
    fewer = len(lines) < len(kept) and max(map(len, lines)) <= WIDTH
    return lines if fewer and numbers_in(lines) == numbers_in(kept) else kept


def numbers_in(lines: list[str]) -> list[str]:
    return re.findall(r"\d[\w.]*", "\n".join(lines))


def tail(word: str, body: list[ast.stmt], indent: int, original: Original) -> list[str]:
    return [" " * indent + word + ":", *block(body, indent + 4, original)] if body else []


def block(body: list[ast.stmt], indent: int, original: Original, spaced: bool = False) -> list[str]:
    lines: list[str] = []
    for position, node in enumerate(body):
        after_function = position and isinstance(body[position - 1], ast.FunctionDef)
        if position and (
            isinstance(node, ast.FunctionDef) or after_function or (spaced and is_docstring(body[position - 1]))
        ):
            lines.append("")
        lines += [*original.comments(node, indent), *statement(node, indent, original)]
    return lines


def head(node: ast.stmt, indent: int) -> list[str]:
    """A simple statement, or the head of a compound one, formatted anew."""
    kept = {name: getattr(node, name) for name in PARTS if isinstance(getattr(node, name, None), list)}
    compound = bool(kept)
    if compound and not isinstance(node, ast.Try):
        for name in kept:
            setattr(node, name, [])
        node.body = [ast.Pass()]  # type: ignore[attr-defined]
        text = ast.unparse(node).rpartition("\n")[0]
        for name, value in kept.items():
            setattr(node, name, value)
    else:
        text = "try:" if compound else ast.unparse(node)
    found: list[str] = []
    for line in text.split("\n"):
        found += wrapped(tidy(line, WIDTH - indent), indent)
    return found


def is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def docstring(text: str, indent: int) -> list[str]:
    """The first clause of a docstring without what stands in brackets, if it fits a line and says something."""
    paragraph = " ".join(re.split(r"\n\s*\n", text.strip())[0].split())
    paragraph = re.sub(r" \([^()]*\)", "", paragraph)
    ends = [match.start() for match in re.finditer(r"(?<=[^.])[.;:] (?![a-z]\.)", paragraph)]
    first = next((paragraph[:end] for end in ends if is_whole(paragraph[:end])), paragraph).rstrip(".") + "."
    line = " " * indent + '"""' + first.replace("\\", "\\\\").replace('"""', "'''") + '"""'
    return (
        [line] if len(line) <= WIDTH and first not in ("See above.", "Args.") and not first.startswith("Args:") else []
    )


def is_whole(text: str) -> bool:
    """Whether no bracket and no quotation is open at the end of a text."""
    pairs = ("()", "[]", "{}")
    return all(text.count(pair[0]) == text.count(pair[1]) for pair in pairs) and text.count("`") % 2 == 0


# -- formatting -------------------------------------------------------------------------------------------------------
def tokens_of(text: str) -> list[tokenize.TokenInfo]:
    return [t for t in tokenize.generate_tokens(io.StringIO(text + "\n").readline) if t.type not in (4, 0)]


def double_quoted(text: str) -> str:
    """Strings in double quotes, where nothing has to be escaped for it."""
    pieces, position = [], 0
    for token in tokens_of(text) if "'" in text else []:
        match = re.fullmatch(r"([a-z]*)'([^'\"\\\n]*)'", token.string)
        if token.type == tokenize.STRING and match and "{" not in match[2]:
            pieces += [text[position : token.start[1]], f'{match[1]}"{match[2]}"']
            position = token.end[1]
    return "".join([*pieces, text[position:]])


def tidy(text: str, width: int = WIDTH) -> str:
    """ast.unparse's habits as people write them: quotes, defaults after annotations, tuples without brackets (but
    those with several items that a line could be broken in)."""
    text = double_quoted(text) if "\n" not in text else text
    text = without_second_brackets(text) if "((" in text and "\n" not in text else text
    if text.startswith(("def ", "async def ")):
        text = re.sub(r"(: [^=(),]+(?:\[[^\]]*\][^=(),]*)*)=", r"\1 = ", text)
    match = re.match(r"^((?:return|[\w., \[\]\"*]+ =)) \((.+)\)$", text)
    fits = match is not None and (len(text) <= width + 2 or len(outer_brackets(match[2])) < 2)
    if match and fits and "," in match[2] and closes_at_end(text, len(match[1]) + 1) and not match[2].endswith(","):
        text = f"{match[1]} {match[2]}" if " for " not in match[2] and " else " not in match[2] else text
    return text


def without_second_brackets(text: str) -> str:
    """`sum(x for x in y)`, of which ast.unparse makes `sum((x for x in y))`."""
    open_at: list[tuple[int, int, bool]] = []  # place, place of the bracket right before it, whether it is a generator
    gone: list[int] = []
    tokens = tokens_of(text)
    for number, token in enumerate(tokens):
        place = token.start[1]
        if token.type == tokenize.OP and token.string in "([{":
            before = tokens[number - 2 : number] if number > 1 else []
            called = [t.string for t in before[1:]] == ["("] and before[0].type == tokenize.NAME
            open_at.append((place, before[1].start[1] if called and token.string == "(" else -1, False))
        elif token.string == "for" and open_at:
            open_at[-1] = (*open_at[-1][:2], True)
        elif token.type == tokenize.OP and token.string in ")]}" and open_at:
            begin, outer, generates = open_at.pop()
            if outer >= 0 and generates and tokens[number + 1 : number + 2] and tokens[number + 1].string == ")":
                gone += [begin, place]
    return "".join(letter for place, letter in enumerate(text) if place not in gone)


def closes_at_end(text: str, begin: int) -> bool:
    """Whether the bracket at `begin` is closed by the last character."""
    depth = 0
    for token in tokens_of(text):
        if token.start[1] < begin:
            continue
        depth += (token.string in "([{") - (token.string in ")]}") if token.type == tokenize.OP else 0
        if not depth:
            return token.end[1] == len(text)
    return False


def wrapped(text: str, indent: int) -> list[str]:
    """A line, broken at its last outermost bracket, and further where that is still too long."""
    line = " " * indent + text
    if len(line) <= WIDTH:
        return [line]
    try:
        spans = outer_brackets(text)
    except (tokenize.TokenError, IndentationError):
        return [line]
    for begin, end, commas in reversed(spans):
        if end - begin < 3:
            continue
        inside = text[begin + 1 : end]
        before = text[: begin + 1]
        if not inside.strip() or len(before) + indent > WIDTH:
            continue
        held = hugged(before, inside, indent) if not commas else []
        if held:
            return [*held[:-1], *wrapped(held[-1].lstrip() + text[end:], indent)]
        if not commas and len(inside) + indent + 4 > WIDTH and is_one_text(inside):
            return [line]  # which is too long, broken or not
        middle: list[str] = []
        if len(inside) + indent + 4 <= WIDTH and not text.startswith("def "):
            middle = [" " * (indent + 4) + inside.strip()]
        else:
            cuts = [begin, *commas, end]
            items = [text[a + 1 : b].strip() for a, b in pairwise(cuts)]
            items = [item for item in items if item]
            single = len(items) == 1 and not commas
            for item in items:
                middle += wrapped(item + ("" if single else ","), indent + 4)
            middle = middle if single else filled(middle, indent + 4)
        return [" " * indent + before, *middle, *wrapped(text[end:], indent)]
    return [line]


def hugged(before: str, inside: str, indent: int) -> list[str]:
    """`call([`, the items, `]`: the only argument of a call is broken and not the call; [] where it cannot be."""
    inside = inside.strip()
    spans = outer_brackets(inside)
    if len(inside) + indent + 4 <= WIDTH or len(spans) != 1 or spans[0][1] != len(inside) - 1:
        return []
    lines = wrapped(inside, indent)
    if len(lines) < 3 or not is_chain_of_names(inside[: spans[0][0]]) or len(lines[0] + before) > WIDTH:
        return []
    return [" " * indent + before + lines[0].strip(), *lines[1:]]


def is_chain_of_names(text: str) -> bool:
    """What stands before the bracket of a call, or of a display."""
    return re.fullmatch(r"[\w.]*", text) is not None


def is_one_text(text: str) -> bool:
    """Whether a text is one literal of a string, which nothing can break."""
    return bool(re.fullmatch(r"""f?("[^"]*"|'[^']*')""", text))


def filled(lines: list[str], indent: int) -> list[str]:
    """Items of a line each, of which short ones that follow each other share lines."""
    found: list[str] = []
    shared = False  # whether the last line may take another item
    for line in lines:
        short = len(line) - len(line.lstrip()) == indent and line.endswith(",") and len(line) - indent <= SHORT
        short = short and line[indent] not in ")]}"
        if short and shared and len(found[-1]) + 1 + len(line) - indent <= WIDTH:
            found[-1] += " " + line.lstrip()
        else:
            found.append(line)
        shared = short
    return found


def outer_brackets(text: str) -> list[tuple[int, int, list[int]]]:
    """Begin, end and commas of each outermost pair of brackets."""
    found: list[tuple[int, int, list[int]]] = []
    depth, begin, commas, is_comprehension = 0, 0, list[int](), False
    for token in tokens_of(text.rstrip(",") if text.endswith(",") else text):
        is_comprehension |= depth == 1 and token.string == "for"
        if token.type != tokenize.OP:
            continue
        if token.string in "([{":
            if not depth:
                begin, commas, is_comprehension = token.start[1], [], False
            depth += 1
        elif token.string in ")]}":
            depth -= 1
            if not depth:
                found.append((begin, token.start[1], [] if is_comprehension else commas))
        elif token.string == "," and depth == 1:
            commas.append(token.start[1])
    return found


def indented_by_tabs(text: str) -> str:
    """A text with a tab for every four spaces at the beginning of a line: a byte of the artifact's limit each."""
    lines = text.split("\n")
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    texts = [t for t in tokens if tokenize.tok_name[t.type] in ("STRING", "FSTRING_MIDDLE")]
    inside = {row for t in texts for row in range(t.start[0], t.end[0])}
    for row, line in enumerate(lines):
        width = len(line) - len(line.lstrip(" "))
        if row not in inside:
            lines[row] = "\t" * (width // 4) + line[width // 4 * 4 :]
    return "\n".join(lines)


def same_program(text: str, tree: ast.Module) -> bool:
    """Whether a text parses to a tree, docstrings aside."""
    try:
        found = ast.parse(text)
    except SyntaxError:
        return False
    return bare_dump(found) == bare_dump(ast.parse(ast.unparse(tree)))


def bare_dump(tree: Any) -> str:
    for node in walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and isinstance(node, (ast.Module, *BLOCKS)):
            node.body = [item for item in body if not is_docstring(item)]
    return ast.dump(tree)
