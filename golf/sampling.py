"""Text from a trained model: `golf sample artifact=<file> prompt="The"`.

Each token is drawn from softmax(logits / temperature) over the `top_k` likeliest ids; the whole window is computed
again for every token, which is simple and exact for any architecture. Invariant: the same file, prompt, settings and
seed give the same text on the same machine, and the network never sees more tokens at once than it was trained on.

Legend: B batch, T time, V vocabulary.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from golf.config.nearest import nearest, offer
from golf.errors import UserError

DEFAULTS: dict[str, Any] = {
    "artifact": "",
    "run": "",
    "export": "",
    "tokenizer": "",
    "prompt": "",
    "tokens": 100,
    "temperature": 0.8,
    "top_k": 40,
    "seed": 0,
    "window": 0,
}
FALLBACK_WINDOW = 1024  # of a file outside a run folder, which does not say how it was trained
USAGE = """usage: golf sample artifact=<file> | run=<folder> [key=value …] [--json]

  artifact      a packed model (runs/<name>/<time>/artifact/<export>/model.golf)
  run           or: a run folder; export=<name> for another export than its own
  prompt        text to go on from; without it the model begins a document
  tokens=100    tokens to add at most; a document may end earlier
  temperature=0.8    0 = always the likeliest token
  top_k=40      only the so many likeliest tokens; 0 = all
  seed=0        another seed, another text
  tokenizer     the tokenizer's file, where it is not found by itself
  window        tokens the network sees at once; default: as it was trained

  golf sample run=runs/demo/<time> prompt="The river" tokens=50"""


def main(argv: Sequence[str]) -> int:
    """Print the prompt and its continuation; `--json` adds ids, seconds and settings."""
    if {"-h", "--help"} & set(argv):
        print(USAGE)
        return 0
    options = parse([text for text in argv if text != "--json"])
    import golf

    net = golf.load(options["run"] or options["artifact"], options["export"] or None, options["tokenizer"] or None)
    if net.tokenizer is None:
        raise UserError(
            f"the tokenizer of {options['run'] or options['artifact']} was not found: "
            "type tokenizer=<its file> (tokenizer.model of the data it was trained on)"
        )
    begun = time.monotonic()
    prompt_ids = encode_prompt(net.tokenizer, options["prompt"])
    settings = {key: options[key] for key in ("tokens", "temperature", "top_k", "seed")}
    ids = list(generate(net, prompt_ids, window=options["window"] or net.seq_len or FALLBACK_WINDOW, **settings))
    text = net.tokenizer.decode([*prompt_ids[has_bos(net.tokenizer) :], *ids])
    if "--json" in argv:
        seconds = round(time.monotonic() - begun, 3)
        print(json.dumps({"prompt": options["prompt"], "text": text, "ids": ids, "seconds": seconds, **settings}))
    else:
        print(text)
    return 0


def parse(argv: Sequence[str]) -> dict[str, Any]:
    """key=value arguments over the defaults.

    Raises:
        UserError: an unknown key, a value out of its range, nothing to sample from.
    """
    options = dict(DEFAULTS)
    for text in argv:
        key, sign, value = text.partition("=")
        if not sign:
            meant = "run" if Path(text).is_dir() else "artifact" if Path(text).is_file() else ""
            raise UserError(f"{text}: arguments are key=value; type " + (f"{meant}={text}" if meant else "prompt=…"))
        if key not in DEFAULTS:
            close = nearest(key, DEFAULTS)
            tail = f"; type {close[0]}={value}" if close else "; type golf sample --help"
            raise UserError(f"{key}: golf sample has no such key; {offer(key, DEFAULTS)}{tail}")
        options[key] = convert(key, value)
    if bool(options["artifact"]) == bool(options["run"]):
        what = "artifact and run are both set" if options["run"] else "nothing to sample from"
        raise UserError(f"{what}: type artifact=<packed file> or run=<run folder>")
    if options["artifact"] and not Path(options["artifact"]).is_file():
        raise UserError(f"artifact={options['artifact']} does not exist: type the path of a packed model.golf")
    return options


def convert(key: str, text: str) -> Any:
    """A value of the type of its default; numbers are at least 0.

    Raises:
        UserError: naming the default to type.
    """
    default = DEFAULTS[key]
    if isinstance(default, str):
        return text
    kind = "a whole number" if isinstance(default, int) else "a number"
    try:
        value = type(default)(text)
    except ValueError:
        value = -1
    if not 0 <= value < 2**63:
        raise UserError(f"{key}={text}: {kind} from 0 is expected; type {key}={default}")
    return value


def has_bos(tokenizer: Any) -> bool:
    return tokenizer.bos_id >= 0


def encode_prompt(tokenizer: Any, prompt: str) -> list[int]:
    """A document's beginning (BOS, as in training) and the prompt.

    Raises:
        UserError: an empty prompt for a tokenizer without BOS.
    """
    ids = tokenizer.encode(prompt) if prompt else []
    if not has_bos(tokenizer) and not ids:
        raise UserError("this tokenizer has no id for the beginning of a document: type prompt=<some text>")
    return [tokenizer.bos_id, *ids] if has_bos(tokenizer) else list(ids)


def generate(
    net: Any,
    prompt_ids: Sequence[int],
    tokens: int = 100,
    temperature: float = 0.8,
    top_k: int = 40,
    seed: int = 0,
    window: int = FALLBACK_WINDOW,
) -> Iterator[int]:
    """Ids that continue `prompt_ids`, one at a time, until `tokens` are drawn or the document ends (BOS)."""
    import torch

    device = next(net.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    end = getattr(getattr(net, "tokenizer", None), "bos_id", -1)
    ids = list(prompt_ids)
    for _ in range(tokens):
        context_BT = torch.tensor([ids[-window:]], dtype=torch.int64, device=device)
        with torch.no_grad():
            logits_V = net.logits(net.hidden(context_BT)[:, -1])[0].float().cpu()
        chosen = draw(logits_V, temperature, top_k, lambda p_V: int(torch.multinomial(p_V, 1, generator=generator)))
        if chosen == end:
            return
        ids.append(chosen)
        yield chosen


def draw(logits_V: Any, temperature: float, top_k: int, multinomial: Callable[[Any], int]) -> int:
    """One id: the likeliest at temperature 0, else drawn from the `top_k` likeliest (0 = all)."""
    if temperature == 0 or top_k == 1:
        return int(logits_V.argmax())
    if 0 < top_k < len(logits_V):
        least = logits_V.topk(top_k).values[-1]
        logits_V = logits_V.masked_fill(logits_V < least, float("-inf"))
    return multinomial(((logits_V - logits_V.max()) / temperature).softmax(dim=0))
