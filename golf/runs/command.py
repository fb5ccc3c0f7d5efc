"""`golf runs`: the table of finished runs, and one subcommand for each question asked of them. No torch."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn

from golf.errors import UserError
from golf.runs import compare, diff, leaderboard, listing, report

ABOUT = "Finished runs: a table of them (without a subcommand), differences, comparisons, the leaderboard, pages."


class RunsParser(argparse.ArgumentParser):
    """argparse with golf's manners: a wrong argument is one line that says what to type."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog.removeprefix('golf ')}: {message}; type {self.prog} --help")


def parser() -> argparse.ArgumentParser:
    top = RunsParser("golf runs", description=ABOUT)
    names = "{list,diff,compare,leaderboard,report}"
    commands = top.add_subparsers(dest="command", required=True, metavar=names, parser_class=RunsParser)
    for module in (listing, diff, compare, leaderboard, report):
        module.add_parser(commands)
    return top


def main(argv: Sequence[str]) -> int:
    """`golf runs …`; a first argument that is an option, or none, means the table."""
    given = list(argv)
    if not given or (given[0].startswith("-") and given[0] not in ("-h", "--help")):
        given = ["list", *given]
    arguments = parser().parse_args(given)
    return int(arguments.run(arguments))
