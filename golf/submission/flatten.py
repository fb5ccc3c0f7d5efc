"""A run as one Python file: the core code it uses, its configuration as constructor calls, and a main.

Starting from the configuration's targets and `golf.script`, every definition that is referred to is taken along;
modules are written in the order of their imports under banners that name the origin; what the configuration rules out
is left out (golf/submission/specialise.py). The result needs torch, numpy and sentencepiece, and is the same for the
same configuration and source. Invariant: nothing in it can be switched off: what the run does not use is not there.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from golf.config.code import to_expression
from golf.errors import UserError, VerificationFailed
from golf.files import write_atomically
from golf.models.exported import exported_network
from golf.submission.complete import undefined_names
from golf.submission.emit import Original, emitted, indented_by_tabs, same_program
from golf.submission.on_gpu import without_cpu
from golf.submission.pack import packed
from golf.submission.source import (
    ANNOTATION_OF_ABSENT,
    CoreModule,
    Definition,
    References,
    collect_references,
    core_modules,
    owners_of_names,
    user_modules,
)
from golf.submission.specialise import specialised
from golf.submission.stored import stored
from golf.submission.types import without_types

PROGRAM = ("golf.script", "Program")
MAIN = ("golf.script", "main")
CODEC_PACKAGES = {"zstd": "zstandard", "brotli": "brotli", "zpaq": "zpaq"}  # of codecs that Python has not
ANY_TOKENIZER = "golf.data.tokenizer.open_tokenizer"
FORMS = ("readable", "packed", "whole")
# Definitions and methods whose checks of input stay: the main program's, those that protect a score, and those of what
# is not the same in every run: how many ranks there are, and weights that are no numbers.
KEEP_CHECKS = ("ProgramRun", "main", "read_options", "Ledger", "micro_steps", "prepared")
_WIDTH = 120


def write_submission(config: dict[str, Any], path: Path) -> Path:
    """Write a run's `train_gpt.py` (atomically); raises what `submission_bytes` raises."""
    write_atomically(Path(path), submission_bytes(config))
    return Path(path)


def submission_bytes(config: dict[str, Any]) -> bytes:
    """What `train_gpt.py` of a run holds. Its default data folder is the one the run's data option prepared.

    Raises:
        UserError: something in the configuration cannot be part of one file, or the data is not there.
    """
    from golf.config.build import build

    prepared = build(config["data"]).prepare(say=lambda line: None, require_train=False)
    tokenizer = prepared.tokenizer(config["model"]["vocab_size"])
    opens = f"{type(tokenizer).__module__}.{type(tokenizer).__name__}"
    beside = place_beside(prepared.folder, tokenizer.path or "")
    text = flatten(config, prepared.folder, tokenizer.sha256, opens, beside)
    return as_shipped(text, config.get("code", "readable"))


def as_shipped(text: str, form: str) -> bytes:
    """A program in one of its forms: `packed`, or as it is (`readable`, and `whole`, where `flatten` leaves all in)."""
    if form not in FORMS:
        raise UserError(f"code={form} is not known: type code={' or code='.join(FORMS)}")
    return stored("packed", text, packed) if form == "packed" else text.encode()


def flatten(
    config: dict[str, Any],
    data_folder: str | None = None,
    tokenizer_sha256: str = "",
    tokenizer_class: str = "",
    tokenizer_beside: str = "",
) -> str:
    """The source text of a resolved run config: specialised for it, or with `code: whole` as it stands in golf.

    Args:
        data_folder: where the shards are by default, `data.folder` if None; only a relative path is written down.
        tokenizer_sha256: the file refuses data cut with another tokenizer; "" does not check.
        tokenizer_class: the one kind of tokenizer (a class by its dotted name) that the file opens; "" = all of them.
        tokenizer_beside: where its file is, as a path from the data folder; "" = looked for when the file runs.
    """
    text = whole_program(config, data_folder, tokenizer_sha256, tokenizer_class, tokenizer_beside)
    return text if config.get("code") == "whole" else specialised_text(text)


def specialised_text(text: str) -> str:
    """A whole program without what its configuration rules out."""
    return stored("readable", text, lambda text: specialise_anew(text).encode()).decode()


def specialise_anew(text: str) -> str:
    """The specialised program; where its text would not be the program (odd layout of a technique), in plain layout."""
    tree = ast.parse(text)
    original = Original(text, tree)
    without_cpu(tree, original)
    special = without_types(specialised(tree, KEEP_CHECKS))
    found = indented_by_tabs(emitted(special, original))
    found = found if same_program(found, special) else ast.unparse(special) + "\n"
    missing = sorted(undefined_names(found))
    if missing:
        raise VerificationFailed(
            f"the exported program lacks {', '.join(missing[:3])}: type python export.py run=<folder> code=whole, "
            "which leaves nothing out"
        )
    return found


def whole_program(
    config: dict[str, Any],
    data_folder: str | None = None,
    tokenizer_sha256: str = "",
    tokenizer_class: str = "",
    tokenizer_beside: str = "",
) -> str:
    """Every definition that is referred to, whole, with the configuration and the start at the end."""
    folder = data_folder or config["data"].get("folder", "")
    if config["data"].get("tokenizer") == "bytes":
        tokenizer_class = ""
    expression, imports = program_expression(config, folder, tokenizer_sha256, tokenizer_class, tokenizer_beside)
    own = user_modules(module for module, _ in imports)
    modules = core_modules() | own
    owners = owners_of_names(modules.values())
    roots = {name for _, name in {*imports, PROGRAM, MAIN}}
    packages = {"golf", *(module.split(".")[0] for module in own)}
    foreign = {name: (module, name) for module, name in imports if module.split(".")[0] not in packages}
    missing = [f"{module}.{name}" for module, name in imports if module.startswith("golf.") and name not in owners]
    if missing:
        raise UserError(
            f"{missing[0]} is not part of golf's core, so it cannot go into one file: move it to golf/models, optim, "
            "data, quant, codec or evaluation"
        )
    reached = Reached(owners, modules.values())
    reached.follow(roots - foreign.keys())
    ordered = import_order(modules, [reached.definitions[name].module.name for name in sorted(reached.definitions)])
    sections = [reached.section(modules[name]) for name in ordered]
    head = [heading(config), "from __future__ import annotations\n", reached.import_lines(foreign)]
    return "\n".join(head) + "".join(sections) + closing(expression)


# -- the configuration ------------------------------------------------------------------------------------------------
def program_expression(
    config: dict[str, Any],
    data_folder: str,
    tokenizer_sha256: str,
    tokenizer_class: str = "",
    tokenizer_beside: str = "",
) -> tuple[str, set[tuple[str, str]]]:
    """`Program(…)` as source, and the names it needs."""
    data, hardware, trainer = config["data"], config["hardware"], config["trainer"]
    if trainer["overfit_batches"]:
        raise UserError("trainer.overfit_batches is for debugging, a submission trains on all data: leave it at 0")
    stream = {name: data[name] for name in ("tokens_per_step", "seq_len", "spans_per_step")}
    values = {
        "seed": config["seed"],
        "model": {**config["model"], "_partial_": True},
        "optimizer": {**config["optim"], "_partial_": True},
        "schedules": config["schedule"],
        "budget": config["budget"],
        "stream": {**data["order"], **stream},
        "average": config["average"],
        "qat": config["qat"],
        "sparsity": config.get("sparsity"),  # runs from before there was such a group have none
        "open_tokenizer": {"_target_": tokenizer_class or ANY_TOKENIZER, "_partial_": True},
        "quant": config["quant"],
        "codec": config["codec"],
        "evaluation": config["eval"],
        "data_folder": relative_folder(data_folder),
        "tokenizer": relative_tokenizer(data.get("tokenizer", "auto")),
        "tokenizer_beside": tokenizer_beside if relative_tokenizer(data.get("tokenizer", "auto")) == "auto" else "",
        "tokenizer_sha256": tokenizer_sha256,
        "accelerator": hardware["accelerator"],
        "compile": hardware["compile"],
        "threads": hardware["threads"],
        "warm_up_steps": warm_up_steps(config),
        "log_every_steps": trainer["log_every_steps"],
        "validate_every_steps": trainer["val_check_steps"],
        "own_start": not (config["init_from"] or config["ckpt_path"]),
    }
    values = {name: value for name, value in values.items() if not is_left_out(name, value)}
    source, imports = to_expression({"_target_": ".".join(PROGRAM), **values})
    network = literal(exported_network(config["model"]), indent=8)
    body = source.rstrip().removesuffix(")").rstrip().removesuffix(",")
    return f"{body},\n    network={network},\n)", imports


def literal(value: Any, indent: int) -> str:
    """Plain data as a Python literal, one entry per line where it does not fit."""
    if not isinstance(value, dict):
        return to_expression(value)[0]
    items = [f"{to_expression(key)[0]}: {literal(entry, indent + 4)}" for key, entry in value.items()]
    line = "{" + ", ".join(items) + "}"
    if len(line) + indent + 8 <= _WIDTH and "\n" not in line:
        return line
    pad = " " * (indent - 4)
    return "{\n" + "".join(f"{pad}    {item},\n" for item in items) + pad + "}"


def is_left_out(name: str, value: Any) -> bool:
    """The `none` option of a group, and values that are Program's defaults."""
    if isinstance(value, dict):
        return "_target_" not in value
    return value is None or (name, value) in (
        ("qat", {}),
        ("own_start", True),
        ("tokenizer_sha256", ""),
        ("tokenizer_beside", ""),
    )


def warm_up_steps(config: dict[str, Any]) -> int:
    """Steps that the run's warm-up callback does and undoes."""
    target = "golf.training.callbacks.warmup.WarmUpCallback"
    nodes = [node for node in config["callbacks"].values() if node and node.get("_target_") == target]
    return int(nodes[0].get("steps", 1)) if nodes else 0


def relative_folder(folder: str) -> str:
    """A data folder without anything that only this machine has."""
    path = Path(folder)
    if path.is_absolute():
        path = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else Path("data") / path.name
    return path.as_posix()


def place_beside(folder: str, tokenizer: str) -> str:
    """The path of a tokenizer file from its data folder, if it is in it or (the challenge's layout) two levels up."""
    if not Path(tokenizer).is_file():
        return ""
    found = Path(os.path.relpath(Path(tokenizer).resolve(), Path(folder).resolve()))
    return found.as_posix() if found.parts.count("..") <= 2 else ""


def relative_tokenizer(tokenizer: str) -> str:
    return "auto" if Path(tokenizer).is_absolute() else tokenizer


# -- what is taken along ----------------------------------------------------------------------------------------------
class Reached:
    """The definitions and methods that are referred to, directly or not, from a set of names."""

    def __init__(self, owners: dict[str, Definition], modules: Iterable[CoreModule]):
        self.owners = owners
        self.known = {module.name: module.golf_names for module in modules}
        self.definitions: dict[str, Definition] = {}
        self.methods: dict[str, set[str]] = {}
        self.used = References()
        self._imports: dict[str, tuple[str, str]] = {}

    def follow(self, names: Iterable[str]) -> None:
        """Take names, what they refer to, and every method whose name is used somewhere, until nothing new is found."""
        queue = list(names)
        while queue:
            while queue:
                queue += self._take(queue.pop())
            for name, definition in sorted(self.definitions.items()):
                queue += self._take_methods(name, definition)

    def _take(self, name: str) -> list[str]:
        definition = self.owners[name]
        if any(known in self.definitions for known in definition.names):
            return []
        self.definitions[definition.names[0]] = definition
        self.methods[definition.names[0]] = set()
        return self._refer(definition.module, definition.references())

    def _take_methods(self, name: str, definition: Definition) -> list[str]:
        found: list[str] = []
        for method, node in definition.methods.items():
            if method in self.used.attributes and method not in self.methods[name]:
                self.methods[name].add(method)
                found += self._refer(definition.module, collect_references(node))
        return found

    def _refer(self, module: CoreModule, references: References) -> list[str]:
        self.used.add(references)
        for name in references.names | references.types:
            if name in module.imports:
                self._imports[name] = module.imports[name]
        return sorted(references.names & self.known[module.name])

    @property
    def present(self) -> set[str]:
        return {name for definition in self.definitions.values() for name in definition.names}

    def section(self, module: CoreModule) -> str:
        """The definitions taken from one module under their banner."""
        present = self.present
        taken = [definition for definition in module.definitions if definition.names[0] in self.definitions]
        texts = [module.text(definition, self.methods[definition.names[0]], present) for definition in taken]
        about = "".join(f"# {line}".rstrip() + "\n" for line in module.docstring.splitlines())
        return banner(module.name) + about + join_definitions(taken, texts)

    def import_lines(self, foreign: dict[str, tuple[str, str]]) -> str:
        """Imports of everything that is not golf's, standard library first, sorted and without repetition."""
        modules: dict[str, str] = {}
        names: dict[str, set[str]] = {"typing": {ANNOTATION_OF_ABSENT}}
        for local, (module, name) in {**self._imports, **foreign}.items():
            if name:
                names.setdefault(module, set()).add(name if name == local else f"{name} as {local}")
            else:
                is_plain = local == module.partition(".")[0]
                modules[f"import {module}" if is_plain else f"import {module} as {local}"] = module
        groups: list[list[str]] = [[], []]
        for line, module in sorted(modules.items()):
            groups[not is_standard(module)].append(line)
        for module, found in sorted(names.items()):
            line = f"from {module} import {', '.join(sorted(found, key=import_rank))}"
            groups[not is_standard(module)].append(line)
        return "\n\n".join("\n".join(group) for group in groups if group) + "\n"


def is_standard(module: str) -> bool:
    return module.partition(".")[0] in sys.stdlib_module_names


def import_rank(name: str) -> tuple[int, str]:
    """Constants, then classes, then the others, as import sorters have it."""
    return 0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2, name


def banner(name: str) -> str:
    return f"\n\n# ----- {name}\n"


def join_definitions(definitions: list[Definition], texts: list[str]) -> str:
    """Two blank lines around functions and classes, none between constants."""
    joined, after_block = "", False
    for definition, text in zip(definitions, texts):
        block = definition.is_block
        joined += ("\n\n" if block or after_block else "" if joined else "\n") + text
        after_block = block
    return joined


def import_order(modules: dict[str, CoreModule], wanted: Iterable[str]) -> list[str]:
    """The wanted modules so that each comes after those it imports at its top; the script last."""
    wanted_set, ordered, seen = set(wanted), [], set()

    def visit(name: str) -> None:
        if name in seen or name not in modules:
            return
        seen.add(name)
        for needed in sorted(modules[name].needs_first):
            visit(needed)
        if name in wanted_set:
            ordered.append(name)

    for name in sorted(wanted_set, key=lambda name: (name == PROGRAM[0], name)):
        visit(name)
    return ordered


# -- beginning and end ------------------------------------------------------------------------------------------------
def heading(config: dict[str, Any]) -> str:
    codec = str((config.get("codec") or {}).get("_target_", ""))
    packages = ["torch", "numpy", "sentencepiece", *(p for name, p in CODEC_PACKAGES.items() if name in codec)]
    return (
        f'"""{config["name"]}: one file made by golf from its modules; each section names the one it comes from.\n\n'
        "    python train_gpt.py                          train, pack model.golf, score it\n"
        "    python train_gpt.py --eval-only model.golf   score an artifact\n"
        "    torchrun --standalone --nproc_per_node=8 train_gpt.py\n\n"
        f"Needs {', '.join(packages[:-1])} and {packages[-1]}. What the configuration (at the end) does not use\n"
        "is left out, so are checks that the run has passed; docstrings are cut to their first clause.\n"
        '"""\n'
    )


def closing(expression: str) -> str:
    body = expression.replace("\n", "\n    ")
    return (
        f"{banner('configuration')}\n\n"
        f'def program() -> Program:\n    """The run, as constructor calls."""\n    return {body}\n\n\n'
        'if __name__ == "__main__":\n    sys.exit(main(program()))\n'
    )
