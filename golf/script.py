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
from golf.evaluation.bpb import bits_per_byte
from golf.evaluation.ledger import coverage_text
from golf.evaluation.phases import EvaluationClock
from golf.evaluation.plain import is_plain, score_plainly
from golf.evaluation.protocol import EvaluationPlan, evaluate
from golf.evaluation.split import targets_to_score, whole_windows
from golf.loop import deterministic_on_cpu, seed_everything, settling_steps, train, warm_up
from golf.models.exported import load_exported, train_only_names
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


class ProgramRun:
    """One execution of a program on one rank: device, data and what it printed."""

    def __init__(self, program: Program, options: argparse.Namespace):
        self.program, self.options = program, options
        self.rank, self.world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        self.device = self._open_device()
        if not Path(options.data).is_dir():
            raise UserError(f"{options.data} is not here; type --data <folder with fineweb_*.bin and their tokenizer>")
        self.tokenizer: Tokenizer = program.open_tokenizer(options.tokenizer or self._own_tokenizer())
        if program.tokenizer_sha256 and program.tokenizer_sha256 != self.tokenizer.sha256:
            raise UserError(f"{options.data} has another tokenizer than the run; type --data or --tokenizer")
        paths = validation_shards(options.data)
        self.val_tokens = Shards(paths, self.tokenizer.vocab_size).read_all()
        self.byte_table = byte_counter(self.tokenizer, paths)
        self.results: dict[str, Any] = {"steps": [], "scores": []}
        self.clock: BudgetClock | None = None

    def _own_tokenizer(self) -> str:
        program = self.program
        if program.tokenizer_beside:
            return str(Path(self.options.data, program.tokenizer_beside))
        return find_tokenizer(self.options.data) if program.tokenizer == "auto" else program.tokenizer

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
                os.makedirs("logs", exist_ok=True)
                with open(f"logs/{os.environ['RUN_ID']}.txt", "a", encoding="utf-8") as file:
                    print(line, file=file)

    # -- training -----------------------------------------------------------------------------------------------------
    def train(self) -> nn.Module:
        """Train from the start; returns the network with the weights to export (averaged where the run averages)."""
        program, budget, device, rank, world = self.program, self.program.budget, self.device, self.rank, self.world
        if not program.own_start:
            raise UserError("this run began from the weights of another one, so it cannot be repeated; use --eval-only")
        seed_everything(int(os.environ.get("SEED", program.seed)))
        net: Any = program.model()
        net = net.to(device)
        paths = train_shards(self.options.data)
        stream = program.stream(Shards(paths, net.vocab_size, self.tokenizer.bos_id, budget.unique_tokens))
        if program.compile:
            net.compile(fullgraph=True, dynamic=False)
        optimizer = program.optimizer(model=net)
        if program.qat is not None:
            program.qat.attach(net)
        net.train()
        warm_up(net, optimizer, stream, program.warm_up_steps, device, rank, world, program.schedules, program.qat)
        clock = BudgetClock(
            stream.tokens_per_step,
            max_steps=budget.max_steps,
            max_seconds=float(os.environ.get("MAX_WALLCLOCK_SECONDS", budget.max_seconds)),
            max_tokens=budget.max_tokens,
            reserve_seconds=budget.reserve_seconds,
            reserve_steps=settling_steps(program.average, stream, world),
            synchronise=torch.cuda.synchronize if device.type == "cuda" else None,
            share=self._of_rank_0 if world > 1 else None,
            per_rank=budget.per_rank_clock,
        )
        self.clock = clock

        def elapsed(step: int) -> str:
            milliseconds = clock.read() * 1e3
            return f"train_time:{milliseconds:.0f}ms step_avg:{milliseconds / max(step, 1):.2f}ms"

        def on_step(step: int, loss: Tensor) -> None:
            if self.options.steps or step <= FIRST_STEPS_PRINTED or step % program.log_every_steps == 0:
                mean = float(self._sum(loss) / world)
                self.results["steps"].append({"step": step, "train_loss": mean})
                self.say(f"step:{step} train_loss:{mean:.4f} {elapsed(step)}")

        def validate(step: int) -> bool:
            self.score(net, f"step:{step}", f" {elapsed(step)}")
            return self.results["scores"][-1]["nats_per_token"] <= budget.target_loss

        steps = train(
            net,
            optimizer,
            stream,
            program.schedules,
            clock,
            device,
            program.average,
            program.qat,
            rank,
            world,
            on_step=on_step,
            validate=validate,
            validate_every=program.validate_every_steps,
            sparsity=program.sparsity,
            say=self.say,
            last_step=self.options.steps or -1,
        )
        self.say(f"trained steps:{steps} {elapsed(steps)}")
        if program.average is not None and not self.options.steps:
            averaged = program.average.average(net)
            kept = averaged if program.sparsity is None else program.sparsity.keep_zeros(net, averaged)
            net.load_state_dict({**net.state_dict(), **kept})
        return net

    def _of_rank_0(self, values: Sequence[float]) -> Sequence[float]:
        """Numbers of the first rank on every rank."""
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.broadcast(tensor, src=0)
        return tensor.tolist()

    def _sum(self, tensor: Tensor) -> Tensor:
        """Over all ranks."""
        if self.world > 1:
            tensor = tensor.to(self.device)
            dist.all_reduce(tensor)
        return tensor

    # -- exporting ----------------------------------------------------------------------------------------------------
    def export(self, net: nn.Module) -> None:
        """Quantise and pack a network's weights."""
        hessians = self.calibrate(net)
        left_out = train_only_names(net)
        state = {name: tensor.detach().cpu() for name, tensor in net.state_dict().items() if name not in left_out}
        quantised = self.program.quant.quantise(state, roles_of(net), hessians, self.rank, self.world)
        if self.rank == 0:
            for note in quantised.notes:
                self.say(note)
            tokenizer = self.tokenizer
            identity = {"kind": tokenizer.kind, "vocab_size": tokenizer.vocab_size, "sha256": tokenizer.sha256}
            make_file = artifact_file if self.program.quant.leaves_packings_open() else packed_file
            blob, _ = make_file(quantised, self.program.network, identity, self.program.codec)
            path = Path(self.options.output)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(blob)
            code = Path(sys.argv[0])
            code_bytes, artifact_bytes = code.stat().st_size if code.is_file() else 0, path.stat().st_size
            limit = self.program.budget.limit_bytes
            self.results |= {"artifact_bytes": artifact_bytes, "code_bytes": code_bytes, "limit_bytes": limit}
            self.say(f"Code size: {code_bytes} bytes")
            self.say(f"Serialized model {self.program.codec.name}: {artifact_bytes} bytes")
            self.say(f"Total submission size {self.program.codec.name}: {artifact_bytes + code_bytes} bytes")
        if self.world > 1:
            dist.barrier()

    def calibrate(self, net: Any) -> dict[str, Tensor]:
        """Hessians for the quantisers that want them, from the plan's source, on all ranks together."""
        plan = self.program.quant
        if not plan.needs_calibration():
            return {}
        if plan.calibration is None:
            raise UserError(
                "the quantisation plan wants Hessians and has no source; type quant/calibration=training_tokens"
            )
        ledger = CalibrationLedger(self.clock.read() if self.clock else 0.0, self.program.budget.max_seconds)
        shards = None
        if plan.calibration.reads_training_data:
            paths, unique_tokens = train_shards(self.options.data), self.program.budget.unique_tokens
            shards = ledger.shards(paths, net.vocab_size, self.tokenizer.bos_id, unique_tokens)
        seq_len = self.program.stream.keywords["seq_len"]
        hessians = plan.calibration.hessians(net, shards, seq_len, self.rank, self.world)
        self.say(ledger.line(len(hessians)))
        return hessians

    def evaluate_artifact(self, path: str) -> None:
        """Score the network of an artifact with every protocol."""
        program = self.program
        header, stored = read_stored(read_whole_file(path), program.codec, program.quant.readers(), path)
        if header["network"] != program.network or header["tokenizer"].get("sha256") not in (
            None,
            self.tokenizer.sha256,
        ):
            raise UserError(
                f"{path} holds another network than this file builds, or was trained with another tokenizer"
            )
        net: Any = program.model()
        load_exported(net, {name: tensor.dequantise() for name, tensor in stored.items()})
        self.score(net.to(self.device), "artifact")

    def score(self, net: Any, what: str, suffix: str = "") -> None:
        """Score the artifact with the program's protocols, other weights with the first."""
        program, plan, tokens, table = self.program, self.program.evaluation, self.val_tokens, self.byte_table
        device, rank, world = self.device, self.rank, self.world
        for name, evaluator in plan.evaluators(program.stream.keywords["seq_len"]).items():
            begin = time.perf_counter()
            part = tokens[: targets_to_score(tokens, evaluator, plan, self.tokenizer.bos_id) + 1]
            if is_plain(evaluator, net):
                nats, byte_sum, times_N = score_plainly(
                    net, part, table, evaluator, device, plan.batch_tokens, rank, world, self._sum, program.compile
                )
            else:
                result = evaluate(
                    net,
                    part,
                    table,
                    evaluator,
                    device,
                    plan.batch_tokens,
                    rank,
                    world,
                    sum_over_ranks=self._sum if world > 1 else None,
                    bos_id=self.tokenizer.bos_id,
                    compiled=program.compile,
                    identify=False,
                    clock=None if what == "artifact" else EvaluationClock(),  # only what ships has a limit
                )
                nats, byte_sum, times_N = result.score.nats_sum, result.score.bytes, result.ledger.times_N
            seconds, split = time.perf_counter() - begin, whole_windows(tokens, evaluator.seq_len)
            targets, scored, twice = int(times_N.sum()), int((times_N > 0).sum()), int((times_N > 1).sum())
            loss, bpb = nats / targets, bits_per_byte(nats, byte_sum)
            self.results["scores"].append(
                {
                    "weights": what,
                    "name": name,
                    "nats_per_token": loss,
                    "bpb": bpb,
                    "coverage": {"split_targets": split, "scored": scored, "scored_twice": twice},
                }
            )
            label = f"final_{program.codec.name}_{name}" if what == "artifact" else f"{what} {name}"
            self.say(f"{label} val_loss:{loss:.4f} val_bpb:{bpb:.4f} eval_time:{seconds * 1e3:.0f}ms{suffix}")
            if what != "artifact":
                break
            covered = coverage_text(split, scored, twice)
            self.say(f"{label}_exact val_loss:{loss:.8f} val_bpb:{bpb:.8f} {covered}")


def read_options(program: Program, arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train, pack and score this model, or score an artifact.")
    folder = os.environ.get("DATA_PATH") or program.data_folder
    parser.add_argument("--data", default=folder, help="folder with fineweb_train_*.bin and fineweb_val_*.bin")
    beside = "its tokenizer; default: the one of the folder"
    parser.add_argument("--tokenizer", default=os.environ.get("TOKENIZER_PATH"), help=beside)
    parser.add_argument("--steps", type=int, default=0, help="train so many steps of the run, then stop")
    parser.add_argument("--eval-only", metavar="ARTIFACT", help="score this file instead of training")
    parser.add_argument("--weights", help="pack the weights of this file (torch.save) instead of training")
    parser.add_argument("--output", default="model.golf", help="artifact to write")
    parser.add_argument("--json", action="store_true", help="print all results as one last line of JSON")
    return parser.parse_args(arguments)


def main(program: Program, arguments: Sequence[str] | None = None) -> int:
    """Run a program from the command line; returns the exit code."""
    options = read_options(program, arguments)
    try:
        run = ProgramRun(program, options)
        if options.eval_only:
            run.evaluate_artifact(options.eval_only)
        elif options.weights:
            net = program.model().to(run.device)
            net.load_state_dict(torch.load(options.weights, weights_only=True))
            run.export(net)
        else:
            net = run.train()
            if not options.steps:
                run.score(net, "raw" if program.average is None else "averaged")
                run.export(net)
                run.evaluate_artifact(options.output)
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
