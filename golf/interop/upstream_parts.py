"""The parts of a network of the public scripts, as nodes of golf's config: each from shapes, settings and structure.

What shows in the tensors is read from them; a part whose form cannot be told makes the network unsupported.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from golf.interop.upstream_names import Piece, width_of
from golf.interop.upstream_settings import UnsupportedNetwork, setting, whole_numbers, words_of


class Network(NamedTuple):
    """What is known of one network. shapes, ours: their names and shapes, and ours; layers: those with matrices."""

    shapes: Mapping[str, Sequence[int]]
    ours: Mapping[str, tuple[int, ...]]
    settings: Mapping[str, Any]
    structure: Mapping[str, Any]
    width: int
    layers: int
    blocks: int
    heads: int

    @property
    def banked(self) -> bool:
        return any(name.endswith("_bank") for name in self.shapes)

    @property
    def head_width(self) -> int:
        return self.width // self.heads


def partial_node(target: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": f"golf.models.{target}", "_partial_": True, **arguments}


def network_of(
    shapes: Mapping[str, Sequence[int]],
    pieces: Sequence[Piece],
    settings: Mapping[str, Any],
    structure: Mapping[str, Any],
) -> Network:
    """Sizes from the tensors."""
    ours = {piece.ours: tuple(shapes[piece.theirs])[0 if piece.theirs_row is None else 1 :] for piece in pieces}
    blocks = {int(name.split(".")[1]) for name in ours if name.startswith("blocks.")}
    layers = {int(name.split(".")[1]) for name in ours if re.match(r"blocks\.\d+\.mlp\.proj\.weight$", name)}
    for found in (blocks, layers):
        if not found or found != set(range(len(found))):
            raise UnsupportedNetwork(f"blocks {sorted(found)} are not numbered from 0 on")
    gains = ours.get("blocks.0.attn.q_gain")
    if gains is None:
        raise UnsupportedNetwork("no blocks.0.attn.q_gain to tell the number of heads from")
    return Network(shapes, ours, settings, structure, width_of(shapes), len(layers), len(blocks), int(gains[0]))


def kv_heads_of(net: Network) -> int:
    fused = net.ours.get("blocks.0.attn.c_qkv.weight")
    rows = (fused[0] - net.width) // 2 if fused else net.ours["blocks.0.attn.c_k.weight"][0]
    return int(rows) // net.head_width


def mlp_node(net: Network) -> dict[str, Any]:
    """Activation of the MLP: described; else by its slope, or by the family (leaky from banks and gated skips on)."""
    described = net.structure.get("mlp_activation", net.settings.get("mlp_activation", net.settings.get("activation")))
    slope = setting(net.settings, "slope")
    if "blocks.0.mlp.gate.weight" in net.ours:
        return partial_node("mlp.swiglu.SwiGlu")
    if isinstance(described, Mapping):
        return described_mlp(described, slope)
    if described is not None:
        return written_mlp(str(described), slope)
    if slope is None:
        slope = 0.5 if net.banked or "skips.gates" in net.ours else 0.0
    return leaky_mlp(2, slope)


def leaky_mlp(power: int, slope: float) -> dict[str, Any]:
    if slope:
        return partial_node("mlp.leaky_relu_power.LeakyReluPower", power=power, slope=float(slope))
    return partial_node("mlp.relu_power.ReluPower", power=power)


def described_mlp(activation: Mapping[str, Any], slope: Any) -> dict[str, Any]:
    kind = str(activation.get("kind", "relu_squared"))
    given = activation.get("negative_slope", activation.get("slope", slope))
    power = float(activation.get("power", 2))
    if kind in ("relu_squared", "relu2", "relu_power") and power.is_integer():
        return leaky_mlp(int(power), 0.0)
    if kind in ("leaky_relu_squared", "leaky_relu2", "leaky_relu_power") and power.is_integer():
        return leaky_mlp(int(power), 0.5 if given is None else given)
    if kind == "gelu":
        return partial_node("mlp.gelu.Gelu")
    raise UnsupportedNetwork(f"MLP activation {kind}")


def written_mlp(text: str, slope: Any) -> dict[str, Any]:
    """relu(x)**3, leaky_relu(x, 0.5)^2, relu2, leaky_relu_squared …"""
    plain = text.strip().lower()
    leaky = plain.startswith("leaky")
    power = re.search(r"\)\s*(?:\*\*|\^)\s*(\d+)|(?:_squared|\^2|2)\b", plain)
    number = re.search(r"(?:,|\()\s*(?:negative_)?(?:slope\s*=\s*)?(0?\.\d+)\s*\)", plain)
    if not re.match(r"(leaky_?)?relu", plain) or power is None:
        raise UnsupportedNetwork(f"MLP activation {text[:60]}")
    given = number[1] if number else 0.5 if slope is None else slope
    return leaky_mlp(int(power[1] or 2), float(given) if leaky else 0.0)


def rope_node(net: Network) -> dict[str, Any]:
    """Rotary positions; the spec's own frequencies, where it lists them, must be reproduced."""
    rotary = net.structure.get("rotary", {})
    dims = int(rotary.get("rope_dims") or net.settings.get("rope_dims") or net.head_width)
    base = float(rotary.get("base") or net.settings.get("rope_base") or 10000.0)
    wanted = rotary.get("inv_freq")
    shared = {"base": base, "dims": None if dims == net.head_width else dims}
    yarn = net.settings.get("rope_type") == "yarn" or bool(net.settings.get("rope_yarn"))
    if not yarn and (wanted is None or same_frequencies(frequencies(base, dims), wanted)):
        reference = rotary.get("train_seq_len") if "rotary" in net.structure else reference_length(net)
        if net.settings.get("rope_yarn") is False:
            reference = None  # scripts with the switch do not rescale where it is off
        return partial_node("rope.Rope", **shared, reference_length=reference)
    if wanted is None and net.settings.get("rope_yarn"):
        raise UnsupportedNetwork("YaRN of the April scripts (rope_yarn), whose frequencies are not recorded")
    target = int(rotary.get("yarn_max_len") or net.settings.get("yarn_max_len") or 2048)
    for length in (net.settings.get("train_seq_len"), rotary.get("train_seq_len"), 1024):
        if length and (wanted is None or same_frequencies(frequencies(base, dims, target / length), wanted)):
            return partial_node("rope.YarnRope", **shared, train_length=int(length), target_length=target)
    first = [round(f, 6) for f in wanted[:4]]  # type: ignore[index]
    raise UnsupportedNetwork(f"rotary frequencies {first}… (base {base}, {dims} dimensions)")


def frequencies(base: float, dims: int, slowdown: float = 1.0) -> list[float]:
    """As golf.models.rope computes them, plain or with YaRN's slowdown."""
    shares = [index / dims for index in range(0, dims, 2)]
    ramps = [min(max((share - 0.25) / 0.75, 0.0), 1.0) for share in shares]
    return [base**-share / (1.0 + ramp * (slowdown - 1.0)) for share, ramp in zip(shares, ramps)]


def same_frequencies(ours: Sequence[float], theirs: Sequence[float]) -> bool:
    return len(ours) == len(theirs) and all(math.isclose(a, b, rel_tol=1e-5) for a, b in zip(ours, theirs))


def reference_length(net: Network) -> int | None:
    """Where no structure says: rope_train_seq_len; 1024 in the March scripts with rope_dims, 2048 in those of April."""
    given = net.settings.get("rope_train_seq_len")
    if given is None and net.settings.get("rope_dims"):
        given = 2048 if "skips.gates" in net.ours and "bigram.embed.weight" not in net.ours else 1024
    return None if given is None else int(given)


def xsa_node(net: Network) -> dict[str, Any] | None:
    """The last n blocks; a list of layers must be such a tail."""
    listed, last = net.structure.get("xsa_layers"), int(net.settings.get("xsa_last_n") or 0)
    if listed is not None:
        last = len(listed)
        if list(listed) != list(range(net.blocks - last, net.blocks)):
            raise UnsupportedNetwork(f"exclusive self-attention (XSA) in layers {listed} of {net.blocks}")
    if not last:
        return None
    target = "attention.xsa.ExclusiveSelfAttention"
    return partial_node(target, last_n=None if last >= net.blocks else last, count="block") | {"_partial_": False}


def gate_node(net: Network) -> dict[str, Any] | None:
    """Output gates: 2 sigmoid (attn_gate_proj), dense (all channels), sparse (a few, with a scale)."""
    shape = net.ours.get("blocks.0.attn.gate.weight")
    if shape is None:
        return None
    if any(name.endswith("attn_gate_proj.weight") for name in net.shapes):
        if net.settings.get("attn_out_gate_src", "proj") != "proj":
            raise UnsupportedNetwork(f"gate read from {net.settings['attn_out_gate_src']}")
        return partial_node("gate.output_gate.HeadGate", inputs=int(shape[1]), factor=2.0)
    sparse = net.settings.get("sparse_attn_gate_enabled")
    if sparse or (sparse is None and shape[1] < net.width):
        scale = float(net.settings.get("sparse_attn_gate_scale", 1.0))
        return partial_node("gate.output_gate.HeadGate", inputs=int(shape[1]), scale=scale)
    return partial_node("gate.output_gate.HeadGate", inputs=int(shape[1]))


def bigram_node(net: Network) -> dict[str, Any] | None:
    """Hash of variant B with a learned scale, of variant A without."""
    shape = net.ours.get("bigram.embed.weight")
    if shape is None:
        return None
    kind = "hashed.BigramHash" if "bigram.scale" in net.ours else "added.AddedBigram"
    return partial_node(f"bigram.{kind}", buckets=int(shape[0]), columns=int(shape[1]))


def smear_node(net: Network) -> dict[str, Any] | None:
    """Per channel: A in the family of the added bigram, else B. From the input: masked as the structure says."""
    described = net.structure.get("smear")
    masked = bool(described.get("bos_mask")) if isinstance(described, Mapping) else False
    if "smear.gate" in net.ours:
        words = words_of(described or {})
        early = "bigram.embed.weight" in net.ours and "bigram.scale" not in net.ours
        early = early or "before" in words or '"a"' in words
        return partial_node(f"smear.channel.{'Early' if early else ''}SmearGate", mask_document_start=masked)
    if "smear.weight" not in net.ours:
        return None
    if not net.structure:
        raise UnsupportedNetwork("smear gate: whether it is masked at document starts is not said")
    inputs = int(net.ours["smear.weight"][1])
    return partial_node("smear.input_gate.InputSmearGate", inputs=inputs, mask_document_start=masked)


def values_node(net: Network) -> dict[str, Any] | None:
    """Shared value embedding, or value residual; golf has place for one."""
    embedding, residual = net.ours.get("values.embed.weight"), "values.weights" in net.ours
    if embedding is not None and residual:
        raise UnsupportedNetwork("value embedding and value residual in one network")
    if embedding is not None:
        blocks = whole_numbers(setting(net.settings, "value_blocks"))
        scales = sum(name.startswith("values.block_scales.") for name in net.ours)
        if len(blocks) != scales:
            raise UnsupportedNetwork(f"value embedding with {scales} scales for ve_layers={blocks}")
        return partial_node("values.embedding.ValueEmbedding", columns=int(embedding[1]), blocks=blocks)
    if not residual:
        return None
    mixed = net.ours["values.weights"] == (2,)
    form = "mixed" if mixed else "gated"
    return partial_node("values.residual.ValueResidual", form=form, num_blocks=net.blocks)
