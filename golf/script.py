"""The main program of an exported single file: train, average, quantise, pack, read the artifact back and score it.

The exported `train_gpt.py` is the core modules a run uses, its configuration as a `Program`, and this main. Order and
effects are those of the training run (seed, build, warm up and restore, loop), so that with the same data the losses
are the same; `--eval-only` scores an artifact with nothing but this file, the tokenizer and the validation shards.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from golf.clock import Budget, BudgetClock
from golf.codec.artifact import artifact_file, packed_file, read_stored
from golf.codec.files import read_whole_file
from golf.codec.protocol import Codec
from golf.data.shards import Shards, train_shards, validation_shards
from golf.data.sidecar import byte_counter
from golf.data.stream import TokenStream
from golf.data.tokenizer import find_tokenizer
from golf.data.tokenizer_kinds import Tokenizer
from golf.errors import GolfError, UserError
from golf.evaluation.phases import EvaluationClock
from golf.evaluation.plain import is_plain, score_plainly
from golf.evaluation.protocol import EvaluationPlan, describe_evaluator, evaluate
from golf.evaluation.split import split_part
from golf.loop import deterministic_on_cpu, seed_everything, settling_steps, train, warm_up
from golf.models.exported import exported_state, load_exported
from golf.models.roles import roles_of
from golf.optim.averaging import Ema
from golf.optim.composite import Composite
from golf.optim.schedules import Schedules
from golf.quant.calibration_ledger import CalibrationLedger
from golf.quant.plan import QuantPlan

FIRST_STEPS_PRINTED = 10


@dataclass(frozen=True)
class Program:
    """Everything an exported run is made of. `network` is the exported model as plain data: the artifact's header.

    `tokenizer_beside`: the tokenizer's file, from the data folder; "" = found as `tokenizer` says. `own_start` is false
    where the run began from other weights, which a file of source code cannot repeat.
    """

    seed: int
    model: Callable[[], nn.Module]
    network: dict[str, Any]
    optimizer: Callable[..., Composite]
    schedules: Schedules
    budget: Budget
    stream: partial[TokenStream]
    open_tokenizer: Callable[[str], Tokenizer]
    quant: QuantPlan
    codec: Codec
    evaluation: EvaluationPlan
    average: Ema | None = None
    qat: Any = None
    sparsity: Any = None
    data_folder: str = "data"
    tokenizer: str = "auto"
    tokenizer_beside: str = ""
    tokenizer_sha256: str = ""
    accelerator: str = "cpu"
    compile: bool = False
    threads: int = 1
    warm_up_steps: int = 0
    log_every_steps: int = 10
    validate_every_steps: int = 0
    own_start: bool = True


class StepsDone(Exception):
    """`--steps` is reached."""


class ProgramRun:
    """One execution of a program on one rank: device, data and what it printed."""

    def __init__(self, program: Program, options: argparse.Namespace):
        self.program, self.options = program, options
        self.rank, self.world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        self.device = self._open_device()
        folder = options.data or os.environ.get("DATA_PATH") or program.data_folder
        if not Path(folder).is_dir():
            raise UserError(f"{folder} is not here; type --data <folder with fineweb_*.bin and their tokenizer>")
        self.folder = folder
        self.val_paths = validation_shards(folder)
        tokenizer = options.tokenizer or os.environ.get("TOKENIZER_PATH") or self._own_tokenizer()
        self.tokenizer: Tokenizer = program.open_tokenizer(tokenizer)
        if program.tokenizer_sha256 and program.tokenizer_sha256 != self.tokenizer.sha256:
            raise UserError(
                f"{folder} has another tokenizer ({self.tokenizer.sha256[:12]}…) than the run "
                f"({program.tokenizer_sha256[:12]}…); type --data or --tokenizer"
            )
        self.results: dict[str, Any] = {"steps": [], "scores": []}
        self.train_seconds = 0.0

    def _own_tokenizer(self) -> str:
        program = self.program
        if program.tokenizer_beside:
            return str(Path(self.folder, program.tokenizer_beside))
        return find_tokenizer(self.folder) if program.tokenizer == "auto" else program.tokenizer

    def _open_device(self) -> torch.device:
        torch.set_num_threads(self.program.threads)
        if self.program.accelerator != "cuda":
            device = torch.device(self.program.accelerator)
            deterministic_on_cpu(device)
        else:
            if not torch.cuda.is_available():
                raise UserError("this run was made on a GPU, and there is none here; run it on a machine with CUDA")
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
            torch.cuda.set_device(device)
            torch.set_float32_matmul_precision("high")
        if self.world > 1:
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return device

    def say(self, line: str) -> None:
        if self.rank == 0:
            print(line, flush=True)
            if "RUN_ID" in os.environ:
                log = Path("logs", os.environ["RUN_ID"] + ".txt")
                log.parent.mkdir(exist_ok=True)
                with open(log, "a", encoding="utf-8") as file:
                    print(line, file=file)

    def elapsed(self, clock: BudgetClock, step: int) -> str:
        milliseconds = clock.read() * 1e3
        return f"train_time:{milliseconds:.0f}ms step_avg:{milliseconds / max(step, 1):.2f}ms"

    # -- training -----------------------------------------------------------------------------------------------------
    def train(self) -> tuple[nn.Module, dict[str, Tensor]]:
        """Train from the start; returns the network and the weights to export (averaged where the run averages)."""
        program = self.program
        if not program.own_start:
            raise UserError("this run began from the weights of another one, so it cannot be repeated; use --eval-only")
        seed_everything(int(os.environ.get("SEED", program.seed)))
        net: Any = program.model()
        paths, unique_tokens = train_shards(self.folder), program.budget.unique_tokens
        stream = program.stream(Shards(paths, net.vocab_size, self.tokenizer.bos_id, unique_tokens))
        clock = self._clock(stream)
        net = net.to(self.device)
        if program.compile:
            net.compile(fullgraph=True, dynamic=False)
        optimizer = program.optimizer(model=net)
        if program.qat is not None:
            program.qat.attach(net)
        net.train()
        steps, schedules = program.warm_up_steps, program.schedules
        warm_up(net, optimizer, stream, steps, self.device, self.rank, self.world, schedules, program.qat)

        def on_step(step: int, loss: Tensor) -> None:
            if self.options.steps or step <= FIRST_STEPS_PRINTED or step % program.log_every_steps == 0:
                mean = float(loss if self.world == 1 else self._sum(loss) / self.world)
                self.results["steps"].append({"step": step, "train_loss": mean})
                self.say(f"step:{step} train_loss:{mean:.4f} {self.elapsed(clock, step)}")
            if step == self.options.steps:
                raise StepsDone

        def validate(step: int) -> bool:
            self.score(net, f"step:{step}", first_only=True, suffix=self.elapsed(clock, step))
            return self.results["scores"][-1]["nats_per_token"] <= program.budget.target_loss

        try:
            steps = train(
                net,
                optimizer,
                stream,
                program.schedules,
                clock,
                self.device,
                program.average,
                program.qat,
                self.rank,
                self.world,
                on_step=on_step,
                validate=validate,
                validate_every=program.validate_every_steps,
                sparsity=program.sparsity,
                say=self.say,
            )
        except StepsDone:
            return net, {}
        self.train_seconds = clock.read()
        self.say(f"trained steps:{steps} train_time:{self.train_seconds * 1e3:.0f}ms")
        weights = net.state_dict()
        if program.average is not None:
            averaged = program.average.average(net)
            kept = averaged if program.sparsity is None else program.sparsity.keep_zeros(net, averaged)
            weights = {**weights, **kept}
        return net, weights

    def restored(self) -> tuple[nn.Module, dict[str, Tensor]]:
        """The network with the weights of `--weights`."""
        seed_everything(self.program.seed)
        return self.program.model().to(self.device), torch.load(self.options.weights, weights_only=True)

    def _clock(self, stream: TokenStream) -> BudgetClock:
        budget = self.program.budget

        def share(values: tuple[float, float]) -> tuple[float, float]:
            tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
            dist.broadcast(tensor, src=0)
            seconds, pace = tensor.tolist()
            return seconds, pace

        return BudgetClock(
            stream.tokens_per_step,
            max_steps=budget.max_steps,
            max_seconds=float(os.environ.get("MAX_WALLCLOCK_SECONDS", budget.max_seconds)),
            max_tokens=budget.max_tokens,
            reserve_seconds=budget.reserve_seconds,
            reserve_steps=settling_steps(self.program.average, stream, self.world),
            synchronise=torch.cuda.synchronize if self.device.type == "cuda" else None,
            share=share if self.world > 1 else None,
            per_rank=budget.per_rank_clock,
        )

    # -- exporting ----------------------------------------------------------------------------------------------------
    def export(self, net: nn.Module, weights: dict[str, Tensor]) -> Path:
        """Quantise and pack weights; returns the artifact's path."""
        net.load_state_dict(weights)
        path = Path(self.options.output)
        hessians = self.calibrate(net)
        state = {name: tensor.detach().cpu() for name, tensor in exported_state(net, weights).items()}
        quantised = self.program.quant.quantise(state, roles_of(net), hessians, self.rank, self.world)
        if self.rank == 0:
            for note in quantised.notes:
                self.say(note)
            tokenizer = self.tokenizer
            identity = {"kind": tokenizer.kind, "vocab_size": tokenizer.vocab_size, "sha256": tokenizer.sha256}
            make_file = artifact_file if self.program.quant.leaves_packings_open() else packed_file
            blob, _ = make_file(quantised, self.program.network, identity, self.program.codec)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(blob)
            code_bytes = len(Path(sys.argv[0]).read_bytes()) if Path(sys.argv[0]).is_file() else 0
            artifact_bytes = path.stat().st_size
            counted = {
                "artifact_bytes": artifact_bytes,
                "code_bytes": code_bytes,
                "total_bytes": artifact_bytes + code_bytes,
                "limit_bytes": self.program.budget.limit_bytes,
            }
            self.results |= counted
            self.say(f"Code size: {code_bytes} bytes")
            self.say(f"Serialized model {self.program.codec.name}: {artifact_bytes} bytes")
            self.say(f"Total submission size {self.program.codec.name}: {artifact_bytes + code_bytes} bytes")
        if self.world > 1:
            dist.barrier()
        return path

    def calibrate(self, net: Any) -> dict[str, Tensor]:
        """Hessians for the quantisers that want them, from the plan's source, on all ranks together."""
        plan = self.program.quant
        if not plan.needs_calibration():
            return {}
        if plan.calibration is None:
            raise UserError(
                "the quantisation plan wants Hessians and has no source; type quant/calibration=training_tokens"
            )
        ledger = CalibrationLedger(self.train_seconds, self.program.budget.max_seconds)
        shards = None
        if plan.calibration.reads_training_data:
            paths, unique_tokens = train_shards(self.folder), self.program.budget.unique_tokens
            shards = ledger.shards(paths, net.vocab_size, self.tokenizer.bos_id, unique_tokens)
        seq_len = self.program.stream.keywords["seq_len"]
        hessians = plan.calibration.hessians(net, shards, seq_len, self.rank, self.world)
        self.say(ledger.line(len(hessians)))
        return hessians

    def evaluate_artifact(self, path: Path) -> None:
        """Rebuild the network from this file and the artifact's weights, and score it with every protocol."""
        program = self.program
        header, stored = read_stored(read_whole_file(path), program.codec, program.quant.stored_kinds(), str(path))
        if header["network"] != json.loads(json.dumps(program.network)):
            raise UserError(f"{path} holds another network than this file builds; use the file exported with it")
        if header["tokenizer"].get("sha256") not in (None, self.tokenizer.sha256):
            raise UserError(f"{path} was trained with another tokenizer; type --data or --tokenizer")
        net = program.model()
        load_exported(net, {name: tensor.dequantise() for name, tensor in stored.items()})
        self.score(net.to(self.device), "artifact")

    def score(self, net: Any, what: str, first_only: bool = False, suffix: str = "") -> None:
        """Score a network with the program's protocols (or the first) and print one line for each."""
        program, plan = self.program, self.program.evaluation
        tokens = Shards(self.val_paths, net.vocab_size).read_all()
        table = byte_counter(self.tokenizer, self.val_paths)
        train_seq_len = self.program.stream.keywords["seq_len"]
        for name, evaluator in list(plan.evaluators(train_seq_len).items())[: 1 if first_only else None]:
            part = split_part(tokens, evaluator, plan, self.tokenizer.bos_id)
            begin = time.perf_counter()
            ranks = (self.rank, self.world, self._sum if self.world > 1 else None)
            if is_plain(evaluator, net):
                score, coverage = score_plainly(
                    net, part, table, evaluator, self.device, plan.batch_tokens, *ranks, program.compile
                )
            else:
                result = evaluate(
                    net,
                    part.tokens,
                    table,
                    evaluator,
                    self.device,
                    plan.batch_tokens,
                    self.rank,
                    self.world,
                    sum_over_ranks=self._sum if self.world > 1 else None,
                    split_targets=part.split_targets,
                    bos_id=self.tokenizer.bos_id,
                    compiled=program.compile,
                    identify=False,
                    clock=None if what == "artifact" else EvaluationClock(),  # only what ships has a limit
                )
                score, coverage = result.score, result.coverage
            seconds, protocol = time.perf_counter() - begin, describe_evaluator(evaluator)
            nats, bpb = score.nats_per_token, score.bpb
            found = {"weights": what, "name": name, "protocol": protocol, "nats_per_token": nats, "bpb": bpb}
            left_over = len(tokens) - 1 - part.split_targets  # behind the last whole window
            self.results["scores"].append({**found, "coverage": {**coverage.as_dict(), "left_over": left_over}})
            if what == "artifact":
                label = f"final_{program.codec.name}_{name}"
                self.say(f"{label} val_loss:{nats:.4f} val_bpb:{bpb:.4f} eval_time:{seconds * 1e3:.0f}ms")
                note = f"; {left_over:,} more do not fill a window" if left_over else ""
                self.say(f"{label}_exact val_loss:{nats:.8f} val_bpb:{bpb:.8f} {coverage}{note}")
            else:
                self.say(f"{what} {name} val_loss:{nats:.4f} val_bpb:{bpb:.4f} {suffix}".rstrip())

    def _sum(self, tensor: Tensor) -> Tensor:
        on_device = tensor.to(self.device)
        dist.all_reduce(on_device)
        return on_device


def read_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train, pack and score this model, or score an artifact.")
    parser.add_argument("--data", metavar="FOLDER", help="folder with fineweb_train_*.bin and fineweb_val_*.bin")
    parser.add_argument("--tokenizer", metavar="FILE", help="tokenizer file; default: the one of the data folder")
    parser.add_argument("--steps", metavar="K", type=int, default=0, help="train K steps of the run, then stop")
    parser.add_argument("--eval-only", metavar="ARTIFACT", help="score this file instead of training")
    parser.add_argument("--weights", metavar="FILE", help="pack the weights of this file (torch.save) without training")
    parser.add_argument("--output", metavar="FILE", default="model.golf", help="artifact to write (model.golf)")
    parser.add_argument("--json", action="store_true", help="print all results as one last line of JSON")
    return parser.parse_args(arguments)


def main(program: Program, arguments: Sequence[str] | None = None) -> int:
    """Run a program from the command line; returns the exit code."""
    options = read_options(arguments)
    try:
        run = ProgramRun(program, options)
        if options.eval_only:
            run.evaluate_artifact(Path(options.eval_only))
        else:
            net, weights = run.restored() if options.weights else run.train()
            if not options.steps:
                if not options.weights:
                    net.load_state_dict(weights)
                    run.score(net, "raw" if program.average is None else "averaged", first_only=True)
                path = run.export(net, weights)
                if not options.weights:
                    run.evaluate_artifact(path)
        if options.json:
            run.say(json.dumps(run.results))
    except GolfError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"cannot use {error.filename}: {error.strerror or error}; check the path", file=sys.stderr)
        return 2
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    return 0
