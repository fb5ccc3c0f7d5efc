"""What of a trained network is exported: everything but the tensors that only the training loss uses.

A network names those with `train_only_names()` (a network without that method exports all it has). They stay in
checkpoints and averages, so that training can go on from both; quantisation is where they end.
Invariant: the network that an artifact describes computes the same losses per token as the trained one.
"""

from importlib import import_module
from inspect import signature
from typing import Any

from torch import Tensor

from golf.errors import VerificationFailed

# Arguments of the network that act in training only.
TRAINING_ARGUMENTS = ("objective",)


def train_only_names(net: Any) -> list[str]:
    """Names of a network's tensors that are not exported."""
    return list(getattr(net, "train_only_names", list)())


def exported_state(net: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a state dict that are exported, in their order."""
    left_out = set(train_only_names(net))
    return {name: tensor for name, tensor in state.items() if name not in left_out}


def exported_network(network: dict[str, Any]) -> dict[str, Any]:
    """A network as plain data (its config node) without what acts in training only, and without parts it does not have.

    An entry that is None where None is what its target takes by default says nothing; None in place of another default
    stays.
    """
    kept = {name: value for name, value in network.items() if name not in TRAINING_ARGUMENTS}
    absent = nones_by_default(str(network.get("_target_", "")))
    return {
        name: exported_network(value) if isinstance(value, dict) else value
        for name, value in kept.items()
        if value is not None or name not in absent
    }


def undrawn(network: dict[str, Any]) -> dict[str, Any]:
    """A network (its config node) without initial values: what to build on the meta device, for its parts only."""
    return {**network, "initialise": None} if "initialise" in network else network


def nones_by_default(target: str) -> set[str]:
    """Parameters of a class or function, by its dotted name, that are None if they are not given."""
    module, _, name = target.rpartition(".")
    made = getattr(import_module(module), name, None) if module else None
    parameters = signature(made).parameters if callable(made) else {}
    return {key for key, parameter in parameters.items() if parameter.default is None}


def load_exported(net: Any, state: dict[str, Tensor]) -> None:
    """Exported tensors into a network that may have train-only ones besides; those stay as they are.

    Raises:
        VerificationFailed: another tensor is missing, or one is left over.
    """
    if misfits := misfitting_names(net, state):
        raise VerificationFailed(f"the artifact does not fit its network: {', '.join(misfits[:3])}; export it again")
    net.load_state_dict(state, strict=False)


def misfitting_names(net: Any, state: dict[str, Tensor]) -> list[str]:
    """Tensors of a network that are missing from what was exported, and others that it does not have."""
    wanted = net.state_dict()
    return [*sorted(wanted.keys() - state.keys() - set(train_only_names(net))), *sorted(state.keys() - wanted.keys())]
