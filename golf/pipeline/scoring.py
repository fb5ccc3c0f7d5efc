"""Scores: raw and averaged weights in this process, packed artifacts in a fresh one that gets nothing but the file.

`python -m golf.pipeline.scoring <request.json>` is the fresh process; it writes each protocol's result as it finishes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from golf.config.build import build
from golf.errors import LimitExceeded, UserError, VerificationFailed
from golf.files import sha256_of, write_atomically

RANK_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK")  # the process is no rank
ARTIFACT_RUNGS = {"contiguous": "quantised"}  # other protocols give their own name to the rung of the packed artifact


def score_weights(run: Any, weights: dict[str, dict[str, Any]], say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Ladder entries of weights that are not packed, on the first protocol of the run's `eval` group."""
    import torch

    from golf.training.device import torch_device

    config = run.config
    plan = build(config["eval"])
    seq_len = config["data"]["seq_len"]
    first = dict(list(plan.evaluators(seq_len).items())[:1])
    if not first:
        return []
    device = torch_device(config["hardware"])
    torch.set_num_threads(config["hardware"]["threads"])
    prepared = run.data(require_train=False)
    net = build(config["model"]).to(device)
    entries = []
    for stage, state in weights.items():
        net.load_state_dict(state)
        entries += score_network(net, prepared, config["eval"], seq_len, device, say, {next(iter(first)): stage})
    return entries


def score_network(
    net: Any,
    prepared: Any,
    eval_node: dict[str, Any],
    seq_len: int,
    device: Any,
    say: Callable[[str], None],
    rungs: dict[str, str] | None = None,
    finished: Callable[[dict[str, Any]], None] = lambda entry: None,
) -> list[dict[str, Any]]:
    """Score a network on prepared validation data with the protocols of an `eval` node.

    `rungs` maps protocol to ladder stage; with it, only those run. `finished` gets each entry when it is done.
    """
    from golf.evaluation.protocol import evaluate, validation_tokens

    plan = build(eval_node)
    tokens = prepared.validation_tokens(net.vocab_size)
    tokenizer = prepared.tokenizer(net.vocab_size)
    table = tokenizer.byte_table()
    entries = []
    for name, evaluator in plan.evaluators(seq_len).items():
        if rungs is not None and name not in rungs:
            continue
        stage = rungs[name] if rungs is not None else ARTIFACT_RUNGS.get(name, name)
        part = validation_tokens(tokens, evaluator.seq_len, plan.max_tokens)
        split = len(validation_tokens(tokens, evaluator.seq_len)) - 1
        progress = _Progress(f"scoring {stage}", say)
        result = evaluate(
            net,
            part,
            table,
            evaluator,
            device,
            plan.batch_tokens,
            progress=progress,
            split_targets=split,
            bos_id=tokenizer.bos_id,
        )
        entry = {"stage": stage, **result.as_dict()}
        say(f"{stage}: {entry['bpb']:.4f} BPB ({entry['nats_per_token']:.4f} nats/token), {result.coverage}")
        entries.append(entry)
        finished(entry)
    return entries


class _Progress:
    """Says how far a long scoring is, at most every ten seconds; ends the process if nobody waits for it any more."""

    def __init__(self, what: str, say: Callable[[str], None]):
        self.what, self.say, self.begun = what, say, time.monotonic()
        self.next, self.parent = self.begun + 10.0, os.getppid()

    def __call__(self, done: int, total: int) -> None:
        if os.environ.get("GOLF_SCORING_CHILD") and os.getppid() != self.parent:
            sys.exit(1)
        now = time.monotonic()
        if now >= self.next and done < total:
            left = (now - self.begun) / done * (total - done)
            self.say(f"{self.what}: {done / total:.0%}, about {left:.0f} s left")
            self.next = now + 10.0


def score_artifact(
    artifact: Path,
    data: dict[str, Any],
    eval_node: dict[str, Any],
    hardware: dict[str, Any],
    seq_len: int,
    output: Path,
    say: Callable[[str], None],
    upstream: dict[str, Any] | None = None,
    trusted: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Score a packed file in a fresh process.

    Args:
        data: folder and tokenizer path of the validation split. upstream: what a .ptz does not say (see loading.py).
        trusted: targets outside of golf that the network may be built from.

    Raises:
        UserError, LimitExceeded, VerificationFailed: what the fresh process said.
    """
    request = output.with_name("request.json")
    body = {"artifact": str(artifact), "data": data, "eval": eval_node, "hardware": hardware, "seq_len": seq_len}
    body |= {"output": str(output), "upstream": upstream, "trusted": list(trusted), "import_path": sys.path}
    write_atomically(request, json.dumps(body, indent=1))
    code, complaint = _fresh_process([sys.executable, "-m", "golf.pipeline.scoring", str(request)], say)
    for error in (UserError, LimitExceeded):
        if code == error.exit_code:
            raise error(complaint.strip().rpartition("\n")[2].removeprefix("golf: "))
    if complaint:
        print(complaint, end="", file=sys.stderr, flush=True)
    if code:
        raise VerificationFailed(f"scoring {artifact} in a fresh process failed with exit code {code} (see above)")
    return json.loads(output.read_text(encoding="utf-8"))["ladder"]


def _fresh_process(command: list[str], say: Callable[[str], None]) -> tuple[int, str]:
    """Run a command, saying its lines as they come; its exit code and what it wrote to stderr.

    It is in a session of its own: Ctrl-C reaches this process, which then ends it, so that one line is said, not two.
    """
    environment = {k: v for k, v in os.environ.items() if k not in RANK_VARIABLES} | {"GOLF_SCORING_CHILD": "1"}
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        child = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        )
        try:
            assert child.stdout is not None
            for line in child.stdout:
                say(line.rstrip("\n"))
            code = child.wait()
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
        errors.seek(0)
        return code, errors.read()


def main(argv: list[str]) -> int:
    """The fresh process: open the artifact and score it. Lightning is never imported here."""
    import torch

    from golf.data.dataset import open_folder
    from golf.loading import open_artifact, open_upstream
    from golf.training.device import torch_device

    request = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    artifact, output = Path(request["artifact"]), Path(request["output"])
    sys.path += [folder for folder in request["import_path"] if folder not in sys.path]
    torch.set_num_threads(request["hardware"]["threads"])
    device = torch_device(request["hardware"])
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    prepared = open_folder(request["data"]["folder"], request["data"]["tokenizer"], require_train=False)
    upstream = artifact.suffix == ".ptz"
    net, identity = (
        open_upstream(artifact, request["upstream"]) if upstream else open_artifact(artifact, request["trusted"])
    )
    require_tokenizer(identity, prepared.tokenizer())
    source = sha256_of(artifact)
    entries: list[dict[str, Any]] = []

    def finished(entry: dict[str, Any]) -> None:
        entries.append({**entry, "source_sha256": source})
        write_atomically(output, json.dumps({"artifact_sha256": source, "ladder": entries}, indent=1))

    say = lambda line: print(line, flush=True)  # noqa: E731
    score_network(net.to(device), prepared, request["eval"], request["seq_len"], device, say, finished=finished)
    if not entries:
        write_atomically(output, json.dumps({"artifact_sha256": source, "ladder": []}))
    return 0


def require_tokenizer(identity: dict[str, Any], tokenizer: Any) -> None:
    """Refuse validation data that was cut with another tokenizer than the artifact's.

    Raises:
        UserError: the identities differ.
    """
    if identity.get("sha256") and identity["sha256"] != tokenizer.sha256:
        raise UserError(
            f"the artifact belongs to tokenizer {identity['sha256'][:12]}… ({identity.get('kind')}), the data to "
            f"{str(tokenizer.sha256)[:12]}…: type data_folder=<folder cut with that tokenizer>"
        )


if __name__ == "__main__":
    from golf.config.entry import guard

    sys.exit(guard(lambda: main(sys.argv[1:])))
