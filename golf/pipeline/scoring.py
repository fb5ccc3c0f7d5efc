"""Scores: raw and averaged weights in this process, packed artifacts in a fresh one that gets nothing but the file.

`python -m golf.pipeline.scoring <request.json> <number>` is the fresh process, or one of several; it writes each
protocol's result as it finishes. Several (hardware.devices) share test-time training by document through a queue of
files, so that the death of one costs nothing but what it was at.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from golf.config.build import build
from golf.errors import LimitExceeded, UserError, VerificationFailed
from golf.files import sha256_of, write_atomically
from golf.pipeline.fresh_process import ScoringProgress, run_together

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
    compiled, tables = config["hardware"]["compile"], run.path / "stages" / "average" / "scores"
    entries = []
    for stage, state in weights.items():
        net.load_state_dict(state)
        rungs = {next(iter(first)): stage}
        entries += score_network(
            net, prepared, config["eval"], seq_len, device, say, rungs, compiled=compiled, tables=tables
        )
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
    compiled: bool = False,
    tables: Path | None = None,
    workers: tuple[Path, int, int] | None = None,
) -> list[dict[str, Any]]:
    """Score a network on prepared validation data with the protocols of an `eval` node.

    `rungs` maps protocol to ladder stage; with it, only those run, and without a limit: weights that are not packed are
    no part of the evaluation that has one. `finished` gets each entry when it is done. `workers`: a folder, which of
    several processes this is, and of how many; test-time training by document is shared between them (`WorkQueue`).
    `tables`: folder in which <stage>.json says where the bits went (`Breakdown`). `compiled`: compile what is worth it.
    """
    from golf.data.shards import shard_length
    from golf.evaluation.breakdown import Breakdown
    from golf.evaluation.ledger import LedgerError
    from golf.evaluation.phases import EvaluationClock
    from golf.evaluation.protocol import clock_for, evaluate
    from golf.evaluation.split import require_network, split_part
    from golf.pipeline.validation_split import require_split_of_manifest, require_split_of_tokenizer

    plan = build(eval_node)
    require_split_of_manifest(prepared)
    shards = [(Path(path).name, shard_length(path)) for path in prepared.val_paths]
    tokens = prepared.validation_tokens(net.vocab_size)
    tokenizer = prepared.tokenizer(net.vocab_size)
    require_split_of_tokenizer(prepared, tokenizer)
    table = prepared.byte_counter(net.vocab_size)
    entries = []
    wanted = {k: v for k, v in plan.evaluators(seq_len).items() if rungs is None or k in rungs}
    for evaluator in wanted.values():  # what the last rung refuses is said before the first is scored
        split_part(tokens, evaluator, plan, tokenizer.bos_id)
        require_network(evaluator, net)
    for name, evaluator, queue in dealt_rungs(wanted, workers):
        stage = rungs[name] if rungs is not None else ARTIFACT_RUNGS.get(name, name)
        part = split_part(tokens, evaluator, plan, tokenizer.bos_id)
        breakdown = Breakdown(part.tokens, table, evaluator.seq_len, tokenizer.bos_id, shards)
        clock = clock_for(evaluator, device) if rungs is None else EvaluationClock()
        progress = ScoringProgress(f"scoring {stage}", say, clock)
        try:
            result = evaluate(
                net,
                part.tokens,
                table,
                evaluator,
                device,
                plan.batch_tokens,
                progress=progress,
                split_targets=part.split_targets,
                bos_id=tokenizer.bos_id,
                compiled=compiled,
                breakdown=breakdown,
                clock=clock,
                queue=queue,
            )
        except LedgerError as error:
            raise LedgerError(f"{stage} has no score: {error}{why_no_loss(net)}") from error
        entry = {"stage": stage, **result.as_dict()}
        left_over = len(tokens) - 1 - part.split_targets  # behind the last whole window
        entry["coverage"]["left_over"] = left_over
        note = f"; {left_over:,} more do not fill a window" if left_over else ""
        note += f"; {evaluator.as_published}" if getattr(evaluator, "as_published", "") else ""
        say(f"{stage}: {entry['bpb']:.4f} BPB ({entry['nats_per_token']:.4f} nats/token), {result.coverage}{note}")
        if result.record["compile_error"]:
            say(f"{stage}: scored without compiling, which failed ({result.record['compile_error']})")
        if queue is not None and queue.taken_over:
            say(f"{stage}: {queue.taken_over} batches of documents of a process that died were scored again")
        if result.record["learning_ended_at"] is not None:
            say(f"{stage}: no time to learn after {result.record['learning_ended_at']:,} targets (eval.over_limit)")
        if tables is not None:
            tables.mkdir(parents=True, exist_ok=True)
            by = {"stage": stage, "protocol": entry["protocol"], "bpb": entry["bpb"], **breakdown.as_dict()}
            write_atomically(tables / f"{stage}.json", json.dumps(by))
        entries.append(entry)
        finished(entry)
    return entries


def why_no_loss(net: Any) -> str:
    """What to do about losses that are no numbers, where the weights say it."""
    broken = next((name for name, weight in net.named_parameters() if not weight.isfinite().all()), None)
    if broken is None:
        return ""
    return f"; the weight {broken} is not finite: the training diverged, type a lower rate, e.g. optim.matrix_lr=0.02"


def dealt_rungs(evaluators: dict[str, Any], workers: tuple[Path, int, int] | None) -> Iterator[tuple[str, Any, Any]]:
    """The protocols that this process scores, and the queue of those that all score together.

    With several processes the ones that cannot be shared come first, each in the hands of one process, and all wait for
    them, so that they begin the shared ones at the same time.
    """
    from golf.evaluation.queue import WorkQueue

    if workers is None:
        yield from ((name, evaluator, None) for name, evaluator in evaluators.items())
        return
    alone = [name for name, evaluator in evaluators.items() if not shares_documents(evaluator)]
    rungs = WorkQueue(workers[0] / "rungs", *workers[1:])
    for index in rungs.claims(alone, lambda: None):
        yield alone[index], evaluators[alone[index]], None
        rungs.finish(alone[index])
    for name, evaluator in evaluators.items():
        if name not in alone:
            yield name, evaluator, WorkQueue(workers[0] / name, *workers[1:])


def shares_documents(evaluator: Any) -> bool:
    """Whether several processes can share the work of a protocol: test-time training by document."""
    return bool(getattr(evaluator, "method", None) is not None and evaluator.by_document)


def with_clock(node: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """An `eval` node whose limit is left open (null) gets that of the run's budget: one source for the clock."""
    if node.get("limit_seconds", 0.0) is not None:
        return node
    return {**node, "limit_seconds": (config.get("budget") or {}).get("evaluation_seconds")}


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
    body |= {
        "output": str(output),
        "tables": str(output.with_name("scores")),
        "upstream": upstream,
        "trusted": list(trusted),
        "import_path": sys.path,
    }
    evaluators = build(eval_node).evaluators(seq_len)
    workers = hardware["devices"] if any(map(shares_documents, evaluators.values())) else 1
    for worker in range(workers if workers > 1 else 0):
        output_of(output, worker).unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        write_atomically(request, json.dumps(body | {"queue": folder, "workers": workers}, indent=1))
        command = [sys.executable, "-m", "golf.pipeline.scoring", str(request)]
        ended = run_together([[*command, str(worker)] for worker in range(workers)], say)
        alive = next((worker for worker, (code, _) in enumerate(ended) if code == 0), None)
    for worker, (code, complaint) in enumerate(ended):
        for error in (UserError, LimitExceeded):
            if alive is None and code == error.exit_code:
                raise error(complaint.strip().rpartition("\n")[2].removeprefix("golf: "))
        if complaint:
            print(complaint, end="", file=sys.stderr, flush=True)
        if code and alive is not None:
            say(f"scoring process {worker} of {workers} ended with exit code {code}; the others took over its work")
    if alive is None:
        raise VerificationFailed(
            f"scoring {artifact} in a fresh process failed with exit code {ended[0][0]} (see above)"
        )
    if workers > 1:
        merge_scores(output, workers, [str(ARTIFACT_RUNGS.get(name, name)) for name in evaluators])
    return json.loads(output.read_text(encoding="utf-8"))["ladder"]


def output_of(output: Path, worker: int) -> Path:
    """Where a process writes its scores: the first to the place itself."""
    return output.with_suffix(f".{worker}{output.suffix}") if worker else output


def merge_scores(output: Path, workers: int, stages: Sequence[str]) -> None:
    """Put the rungs that several processes scored into `output`, in order, each once.

    Raises:
        VerificationFailed: one is missing.
    """
    places = [place for worker in range(workers) if (place := output_of(output, worker)).is_file()]
    parts = [json.loads(place.read_text(encoding="utf-8")) for place in places]
    rungs = {entry["stage"]: entry for part in parts for entry in part["ladder"]}
    missing = [stage for stage in stages if stage not in rungs]
    if missing:
        raise VerificationFailed(f"no process scored {', '.join(missing)}: type the same command again")
    write_atomically(output, json.dumps({**parts[0], "ladder": [rungs[stage] for stage in stages]}, indent=1))
    for place in places:
        if place != output:
            place.unlink()


def main(argv: list[str]) -> int:
    """The fresh process: open the artifact and score it. Lightning is never imported here."""
    import torch

    from golf.data.dataset import open_folder
    from golf.loading import open_artifact, open_upstream
    from golf.training.device import torch_device

    request = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    worker = int(argv[1])
    artifact, output = Path(request["artifact"]), output_of(Path(request["output"]), worker)
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
    score_network(
        net.to(device),
        prepared,
        request["eval"],
        request["seq_len"],
        device,
        say,
        finished=finished,
        compiled=request["hardware"]["compile"],
        tables=Path(request["tables"]),
        workers=(Path(request["queue"]), worker, request["workers"]) if request["workers"] > 1 else None,
    )
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
