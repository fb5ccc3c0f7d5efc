"""The evaluation path of a packed model: the file, opened as in scoring, under the protocol it is scored with.

A large network is tested in small: shorter windows, fewer places, fewer documents in a batch, chunks that fit the
stream, so that all tests of a 36-M-parameter network take about half a minute of CPU time. What was made smaller
stands in `AuditedPath.scale`, and rules say it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from golf.errors import UserError
from golf.evaluation.contiguous import Contiguous
from golf.evaluation.fingerprint import state_sha256
from golf.evaluation.protocol import Evaluator
from golf.rules.examination import AuditedPath
from golf.rules.upstream import opened
from golf.rules.watched import Watched

if TYPE_CHECKING:
    from golf.rules.subject import Subject

AUDIT_FLOPS = 1e12  # of all tests of one network together: about half a minute on one core
MOST_TOKENS = 400_000  # sent through a network by all tests
PER_TOKEN = 45  # how often the tests look at a token of a window, about; three times as often where it learns
LEARNING = 3
UNKNOWN_WINDOW = 128  # tokens per window of a file that does not say what it was trained with
SHORTEST_WINDOW = 32
SMALL_LEARNING = {"rank": 4, "batch_documents": 2, "batch_sequences": 2, "documents": 4}


def path_of(subject: Subject) -> AuditedPath:
    """The path of a subject's packed model.

    Raises:
        UserError: the file cannot be opened, or the data doesn't fit it.
    """
    from golf.config.build import build
    from golf.own_techniques import own_targets

    artifact = subject.artifact
    if artifact is None:
        raise UserError(subject.why_no_path)
    net = opened(artifact, own_targets(subject.config) if subject.config.get("model") else (), subject.upstream)
    seq_len = subject.config["data"]["seq_len"] if subject.config else UNKNOWN_WINDOW
    node = dict(subject.config.get("eval") or {})
    full = node.get("seq_len") or seq_len
    learns = bool((node.get("ttt") or {}).get("_target_"))
    length = affordable_length(net, full, learns)
    scale = f"windows of {length} tokens for {full}" if length < full else ""
    if "seq_len" in node:
        node["seq_len"] = length
    if isinstance(node.get("stride"), int):
        node["stride"] = min(node["stride"], length)
    if learns:
        node["ttt"], smaller = small_learning(node["ttt"], length)
        scale = ", ".join(text for text in (scale, *smaller) if text)
    evaluators: dict[str, Evaluator] = build(node).evaluators(length) if "_target_" in node else {}
    evaluator = list(evaluators.values())[-1] if evaluators else Contiguous(length).evaluators(length)["contiguous"]
    material = subject.material
    bos_id = material.tokenizer.bos_id if material is not None else 1
    tokens = material.val_tokens if material is not None else None
    return network_path(net.eval(), evaluator, tokens, bos_id, scale)


def small_learning(node: dict[str, Any], length: int) -> tuple[dict[str, Any], list[str]]:
    """A `ttt` node that learns several times within a few windows, and what it was made smaller by."""
    small = {**SMALL_LEARNING, "chunk": max(length // 2, 1), "chunk_tokens": length, "context": 0}
    found, said = dict(node), []
    for key, value in node.items():
        if isinstance(value, dict):
            found[key], inner = small_learning(value, length)
            said += inner
        elif key in small and isinstance(value, int) and value > small[key]:
            found[key] = small[key]
            said.append(f"ttt {key} {small[key]} for {value}")
    if "phases" in found:
        found["phases"] = min(found["phases"], 2)
    return found, said


def work_per_token(net: Any) -> int:
    """Multiplications of a forward pass per token, about: parameters, blocks as often as they are visited."""
    parameters = sum(parameter.numel() for parameter in net.parameters())
    blocks = sum(parameter.numel() for parameter in getattr(net, "blocks", net).parameters())
    visits = len(getattr(net, "visits", ())) or 1
    return int(parameters + blocks * (visits / max(len(getattr(net, "blocks", (1,))), 1) - 1))


def affordable_tokens(net: Any) -> int:
    """Tokens that all tests together may send through a network."""
    return int(min(MOST_TOKENS, AUDIT_FLOPS / (2 * max(work_per_token(net), 1))))


def affordable_length(net: Any, seq_len: int, learns: bool = False) -> int:
    """Tokens per window in the tests: those of the protocol, halved until the tests are affordable (at least 32)."""
    length = seq_len
    while length > SHORTEST_WINDOW and PER_TOKEN * (LEARNING if learns else 1) * length > affordable_tokens(net):
        length //= 2
    return length


def network_path(
    net: Any, evaluator: Any, tokens: np.ndarray | None = None, bos_id: int = 1, scale: str = ""
) -> AuditedPath:
    """A network under a protocol, on the start of a stream (random tokens where none is given)."""
    length, stride = evaluator.seq_len, min(evaluator.stride, evaluator.seq_len)
    by_document = bool(getattr(evaluator, "by_document", False))
    learns = hasattr(evaluator, "method")
    more = 2 if affordable_tokens(net) == MOST_TOKENS else 1  # windows that a method learns from before it scores more
    wanted = length + min(4 * stride, length) + 1 + (more * length if learns else 0)
    stream = stream_for(net.vocab_size, wanted, tokens, bos_id, by_document)
    exact = all(parameter.dtype == torch.float32 for parameter in net.parameters())
    per_score = (2 if learns else 1) * (
        len(stream) if by_document else sum(w.length for w in evaluator.windows(wanted))
    )
    watched = Watched(net, evaluator, bos_id)
    plain = not hasattr(evaluator, "run") or evaluator.name == "document"
    loose = 1e-3 if exact and getattr(net, "compute_dtype", torch.float32) == torch.float32 else 0.1
    tokens_left = affordable_tokens(net)
    return AuditedPath(
        evaluator.name,
        watched.score,
        stream,
        net.vocab_size,
        bos_id,
        watched.distribution if plain else None,
        watched.targets_at if plain else None,
        None if learns else lambda: state_sha256([*net.named_parameters(), *net.named_buffers()]),
        keeps_documents=by_document,
        lengths=(length + 1,) if wanted > length + 1 else (),
        loose=loose,
        flips=int(np.clip(tokens_left // (8 * max(per_score, 1)), 2, 4 if learns else 6)),
        mass_places=2 if tokens_left == MOST_TOKENS else 1,
        mass_tokens=0 if learns else tokens_left if tokens_left == MOST_TOKENS else tokens_left // 4,
        all_kinds=not learns or tokens_left == MOST_TOKENS,
        probe=watched.probe if learns else None,
        prediction=watched.prediction if plain else None,
        hidden=watched.hidden if plain else None,
        places=max(tokens_left // ((16 if learns else 4) * length), 1),
        watched=watched,
        window=length,
        scale=scale,
    )


def stream_for(vocab_size: int, wanted: int, tokens: np.ndarray | None, bos_id: int, by_document: bool) -> np.ndarray:
    """The start of a stream, or random tokens; by document, with document starts where it has fewer than three."""
    drawn = np.random.default_rng(0).integers(0, vocab_size, size=wanted)
    given = tokens is not None and len(tokens) >= wanted
    stream = np.array(tokens[:wanted]).astype(np.int64) if tokens is not None and given else drawn
    if by_document and (stream == bos_id).sum() < 3:
        stream[[0, wanted // 3, 2 * wanted // 3]] = bos_id
    return stream
