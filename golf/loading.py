"""Open what golf made: `golf.load(<run folder or artifact>)` gives a torch module with its tokenizer and config."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from golf.config.build import build
from golf.data.tokenizer import load_tokenizer
from golf.data.tokenizer_kinds import PURE_BYTES, PureByteTokenizer
from golf.errors import UserError
from golf.own_techniques import codec_chooser, stored_kinds, targets_in


def load(path: str | Path, export: str | None = None, tokenizer: str | None = None) -> Any:
    """The network of a run (its packed export, or its averaged weights if nothing is packed yet) or of an artifact.

    Args:
        path: a run folder, or a packed file. export: which export of the run. tokenizer: the tokenizer's file, where
            it is not found by itself (an artifact that has left its run folder).

    Returns:
        a torch module in eval mode; `.tokenizer` encodes and decodes (None if its file is not found), `.config` is the
        network's config node (of a run: the run's whole config), `.seq_len` the tokens it was trained on at a time
        (None for a file outside a run folder).

    Raises:
        UserError: nothing loadable there, or a tokenizer that is not the model's.
    """
    found = Path(path)
    if found.is_dir():
        net, identity, run = _load_run(found, export)
    else:
        run = _run_of(found)
        net, identity = open_artifact(found, run.own_targets(found.parent.name) if run else ())
    net.seq_len = run.config["data"]["seq_len"] if run else None
    if tokenizer:
        net.tokenizer = _require_same(load_tokenizer(tokenizer), tokenizer, identity)
    else:
        net.tokenizer = _find_tokenizer(run, identity)
    return net.eval()


def open_artifact(path: Path, trusted: Iterable[str] = ()) -> tuple[Any, dict[str, Any]]:
    """(network with the artifact's weights, identity of its tokenizer).

    Nothing but golf's own models can be built, and the `trusted` targets of the run that an artifact belongs to
    (golf/own_techniques.py).
    """
    from golf.codec.artifact import read_artifact_with

    artifact = read_artifact_with(path, codec_chooser(trusted), stored_kinds(trusted))
    net = build_network(artifact.network, str(path), trusted)
    from golf.training.checkpointing import load_weights

    load_weights(net, artifact.quantised.dequantise())
    net.config = artifact.network
    return net, artifact.tokenizer


def open_upstream(path: Path, settings: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The network of an upstream .ptz; `settings`: what the file does not say (conf/evaluate.yaml, `upstream`).

    Raises:
        UserError: not such a file, settings that are missing, or a network that golf does not build.
    """
    from golf.interop.ptz import read_ptz_and_format
    from golf.interop.upstream_artifact import node_of_artifact
    from golf.interop.upstream_names import from_upstream
    from golf.training.checkpointing import load_weights

    quantised, kind = read_ptz_and_format(path)
    state = quantised.dequantise()
    node = node_of_artifact(path, {name: tuple(tensor.shape) for name, tensor in state.items()}, kind, settings)
    net = build_network(node, str(path))
    expected = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    load_weights(net, from_upstream(state, expected))
    net.config = node
    return net, {}


def build_network(node: dict[str, Any], where: str, trusted: Iterable[str] = ()) -> Any:
    """Build a network from a config node of unknown origin: every target must be one of golf's models, or trusted.

    Raises:
        UserError: a target outside golf.models.
    """
    for target in targets_in(node):
        if not target.startswith("golf.models.") and target not in trusted:
            raise UserError(f"{where} wants to build '{target}', which is not one of golf's models: refused")
    return build(node)


def load_state(path: str | Path) -> dict[str, Any]:
    """Weights by name from a run folder, a checkpoint folder or an artifact (for init_from=)."""
    found = Path(path)
    for inside in ("stages/average/weights.safetensors", "weights.safetensors"):
        if (found / inside).is_file():
            return _read_weights(found / inside)
    if found.is_file():
        return dict(open_artifact(found)[0].state_dict())
    if found.is_dir():
        from golf.training.checkpointing import find_checkpoint

        checkpoint = find_checkpoint(found)
        if checkpoint is not None:
            return _read_weights(checkpoint / "weights.safetensors")
    raise UserError(f"{path} holds no weights: type a run folder, a checkpoint folder or a packed artifact")


def require_start(init_from: str | None, ckpt_path: str | None) -> None:
    """What a new run shall start from is there; asked before anything is created.

    Raises:
        UserError: what to type.
    """
    if init_from and not Path(init_from).exists():
        raise UserError(f"init_from={init_from} does not exist: type a run folder, a checkpoint folder or an artifact")
    if ckpt_path and not (Path(ckpt_path) / "meta.json").is_file():
        raise UserError(
            f"ckpt_path={ckpt_path} is not a checkpoint (no meta.json): "
            "type a folder like runs/<name>/<time>/checkpoints/step_…"
        )


def _read_weights(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} cannot be read ({error}): copy it again, or name another run or checkpoint") from error


def _load_run(folder: Path, export: str | None) -> tuple[Any, dict[str, Any], Any]:
    """(network, identity of its tokenizer as far as known, run)."""
    from golf.pipeline.run_folder import open_run_folder
    from golf.training.checkpointing import load_weights

    run = open_run_folder(folder)
    name = export or run.config["export"]
    identity: dict[str, Any] = {}
    if run.artifact(name).is_file():
        net, identity = open_artifact(run.artifact(name), run.own_targets(name))
    elif export:
        names = ", ".join(exports_of(folder)) or "(none yet)"
        raise UserError(f"{folder} has no packed export '{export}': type export= one of {names}")
    else:
        net = build(run.config["model"])
        load_weights(net, load_state(folder))
    net.config = run.config
    return net, identity, run


def exports_of(folder: Path) -> list[str]:
    """Names of the packed exports of a run."""
    return sorted(path.parent.name for path in (folder / "artifact").glob("*/model.golf"))


def _run_of(artifact: Path) -> Any:
    """The run whose folder an artifact lies in (<run>/artifact/<export>/model.golf), None outside of one."""
    from golf.pipeline.run_folder import open_run_folder

    folder = artifact.resolve().parent.parent.parent
    try:
        return open_run_folder(folder) if (folder / "config.yaml").is_file() else None
    except UserError:
        return None


def _find_tokenizer(run: Any, identity: dict[str, Any]) -> Any:
    """The tokenizer a run was trained with, if its file is still there and the same; pure bytes need no file."""
    if identity.get("kind") == PURE_BYTES and identity.get("sha256") == PureByteTokenizer().sha256:
        return PureByteTokenizer()
    pinned = run.path / "data.json" if run else None
    if pinned is None or not pinned.is_file():
        return None
    found = json.loads(pinned.read_text(encoding="utf-8"))
    try:
        return _require_same(load_tokenizer(found["tokenizer"], folder=found["folder"]), found["tokenizer"], identity)
    except UserError:
        return None


def _require_same(tokenizer: Any, path: str, identity: dict[str, Any]) -> Any:
    """The tokenizer, if it is the one the model was trained with.

    Raises:
        UserError: it is another one.
    """
    if identity.get("sha256") not in (None, tokenizer.sha256):
        raise UserError(
            f"tokenizer={path} ({tokenizer.vocab_size} ids, sha256 {tokenizer.sha256[:12]}…) is not the model's "
            f"({identity.get('vocab_size')} ids, {identity['sha256'][:12]}…): type tokenizer=<its own file>"
        )
    return tokenizer
