"""The evaluation path of a packed model: the file, opened as in scoring, under the protocol it is scored with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from golf.errors import UserError
from golf.evaluation.contiguous import Contiguous
from golf.evaluation.fingerprint import state_sha256
from golf.evaluation.protocol import Evaluator, evaluate
from golf.rules.examination import AuditedPath

if TYPE_CHECKING:
    from golf.rules.subject import Subject

AUDIT_FLOPS = 1e12  # of all tests of one network together: about a minute on one core
MOST_TOKENS, ROW_TOKENS = 400_000, 32_768  # sent through the network by all tests; by the one that tries every target
PER_TOKEN = 45  # how often the tests look at a token of a window, about
UNKNOWN_WINDOW = 128  # tokens per window of a file that does not say what it was trained with


def path_of(subject: Subject) -> AuditedPath:
    """The path of a subject's packed model.

    Raises:
        UserError: the file cannot be opened, or the data doesn't fit it.
    """
    from golf.config.build import build
    from golf.loading import open_artifact, own_targets

    artifact = subject.artifact
    if artifact is None:
        raise UserError(subject.why_no_path)
    net, _ = open_artifact(artifact, own_targets(subject.config) if subject.config else ())
    seq_len = subject.config["data"]["seq_len"] if subject.config else UNKNOWN_WINDOW
    node = dict(subject.config.get("eval") or {})
    length = affordable_length(net, node.get("seq_len") or seq_len)
    if "seq_len" in node:
        node["seq_len"] = length
    if isinstance(node.get("stride"), int):
        node["stride"] = min(node["stride"], length)
    evaluators: dict[str, Evaluator] = build(node).evaluators(length) if "_target_" in node else {}
    evaluator = list(evaluators.values())[-1] if evaluators else Contiguous(length).evaluators(length)["contiguous"]
    material = subject.material
    bos_id = material.tokenizer.bos_id if material is not None else 1
    tokens = material.val_tokens if material is not None else None
    return network_path(net.eval(), evaluator, tokens, bos_id)


def affordable_tokens(net: Any) -> int:
    """Tokens that all tests together may send through a network."""
    parameters = sum(parameter.numel() for parameter in net.parameters())
    return int(min(MOST_TOKENS, AUDIT_FLOPS / (2 * max(parameters, 1))))


def affordable_length(net: Any, seq_len: int) -> int:
    """Tokens per window in the tests: those of the protocol, halved until the tests are affordable (at least 32)."""
    length = seq_len
    while length > 32 and PER_TOKEN * length > affordable_tokens(net):
        length //= 2
    return length


def network_path(net: Any, evaluator: Any, tokens: np.ndarray | None = None, bos_id: int = 1) -> AuditedPath:
    """A network under a protocol, on the start of a stream (random tokens where none is given)."""
    length, stride = evaluator.seq_len, min(evaluator.stride, evaluator.seq_len)
    wanted = length + min(4 * stride, length) + 1
    drawn = np.random.default_rng(0).integers(0, net.vocab_size, size=wanted)
    stream = drawn if tokens is None or len(tokens) < wanted else np.asarray(tokens[:wanted]).astype(np.int64)
    exact = all(parameter.dtype == torch.float32 for parameter in net.parameters())
    per_score = sum(window.length for window in evaluator.windows(wanted))
    watched = _Watched(net, evaluator, bos_id)
    by_document = bool(getattr(evaluator, "by_document", False))
    learns = hasattr(evaluator, "method")
    plain = not hasattr(evaluator, "run") or evaluator.name == "document"
    loose = 1e-3 if exact and getattr(net, "compute_dtype", torch.float32) == torch.float32 else 0.1
    return AuditedPath(
        evaluator.name,
        watched.score,
        stream,
        net.vocab_size,
        bos_id,
        watched.distribution if plain else None,
        watched.all_targets if plain else None,
        None if learns else lambda: state_sha256([*net.named_parameters(), *net.named_buffers()]),
        tolerance=loose if by_document else 0.0,  # rows may be padded to other widths
        keeps_documents=by_document,
        lengths=(length + 1,) if wanted > length + 1 else (),
        loose=loose,
        flips=int(np.clip(affordable_tokens(net) // (8 * max(per_score, 1)), 2, 6)),
        mass_places=2 if affordable_tokens(net) == MOST_TOKENS else 1,
    )


class _Watched:
    """Scores, distributions and every possible target of a network, through the functions that score it."""

    def __init__(self, net: Any, evaluator: Any, bos_id: int):
        self.net, self.evaluator, self.bos_id = net, evaluator, bos_id

    def score(self, tokens: np.ndarray) -> Any:
        return evaluate(self.net, tokens, _NoBytes(), self.evaluator, bos_id=self.bos_id).ledger

    def window(self, tokens: np.ndarray, target: int) -> Any:
        """The window that scores a target."""
        for window in self.windows(tokens):
            if window.start + 1 + window.first_scored <= target <= window.start + window.length:
                return window
        raise UserError(f"the protocol {self.evaluator.name} does not score target {target}")

    def windows(self, tokens: np.ndarray) -> list[Any]:
        """All windows of the protocol on a stream."""
        if self.evaluator.name != "document":
            return self.evaluator.windows(len(tokens))
        from golf.evaluation.session import DocumentSpan, document_windows

        starts = np.unique(np.r_[0, np.flatnonzero(tokens[:-1] == self.bos_id)])
        spans = zip(starts, np.append(starts[1:], len(tokens) - 1))
        sizes = self.evaluator.seq_len, self.evaluator.stride
        return [w for s, e in spans for w in document_windows(DocumentSpan(int(s), int(e - s) + 1), *sizes)]

    def distribution(self, tokens: np.ndarray, target: int) -> np.ndarray:
        window = self.window(tokens, target)
        ids_BT = torch.from_numpy(tokens[window.start : window.start + window.length][None].copy())
        with torch.inference_mode():
            logits_BTV = self.net(ids_BT)
        return logits_BTV[0, target - 1 - window.start].double().log_softmax(-1).numpy()

    def all_targets(self, tokens: np.ndarray, target: int) -> np.ndarray:
        """Scores of every token at a target, from the function that scores, with as much context as is affordable."""
        vocabulary, window = self.net.vocab_size, self.window(tokens, target)
        rows = min(ROW_TOKENS, affordable_tokens(self.net) // 2)
        context = int(np.clip(rows // vocabulary, 1, target - window.start))
        ids_BT = torch.from_numpy(tokens[None, target - context : target].copy()).expand(vocabulary, context)
        targets_BT = torch.from_numpy(tokens[None, target - context + 1 : target + 1].copy()).repeat(vocabulary, 1)
        targets_BT[:, -1] = torch.arange(vocabulary)
        suffix = getattr(self.net, "nll_suffix", None)
        with torch.inference_mode():
            if suffix is not None:
                return suffix(ids_BT, targets_BT, context - 1)[:, -1].double().numpy()
            return self.net(ids_BT, targets_BT, reduction="none")[:, -1].double().numpy()


class _NoBytes:
    """Bytes do not matter where only losses are compared."""

    def count(self, previous_ids: np.ndarray, target_ids: np.ndarray) -> np.ndarray:
        return np.ones(len(target_ids), dtype=np.int64)
