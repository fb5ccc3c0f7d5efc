"""Retokenising against SentencePiece alone, on the same documents and cores: throughput, CPU seconds, memory.

    python benchmarks/retokenise.py --documents docs.jsonl --tokenizer fineweb_8192_bpe.model [--repeats 3] [--times 4]

alone: SentencePieceProcessor.encode(texts, num_threads=cores), texts in memory, nothing written. golf: the whole
command (reading, parsing, hashing, writing shards) as a user types it, its start included. Rounds alternate; medians
are reported. Target: 80 % of the library's throughput.
Memory: peak of any process of the command for the documents once, and `times` times as many; it should not grow.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MEASURE = """
import json, resource, subprocess, sys, time
begun = time.monotonic()
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({"code": code, "seconds": time.monotonic() - begun,
                  "cpu_seconds": used.ru_utime + used.ru_stime, "peak_mib": used.ru_maxrss / 1024}))
"""


def repeated(documents: Path, times: int, folder: Path) -> Path:
    """The documents `times` times over, as plain JSON lines."""
    from golf.data_commands.sources import DocumentFiles

    target = folder / f"docs_{times}.jsonl"
    with open(target, "wb") as file:
        for _ in range(times):
            for batch in DocumentFiles([documents]).batches():
                file.writelines(batch.items)
    return target


def texts_in(path: Path) -> list[str]:
    with open(path, encoding="utf-8", newline="\n") as file:
        return [json.loads(line)["text"] for line in file]


def sentencepiece_alone(texts: list[str], tokenizer: str, cores: int) -> dict[str, float]:
    """Wall and CPU seconds of the library's own batch encoding."""
    from sentencepiece import SentencePieceProcessor

    pieces = SentencePieceProcessor(model_file=tokenizer)
    before, begun = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    tokens = sum(map(len, pieces.encode(texts, num_threads=cores)))
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": time.monotonic() - begun, "cpu_seconds": cpu, "tokens": tokens}


def golf_command(documents: Path, tokenizer: str, cores: int, folder: Path) -> dict[str, float]:
    """The command in processes of its own."""
    with tempfile.TemporaryDirectory(dir=folder) as out:
        program = "import sys; from golf.cli import main; sys.exit(main())"
        command = [sys.executable, "-c", program, "data", "retokenise", str(documents), "--tokenizer", tokenizer]
        command += ["--out", f"{out}/shards", "--val-docs", "0", "--workers", str(cores)]
        done = subprocess.run([sys.executable, "-c", MEASURE, *command], capture_output=True, text=True, check=True)
        result = json.loads(done.stdout)
        if result["code"]:
            sys.exit(done.stderr)
        return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=Path, required=True)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--times", type=int, default=4)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "retokenise.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        once, many = repeated(options.documents, 1, folder), repeated(options.documents, options.times, folder)
        texts = texts_in(many)
        megabytes = sum(len(text.encode("utf-8")) for text in texts) / 1e6
        rounds = [
            (
                sentencepiece_alone(texts, options.tokenizer, options.cores),
                golf_command(many, options.tokenizer, options.cores, folder),
            )
            for _ in range(options.repeats)
        ]
        small = golf_command(once, options.tokenizer, options.cores, folder)
    alone, ours = ([pair[side] for pair in rounds] for side in (0, 1))
    result = {
        "hardware": f"{platform.machine()}, {options.cores} cores",
        "date": time.strftime("%Y-%m-%d"),
        "megabytes": round(megabytes, 1),
        "alone_mb_per_second": megabytes / statistics.median(r["seconds"] for r in alone),
        "golf_mb_per_second": megabytes / statistics.median(r["seconds"] for r in ours),
        "throughput_ratio": statistics.median(a["seconds"] / o["seconds"] for a, o in rounds),
        "cpu_ratio": statistics.median(a["cpu_seconds"] / o["cpu_seconds"] for a, o in rounds),
        "peak_mib_once": small["peak_mib"],
        f"peak_mib_{options.times}_times": max(r["peak_mib"] for r in ours),
        "rounds": rounds,
    }
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({key: value for key, value in result.items() if key != "rounds"}, indent=1))


if __name__ == "__main__":
    main()
