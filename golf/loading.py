"""Open what golf made: `golf.load(<run folder or artifact>)` gives a torch module with its tokenizer and config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from golf.config.build import build
from golf.errors import UserError


def load(path: str | Path, export: str | None = None) -> Any:
    """The network of a run (its packed export, or its averaged weights if nothing is packed yet) or of an artifact.

    Returns:
        a torch module in eval mode; `.tokenizer` encodes and decodes (None if its file is not found), `.config` is the
        network's config node (of a run: the run's whole config).

    Raises:
        UserError: nothing loadable there.
    """
    found = Path(path)
    if found.is_dir():
        return _load_run(found, export)
    net, identity = open_artifact(found)
    net.tokenizer = _find_tokenizer(found, identity)
    return net.eval()


def open_artifact(path: Path) -> tuple[Any, dict[str, Any]]:
    """(network with the artifact's weights, identity of its tokenizer). Nothing but golf's own models can be built."""
    from golf.codec.artifact import read_artifact

    artifact = read_artifact(path)
    net = build_network(artifact.network, str(path))
    from golf.training.checkpointing import load_weights

    load_weights(net, artifact.quantised.dequantise())
    net.config = artifact.network
    return net, artifact.tokenizer


def open_upstream(path: Path, settings: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The network of an upstream int8 .ptz; `settings`: mlp_power, logit_softcap, rope_base, compute_dtype.

    Raises:
        UserError: not such a file, or a network that golf does not build.
    """
    from golf.interop.ptz import read_ptz
    from golf.interop.upstream import upstream_model_node
    from golf.training.checkpointing import load_weights

    state = read_ptz(path).dequantise()
    scripts = {**settings, "mlp_activation": f"relu(x)**{settings['mlp_power']}"}
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    node = upstream_model_node(shapes, scripts, compute_dtype=settings["compute_dtype"])
    net = build_network(node, str(path))
    load_weights(net, state)
    net.config = node
    return net, {}


def build_network(node: dict[str, Any], where: str) -> Any:
    """Build a network from a config node of unknown origin: every target must be one of golf's models.

    Raises:
        UserError: a target outside golf.models.
    """
    for target in _targets(node):
        if not target.startswith("golf.models."):
            raise UserError(f"{where} wants to build '{target}', which is not one of golf's models: refused")
    return build(node)


def load_state(path: str | Path) -> dict[str, Any]:
    """Weights by name from a run folder, a checkpoint folder or an artifact (for init_from=)."""
    from safetensors.torch import load_file

    found = Path(path)
    for inside in ("stages/average/weights.safetensors", "weights.safetensors"):
        if (found / inside).is_file():
            return load_file(found / inside)
    if found.is_file():
        return dict(open_artifact(found)[0].state_dict())
    if found.is_dir():
        from golf.training.checkpointing import find_checkpoint

        checkpoint = find_checkpoint(found)
        if checkpoint is not None:
            return load_file(checkpoint / "weights.safetensors")
    raise UserError(f"{path} holds no weights: type a run folder, a checkpoint folder or a packed artifact")


def _load_run(folder: Path, export: str | None) -> Any:
    from golf.pipeline.run_folder import open_run_folder
    from golf.training.checkpointing import load_weights

    run = open_run_folder(folder)
    name = export or run.config["export"]
    if run.artifact(name).is_file():
        net, identity = open_artifact(run.artifact(name))
        net.tokenizer = _find_tokenizer(run.artifact(name), identity)
    elif export:
        raise UserError(
            f"{folder} has no export '{export}': type one of {', '.join(exports_of(folder)) or '(none yet)'}"
        )
    else:
        net = build(run.config["model"])
        load_weights(net, load_state(folder))
        net.tokenizer = run.data(require_train=False).tokenizer()
    net.config = run.config
    return net.eval()


def exports_of(folder: Path) -> list[str]:
    """Names of the packed exports of a run."""
    return sorted(path.parent.name for path in (folder / "artifact").glob("*/model.golf"))


def _find_tokenizer(artifact: Path, identity: dict[str, Any]) -> Any:
    """The tokenizer of an artifact inside a run folder, if its file is still there and the same."""
    from golf.pipeline.run_folder import open_run_folder

    folder = artifact.parent.parent.parent
    if not (folder / "config.yaml").is_file():
        return None
    try:
        tokenizer = open_run_folder(folder).data(require_train=False).tokenizer()
    except UserError:
        return None
    return tokenizer if tokenizer.sha256 == identity.get("sha256") else None


def _targets(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [str(node["_target_"])] if "_target_" in node else []
        return own + [target for value in node.values() for target in _targets(value)]
    if isinstance(node, list):
        return [target for value in node for target in _targets(value)]
    return []
