"""The fit ladder: an export is changed, least damage first, until code and model stay below the limit by a margin.

Rungs: another codec (costs nothing), wider clips, fewer bits of the embedding, one bit less in the matrices where it
hurts least per byte, zeros for the cheapest codes. Each rung goes as far as it must: bisected on the entropy of the
codes (relative to the last file that was packed), then confirmed by packing. Where bytes are left, steps may become
finer instead (`narrowest_clip`), as long as that lowers the error of the weights.
Invariant: what is returned is an ordinary configuration; the table's bytes are those of packed files and flat code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from golf.codec.artifact import artifact_bytes
from golf.config.build import build
from golf.errors import GolfError, UserError
from golf.models.exported import exported_network
from golf.quant.prune import cheapest_code_count
from golf.quant.sensitivity import code_entropy
from golf.quant.state import QuantisedState
from golf.size.ranking import frozen, ranked, treatment_of
from golf.size.rungs import (
    Variant,
    checked_rungs,
    clip_variants,
    embedding_variants,
    mixed_variants,
    prune_variants,
)
from golf.size.sample import forecast_artifact

Config = dict[str, Any]
CODEC_SAMPLE_BYTES = 1 << 16
RUNGS = ("codec", "clip", "embedding", "mixed", "prune")
CODEC_NODES = {
    name: {"_target_": f"golf.codec.{name}_codec.{kind}"}
    for name, kind in (
        *(("zlib", "ZlibCodec"), ("lzma", "LzmaCodec"), ("zstd", "ZstdCodec"), ("brotli", "BrotliCodec")),
        *(("zpaq", "ZpaqCodec"), ("range", "RangeCodec")),
    )
} | {
    "grouped_brotli": {"_target_": "golf.codec.grouped_codec.GroupedBrotli"},
    "grouped_zpaq": {"_target_": "golf.codec.grouped_codec.GroupedZpaq"},
}


class FitLadder:
    """How an export is made to fit.

    Args:
        margin_bytes: to stay below the limit; None = no fitting.
        rungs: of `RUNGS`, in the order in which they are taken.
        score_tokens: of the training split's end, on which every rung's BPB is measured for the table; 0 = none.
        widest_clip: limit of the rung clip, a factor.
        narrowest_clip: how much finer clips and steps may get where bytes are left, a factor; 1 = as they are.
        codecs: what the rung codec tries; one whose package is missing is passed over.
    """

    def __init__(
        self,
        margin_bytes: int | None = None,
        rungs: Sequence[str] = RUNGS,
        score_tokens: int = 65_536,
        widest_clip: float = 1.5,
        codecs: Sequence[str] = ("brotli", "lzma", "range", "zpaq"),
        narrowest_clip: float = 1.0,
    ):
        if margin_bytes is not None and margin_bytes < 0:
            raise UserError(f"fit.margin_bytes={margin_bytes} must be at least 0: type fit.margin_bytes=20000")
        if score_tokens < 0:
            raise UserError(f"fit.score_tokens={score_tokens} must be at least 0: type fit.score_tokens=65536")
        if not 1.0 <= widest_clip <= 4.0:
            raise UserError(f"fit.widest_clip={widest_clip} must be 1 to 4: type fit.widest_clip=1.5")
        if not 0.1 <= narrowest_clip <= 1.0:
            raise UserError(f"fit.narrowest_clip={narrowest_clip} must be 0.1 to 1: type fit.narrowest_clip=0.6")
        for name in codecs:
            if name not in CODEC_NODES:
                raise UserError(f"fit.codecs: '{name}' is not known: use some of {', '.join(CODEC_NODES)}")
        self.margin_bytes, self.score_tokens, self.widest_clip = margin_bytes, score_tokens, widest_clip
        self.rungs, self.codecs = checked_rungs(rungs, RUNGS), list(codecs)
        self.narrowest_clip = narrowest_clip


@dataclass(frozen=True)
class Fitted:
    """The configuration that was reached, whether it fits, and the table of rungs."""

    quant: Config
    codec: Config
    fits: bool
    rows: list[Config]


class Fitting:
    """One climb of the ladder.

    Args:
        config: the export's. weights: what is exported, by name; hessians: of its matrices, where there are any.
        code_bytes: config -> bytes of the code that goes with it. target: bytes that code and model may have.
        score: quantised state -> BPB, None = not scored.
    """

    def __init__(
        self,
        ladder: FitLadder,
        config: Config,
        weights: dict[str, Tensor],
        roles: dict[str, str],
        hessians: dict[str, Tensor],
        tokenizer: Config,
        code_bytes: Callable[[Config], int],
        target: int,
        say: Callable[[str], None],
        score: Callable[[QuantisedState], float | None] | None = None,
    ):
        self.ladder, self.config, self.weights, self.roles = ladder, dict(config), weights, roles
        self.hessians, self.tokenizer, self.code_bytes = hessians, tokenizer, code_bytes
        self.target, self.say, self.score = target, say, score
        self.rows: list[Config] = []

    def climb(self) -> Fitted:
        """Take rungs until it fits, or all of them."""
        state = self.quantised(self.config["quant"])
        self.note("as asked", "", state, self.packed(state))
        if self.rows[-1]["total_bytes"] > self.target:
            self.config["quant"] = frozen(self.config["quant"], self.weights, self.roles, self.hessians)
        for rung in self.ladder.rungs:
            if self.rows[-1]["total_bytes"] <= self.target:
                break
            if rung == "codec":
                self.take_codec()
            else:
                self.take(rung, self.variants(rung))
        fits = self.rows[-1]["total_bytes"] <= self.target
        if fits and self.ladder.narrowest_clip < 1.0:
            self.take_finer()
        return Fitted(self.config["quant"], self.config["codec"], fits, self.rows)

    # -- measuring -----------------------------------------------------------------------------------------------------
    def quantised(self, quant: Config) -> QuantisedState:
        with torch.no_grad():
            return build(quant).quantise(self.weights, self.roles, self.hessians)

    def coded_bytes(self, quant: Config) -> float:
        """What a configuration's codes need at order 0, its other parts as they are; rounded without Hessians."""
        with torch.no_grad():
            state = build(quant).quantise(self.weights, self.roles)
        parts = [part for stored in state.tensors.values() for part in stored.parts().values()]
        return sum(
            part.numel() * (code_entropy(part) / 8 if part.dtype == torch.int8 else part.itemsize) for part in parts
        )

    def packed(self, state: QuantisedState) -> dict[str, int]:
        """Bytes of model and code by class, by packing."""
        network, codec = exported_network(self.config["model"]), build(self.config["codec"])
        sizes = artifact_bytes(state, network, self.tokenizer, codec)[1]
        code = self.code_bytes(self.config)
        return {**sizes, "code": code} if code else sizes

    def note(self, rung: str, change: str, state: QuantisedState, sizes: dict[str, int]) -> None:
        """Write the present configuration into the table."""
        row: Config = {"rung": rung, "change": change, "total_bytes": sum(sizes.values())}
        row |= {"relative_mse": self.error(state), "bytes_by_class": sizes}
        if self.score is not None:
            row["bpb"] = self.score(state)
            first = self.rows[0]["bpb"] if self.rows else row["bpb"]
            row["delta_bpb"] = None if row["bpb"] is None or first is None else row["bpb"] - first
        self.rows.append(row)
        self.state = state
        self.say(f"fit: {rung}{': ' if change else ''}{change}: {row['total_bytes']:,} bytes, {self.target:,} wanted")

    def error(self, state: QuantisedState) -> float:
        """Squared error over all weights, as a share of their squares."""
        wrong = whole = 0.0
        for name, stored in state.tensors.items():
            weight = self.weights[name].double()
            wrong += float((weight - stored.dequantise().double()).square().sum())
            whole += float(weight.square().sum())
        return wrong / whole if whole else 0.0

    # -- rungs ---------------------------------------------------------------------------------------------------------
    def variants(self, rung: str) -> list[Variant]:
        quant = self.config["quant"]
        if rung == "clip":
            return clip_variants(quant, self.ladder.widest_clip)
        if rung == "embedding":
            return embedding_variants(quant)
        if rung == "mixed":
            order = ranked(quant, self.state, self.weights, self.roles, self.hessians)
            return mixed_variants(quant, order, lambda name: treatment_of(quant, name, self.roles[name]))
        codes = {n: stored for n, stored in self.state.tensors.items() if self.roles[n] not in ("gate", "scalar")}
        return prune_variants(quant, cheapest_code_count(codes))

    def take(self, rung: str, variants: list[Variant]) -> None:
        """The least damage of a rung that fits, else all of it if that is smaller at all."""
        if not variants:
            self.say(f"fit: {rung}: nothing here that it could change")
            return
        before, earlier = self.config["quant"], self.rows[-1]["total_bytes"]
        coded, known = self.coded_bytes(before), {}

        def estimate(index: int) -> float:
            if index not in known:
                known[index] = earlier + self.coded_bytes(variants[index].quant) - coded
            return known[index]

        allowance, low = 0.0, 0
        while True:
            index = first_within(estimate, low, len(variants) - 1, self.target - allowance)
            self.config["quant"] = variants[index].quant
            state = self.quantised(variants[index].quant)
            sizes = self.packed(state)
            total = sum(sizes.values())
            if total <= self.target or index == len(variants) - 1:
                break
            allowance, low = total - estimate(index), index + 1  # what the estimate was too low by
        if total >= earlier:
            self.config["quant"] = before
            self.say(f"fit: {rung}: {variants[index].change} would not be smaller; left as it was")
            return
        self.note(rung, variants[index].change, state, sizes)

    def take_finer(self) -> None:
        """Spend the bytes that are left on finer steps: the finest that fit and lower the error."""
        before, earlier = self.config["quant"], self.rows[-1]["relative_mse"]
        finest_first = clip_variants(before, self.ladder.narrowest_clip)[::-1]
        present, coded = self.rows[-1]["total_bytes"], self.coded_bytes(before)
        low = allowance = 0
        while low < len(finest_first):
            index = first_within(
                lambda index: present + self.coded_bytes(finest_first[index].quant) - coded,
                low,
                len(finest_first) - 1,
                self.target - allowance,
            )
            self.config["quant"] = finest_first[index].quant
            state = self.quantised(self.config["quant"])
            sizes = self.packed(state)
            if sum(sizes.values()) <= self.target and self.error(state) < earlier:
                self.note("finer", finest_first[index].change, state, sizes)
                return
            allowance, low = max(allowance, sum(sizes.values()) - self.target), index + 1
        self.config["quant"] = before
        self.say("fit: finer: no finer step fits and lowers the error")

    def take_codec(self) -> None:
        """The codec with the fewest bytes for the state as it is."""
        network, model_bytes = exported_network(self.config["model"]), {}
        for name, node in {
            "": self.config["codec"],
            **{name: CODEC_NODES[name] for name in self.ladder.codecs},
        }.items():
            try:
                found = forecast_artifact(self.state, network, self.tokenizer, build(node), CODEC_SAMPLE_BYTES)
                model_bytes[name] = found.total
            except GolfError as error:
                self.say(f"fit: codec: {error}")
        best = min(model_bytes, key=model_bytes.__getitem__)
        before, earlier = self.config["codec"], self.rows[-1]["total_bytes"]
        if best and CODEC_NODES[best]["_target_"] != before["_target_"]:
            self.config["codec"] = CODEC_NODES[best]
            sizes = self.packed(self.state)
            if sum(sizes.values()) < earlier:
                self.note("codec", best, self.state, sizes)
                return
            self.config["codec"] = before
        self.say("fit: codec: none of those tried is smaller")


def first_within(size: Callable[[int], float], low: int, high: int, limit: float) -> int:
    """The first index from `low` to `high` whose size is at most `limit` (sizes fall), `high` if there is none."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if size(middle) <= limit else (middle + 1, high)
    return high
