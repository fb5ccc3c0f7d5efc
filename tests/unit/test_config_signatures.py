"""Signatures read from source: functions, classes, dataclasses, inheritance, re-exports; and what does not exist."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from golf.config.annotations import describe, fits, literals
from golf.config.signatures import signature_of
from golf.config.static import NotFound

MODULE = """
    import enum
    from collections.abc import Callable
    from dataclasses import KW_ONLY, dataclass, field
    from pathlib import Path
    from typing import ClassVar, Literal, NamedTuple, Protocol
    import torch_that_is_not_installed

    Mode = Literal["exact", "rough"]
    Factory = Callable[..., int]

    class Shape(Protocol):
        def area(self) -> float: ...

    class Colour(enum.Enum):
        red = "red"

    def function(a: int, b: "float | None" = None, *, c: Mode = "exact", **rest): ...

    class Base:
        def __init__(self, width: int, shape: Shape | None = None): ...
        @classmethod
        def small(cls, depth: int): ...
        @staticmethod
        def plain(depth: int): ...

    class Child(Base):
        pass

    @dataclass(frozen=True)
    class Frozen:
        limit: ClassVar[int] = 3
        first: int
        second: list[float] = field(default_factory=list)
        hidden: int = field(default=0, init=False)
        _: KW_ONLY
        path: Path = Path(".")

    @dataclass
    class Derived(Frozen):
        third: tuple[int, str] = (1, "a")
        colour: Colour = Colour.red
        factory: Factory = int
        table: dict[str, float] | None = None

    class Pair(NamedTuple):
        left: int
        right: int = 0

    class Torchy(torch_that_is_not_installed.Module):
        pass

    alias = function
    made = print(1) if False else None
"""


@pytest.fixture
def technique(tmp_path, monkeypatch):
    (tmp_path / "technique").mkdir()
    (tmp_path / "technique" / "__init__.py").write_text(
        "from .parts import Base as Root, function\nfrom .parts import *\n"
    )
    (tmp_path / "technique" / "parts.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def names(target):
    signature = signature_of(target)
    assert signature is not None
    return signature.names


def test_functions_classes_and_dataclasses(technique):
    assert names("technique.parts.function") == ["a", "b", "c"]
    assert signature_of("technique.parts.function").open_keys
    assert names("technique.parts.Base") == names("technique.parts.Child") == ["width", "shape"]
    assert names("technique.parts.Base.small") == names("technique.parts.Child.small") == ["depth"]
    assert names("technique.parts.Base.plain") == ["depth"]
    assert names("technique.parts.Frozen") == ["first", "second", "path"]
    assert names("technique.parts.Derived") == ["first", "second", "path", "third", "colour", "factory", "table"]
    assert names("technique.parts.Pair") == ["left", "right"]
    required = [p.name for p in signature_of("technique.parts.Derived").parameters if p.required]
    assert required == ["first"]


def test_re_exports_and_aliases(technique):
    assert names("technique.Root") == ["width", "shape"]
    assert names("technique.Frozen") == ["first", "second", "path"]
    assert names("technique.parts.alias") == ["a", "b", "c"]


def test_what_cannot_be_read_is_unknown_not_wrong(technique):
    assert signature_of("technique.parts.Torchy") is None
    assert signature_of("technique.parts.made") is None
    assert signature_of("collections.OrderedDict") is None
    assert signature_of("torch.optim.AdamW") is None


@pytest.mark.parametrize(
    ("target", "missing"),
    [
        ("technique.parts.Bse", "Bse"),
        ("technique.part.Base", "part"),
        ("technique.parts.Base.smal", "smal"),
        ("no_such_package.Thing", "no_such_package"),
        ("lightning.pytorch.callbacks.EarlyStoping", "EarlyStoping"),
        ("golf.optim.muon_adm.muon_adam", "muon_adm"),
    ],
)
def test_what_does_not_exist(technique, target, missing):
    with pytest.raises(NotFound) as caught:
        signature_of(target)
    assert caught.value.missing == missing


def test_lightning_comes_from_the_table():
    assert "patience" in names("lightning.pytorch.callbacks.EarlyStopping")
    assert names("lightning.pytorch.callbacks.early_stopping.EarlyStopping") == names(
        "pytorch_lightning.callbacks.EarlyStopping"
    )
    assert signature_of("lightning.pytorch.loggers.WandbLogger").open_keys


def test_nothing_is_imported():
    code = (
        "import sys\nfrom golf.config.signatures import signature_of\n"
        "for t in ('golf.models.gpt.GPT', 'lightning.pytorch.Trainer', 'torch.optim.AdamW', 'golf.loop.train'):\n"
        "    signature_of(t)\n"
        "print({'torch', 'lightning', 'golf.models', 'golf.optim'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


NODE = {"_target_": "anything.Here"}


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("function.a", [1, NODE], [1.5, True, "1", None]),
        ("function.b", [1, 1.5, None], ["x", False, [1.0]]),
        ("function.c", ["exact", "rough"], ["Exact", 1, None]),
        ("Base.shape", [NODE, None], [3, "circle", {"side": 1}]),
        ("Derived.second", [[], [1, 2.5]], [1.0, ["a"]]),
        ("Derived.path", ["runs/x"], [1]),
        ("Derived.third", [[1, "a"]], [[1], ["a", 1], "a"]),
        ("Derived.colour", ["red"], [[1]]),
        ("Derived.factory", [NODE], ["int", 3]),
        ("Derived.table", [{"a": 1.0}, None, {"a": NODE}], [{"a": "b"}, [1]]),
    ],
)
def test_values_against_annotations(technique, name, good, bad):
    owner, _, key = name.partition(".")
    parameter = next(p for p in signature_of(f"technique.parts.{owner}").parameters if p.name == key)
    for value in [*good, "${hydra:runtime.output_dir}"]:
        assert fits(value, parameter.annotation, parameter.scope), value
    for value in bad:
        assert not fits(value, parameter.annotation, parameter.scope), value


def test_literals_and_descriptions(technique):
    parameters = {p.name: p for p in signature_of("technique.parts.function").parameters}
    assert literals(parameters["c"].annotation, parameters["c"].scope) == ["exact", "rough"]
    assert describe(parameters["b"].annotation) == "float | None"
    trainer = {p.name: p for p in signature_of("lightning.pytorch.Trainer").parameters}
    assert describe(trainer["fast_dev_run"].annotation) == "int | bool"
