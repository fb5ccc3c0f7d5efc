"""Conformance of test-time training by documents: adapters alone, and with global SGD between phases.

The vectors draw the adapters' A by a rule of their own, which stands in for golf's draws.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from golf.interop.conform_result import Check, exact, max_difference
from golf.interop.conform_ttt_case import MEAN_TOLERANCE, NLL_TOLERANCE, TttCase
from golf.interop.upstream import UnsupportedNetwork

FIRST_ADAPTER = r"(\d+) adapters? were created before"


class DrawnByRule:
    """A by the vectors' rule: linear k of the listed order gets default_rng([s, base + m n + k]), as `m*n` says."""

    LISTED: Mapping[str, str] = {"lm_head_lora": "head"}

    def __init__(self, rule: str, linears: Sequence[str], created: int = 0):
        found = re.search(r"default_rng\(\[(\d+), ?(\d+)([^\]]*)\]", rule)
        if found is None:
            raise UnsupportedNetwork(f"rule for the adapters' A: {rule[:80]}")
        self.stream, self.base = int(found[1]), int(found[2])
        per_adapter = re.search(r"(?:(\d+) ?\* ?)?\bn\b", found[3])
        self.per_adapter = int(per_adapter[1] or 1) if per_adapter else 0
        self.created = created
        self.order = [self.ours(name) for name in linears]
        self.seen: set[str] = set()

    @classmethod
    def ours(cls, name: str) -> str:
        target, _, slot = name.partition(".")
        if target in cls.LISTED:
            return cls.LISTED[target]
        return f"{re.sub('_?loras?$', '', target)}.{slot}"

    def __call__(self, name: str, documents: int, rank: int, inputs: int, generator: Any) -> torch.Tensor:
        if name in self.seen:  # the first linear again: another adapter
            self.seen, self.created = set(), self.created + 1
        self.seen.add(name)
        seed = self.base + self.per_adapter * self.created + self.order.index(name)
        draws = np.random.default_rng([self.stream, seed]).random((rank, inputs), dtype=np.float32)
        start = (2.0 * draws - 1.0) / np.float32(inputs**0.5)
        return torch.from_numpy(start.astype(np.float32)).expand(documents, rank, inputs)


def targets_of(linears: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(DrawnByRule.ours(name).partition(".")[0] for name in linears))


def by_document(case: TttCase, result: Any) -> torch.Tensor:
    """Losses in the layout of the vectors: documents in stream order, which is the stream's order."""
    return torch.from_numpy(result.ledger.nats_N)


def check_lora(case: TttCase) -> list[Check]:
    from golf.ttt.lora import LoraTtt

    settings = case.settings
    seq_len = one_of(settings, "eval_seq_len", "ttt_eval_seq_len")
    batches = case.case.get("batches_in_processing_order")
    method = LoraTtt(
        targets=targets_of(case.case["lora_linears"]),
        rank=one_of(settings, "rank", "lora_rank", "ttt_lora_rank"),
        alpha=case.case.get("lora_alpha") or one_of(settings, "alpha", "ttt_lora_alpha", default=0.0),
        chunk=one_of(settings, "chunk", "chunk_size", "ttt_chunk_size"),
        context=one_of(settings, "ttt_eval_seq_len", "eval_seq_len"),
        batch_documents=one_of(settings, "batch_docs", "batch_size", "ttt_batch_size"),
        order="longest_first" if batches else "shortest_first",
        learning_rate=one_of(settings, "lr", "lora_lr", "ttt_lora_lr"),
        betas=settings.get("betas") or (settings["ttt_beta1"], settings["ttt_beta2"]),
        epsilon=one_of(settings, "adam_eps", default=1e-10),
        weight_decay=one_of(settings, "weight_decay", "ttt_weight_decay", default=0.0),
        grad_steps=one_of(settings, "grad_steps", "ttt_grad_steps", default=1),
        warm_start=bool(one_of(settings, "warm_start", "ttt_warm_start_a", default=False)),
        per_visit=bool(batches),  # scripts of April have an adapter for every visit of a looped block
    )
    method.draw = DrawnByRule(case.case["lora_A"], case.case["lora_linears"])
    order = Order()
    result = case.evaluate(method, seq_len, listener=order.listen(method))
    checks = [
        *document_checks(case, order, batches or case.case["document_processing_order"]),
        case.check("nll", max_difference(by_document(case, result), case.expected), NLL_TOLERANCE),
        case.check("mean_loss", abs(result.nats_per_token - case.case["mean_loss"]), MEAN_TOLERANCE),
    ]
    if "bpb" in case.case:
        checks.append(case.check("bpb", abs(result.bpb - case.case["bpb"]), MEAN_TOLERANCE))
    for quantity in ("mean_loss_with_lr_0", "mean_loss_without_any_training"):
        if quantity in case.case:
            method.learning_rate = 0.0
            plain = case.evaluate(method, seq_len)
            error = abs(plain.nats_per_token - case.case[quantity])
            checks.append(case.check(quantity, error, MEAN_TOLERANCE))
    return checks


def one_of(settings: Mapping[str, Any], *names: str, default: Any = None) -> Any:
    """A setting under the first of several synonyms that is there.

    Raises:
        UnsupportedNetwork: none of them is, and nothing can stand in for it.
    """
    found = next((settings[name] for name in names if name in settings), default)
    if found is None:
        raise UnsupportedNetwork(f"a case without {names[0]} among its settings ({', '.join(sorted(settings))[:80]})")
    return found


class Order:
    """Hears which documents go together, and in what order."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.documents: list[Any] = []

    def listen(self, method: Any) -> Any:
        batches = method.batches

        def heard(spans: Sequence[Any]) -> Any:
            self.batches = batches(spans)
            return self.batches

        def listener(session: Any) -> None:
            self.documents = session.documents()
            method.batches = heard

        return listener


def document_checks(case: TttCase, order: Order, expected: Sequence[Any]) -> list[Check]:
    """Spans and order of the documents."""
    index = {span: number for number, span in enumerate(order.documents)}
    batches = [[index[span] for span in batch] for batch in order.batches]
    ours: list[Any] = [number for batch in batches for number in batch]
    if expected and isinstance(expected[0], Sequence):
        ours, expected = batches, [list(documents) for _, documents in expected]
    spans = [list(span) for span in order.documents]
    return [
        exact(case.vector, case.name, "documents", spans, [list(span) for span in case.case["documents"]]),
        exact(case.vector, case.name, "document order", ours, list(expected)),
    ]


def check_phased(case: TttCase) -> list[Check]:
    """Adapters with global SGD in between: losses, score, and the network after each phase.

    Files may say how many adapters were drawn before their run; whether that shifts the rule of the draws shows only in
    the losses, so both readings are tried.
    """
    refuse_unused(case.settings)
    stated = re.search(FIRST_ADAPTER, case.case["lora_A"])
    tried = [phased_checks(case, first) for first in dict.fromkeys((0, int(stated[1]) if stated else 0))]
    return next((checks for checks in tried if all(check.status == "pass" for check in checks)), tried[0])


def phased_checks(case: TttCase, first_adapter: int) -> list[Check]:
    """`first_adapter`: number of the first adapter in the rule of the draws."""
    method = phased_method(case, first_adapter)
    order, phases = Order(), PhaseStates(method)
    hear_order = order.listen(method.lora)

    def listener(session: Any) -> None:
        hear_order(session)
        phases.listen(session)

    result = case.evaluate(method, case.settings["eval_seq_len"], listener=listener)
    checks = [
        *document_checks(case, order, case.case["batches_in_processing_order"]),
        case.check("nll", max_difference(by_document(case, result), case.expected), NLL_TOLERANCE),
        case.check("mean_loss", abs(result.nats_per_token - case.case["mean_loss"]), MEAN_TOLERANCE),
        case.check("bpb", abs(result.bpb - case.case["bpb"]), MEAN_TOLERANCE),
    ]
    expected = case.case["base_param_norms_after_each_global_phase"]
    checks.append(exact(case.vector, case.name, "phases", len(phases.states), len(expected)))
    for number, (state, norms) in enumerate(zip(phases.states, expected)):
        checks.append(case.norms(state, norms, f"norms after phase {number} (relative)"))
    return checks


def phased_method(case: TttCase, first_adapter: int) -> Any:
    """golf's method with the settings of the script."""
    from golf.ttt.lora import LoraTtt
    from golf.ttt.phased import PhasedTtt
    from golf.ttt.sgd import SgdTtt

    settings = case.settings
    lora = LoraTtt(
        targets=targets_of(case.case["lora_linears"]),
        rank=settings["ttt_lora_rank"],
        alpha=case.case["lora_alpha"],
        chunk=settings["ttt_chunk_size"],
        context=settings["ttt_eval_seq_len"],
        batch_documents=settings["ttt_batch_size"],
        order="longest_first",
        learning_rate=settings["ttt_lora_lr"],
        betas=(settings["ttt_beta1"], settings["ttt_beta2"]),
        epsilon=settings.get("ttt_adam_eps", 1e-10),
        weight_decay=settings["ttt_weight_decay"],
        grad_steps=settings.get("ttt_grad_steps", 1),
        warm_start=bool(settings.get("ttt_warm_start_a", True)),
    )
    lora.draw = DrawnByRule(case.case["lora_A"], case.case["lora_linears"], first_adapter)
    sgd = SgdTtt(
        chunk_tokens=settings["global_ttt_chunk_tokens"],
        learning_rate=settings["global_ttt_lr"],
        epochs=settings["global_ttt_epochs"],
        momentum=settings["global_ttt_momentum"],
        batch_sequences=settings["global_ttt_batch_seqs"],
        grad_clip=settings["global_ttt_grad_clip"],
        document_mask=settings["global_ttt_respect_doc_boundaries"],
    )
    return PhasedTtt(lora, sgd, settings["phased_ttt_prefix_docs"], settings["phased_ttt_num_phases"])


def refuse_unused(settings: Mapping[str, Any]) -> None:
    """Switches of the script that golf has no option for, where they are set."""
    for key, neutral in (("ttt_optimizer", "adam"), ("global_ttt_warmup_chunks", 0)):
        if settings.get(key, neutral) != neutral:
            raise UnsupportedNetwork(f"{key}={settings[key]}")
    if settings.get("val_doc_fraction", 1.0) != 1.0 or settings.get("ttt_eval_batches"):
        raise UnsupportedNetwork("scoring only some of the documents")


class PhaseStates:
    """The network after each phase."""

    def __init__(self, method: Any):
        self.method, self.states = method, []

    def listen(self, session: Any) -> None:
        learn = self.method.learn

        def learned(*arguments: Any) -> None:
            learn(*arguments)
            self.states.append({name: tensor.detach().clone() for name, tensor in session.model.state_dict().items()})

        self.method.learn = learned
