"""Whether a program defines every name that it uses: a last look at a file before it is shipped, without running it."""

from __future__ import annotations

import builtins
import symtable

FROM_PYTHON = {*dir(builtins), "__file__", "__name__", "__doc__"}


def undefined_names(text: str) -> set[str]:
    """Names that some function looks up at the top level, where they are not.

    Raises:
        SyntaxError: the text is no program.
    """
    top = symtable.symtable(text, "train_gpt.py", "exec")
    there = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    there |= {child.get_name() for child in top.get_children()} | FROM_PYTHON
    used: set[str] = set()
    queue = [top]
    while queue:
        table = queue.pop()
        queue += table.get_children()
        for symbol in table.get_symbols():
            if symbol.is_declared_global() and symbol.is_assigned():
                there.add(symbol.get_name())
            if symbol.is_referenced() and (table is top or symbol.is_global()):
                used.add(symbol.get_name())
    return used - there
