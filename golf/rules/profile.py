"""Profiles: which failures count, and the limits that rules compare with (conf/rules/*.yaml)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from golf.config.nearest import offer
from golf.errors import UserError


@dataclass(frozen=True)
class Profile:
    """counted: ids whose failure fails the audit, or `all`; every rule is run and shown whatever it says.

    Bytes, seconds, nats and p are the limits that rules compare with.
    """

    name: str = "none"
    counted: Sequence[str] | str = ()
    limit_bytes: int = 16_000_000
    train_seconds: float = 600.0
    evaluation_seconds: float = 600.0
    min_seeds: int = 3
    gain_nats: float = 0.005
    gain_p: float = 0.01

    def counts(self, rule: str) -> bool:
        """Whether a failure of this rule fails the audit."""
        return self.counted == "all" or rule in self.counted


def profile_folders(config_dirs: Sequence[Path] = ()) -> list[Path]:
    from golf.config.compose import conf_dir

    return [conf_dir() / "rules", *(folder / "rules" for folder in config_dirs)]


def load_profile(name: str, config_dirs: Sequence[Path] = ()) -> Profile:
    """A profile by name from conf/rules (and further config folders), or from a YAML file by path.

    Raises:
        UserError: no such profile, or a key or rule that does not exist.
    """
    import yaml

    found = {path.stem: path for folder in profile_folders(config_dirs) for path in sorted(folder.glob("*.yaml"))}
    path = Path(name) if name.endswith((".yaml", ".yml")) else found.get(name)
    if path is None or not path.is_file():
        raise UserError(f"--profile {name}: no such profile; {offer(name, found)}; type --profile strict")
    content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    return make_profile({"name": path.stem, **content}, str(path))


def make_profile(content: dict[str, Any], where: str = "rules") -> Profile:
    """A profile from its keys."""
    from golf.rules.registry import RULES

    fields = {key: value for key, value in content.items() if key != "_target_"}
    unknown = [key for key in fields if key not in Profile.__dataclass_fields__]
    if unknown:
        raise UserError(f"{where}: no key {unknown[0]}; {offer(unknown[0], Profile.__dataclass_fields__)}")
    counted = list(RULES) if fields.get("counted") == "all" else list(fields.get("counted") or ())
    wrong = [rule for rule in counted if rule not in RULES]
    if wrong:
        raise UserError(f"{where}: counted names {wrong[0]}, which is no rule; {offer(str(wrong[0]), RULES)}")
    return Profile(**{**fields, "counted": tuple(counted)})
