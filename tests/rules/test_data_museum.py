"""Faults of bytes, tokenizers, shards and artifacts, on real files; and the sandbox, on programs that reach out."""

from __future__ import annotations

import json
import lzma
import sys
import zlib

import numpy as np
import pytest

from golf.data.bytes import ByteTable, byte_table_from_sentencepiece
from golf.data.dataset import open_folder, write_split, write_text_dataset
from golf.data.sentencepiece_training import train_sentencepiece
from golf.data.tokenizer import SentencePieceTokenizer
from golf.rules.material import material_of
from golf.rules.sandbox import run_inside
from golf.rules.subject import Subject

NAMES = ("Anna", "Łukasz", "Zoë", "Bob")
WORDS = ("river", "Mountain", "café", "☂", "under", "Seven", "naïve", "stone", "Über", "walks")


def documents(count: int, seed: int) -> list[str]:
    generator = np.random.default_rng(seed)
    return [
        " ".join([str(generator.choice(NAMES)), *map(str, generator.choice(WORDS, size=60)), str(number)]) + "."
        for number in range(count)
    ]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    texts = {"train": documents(80, 1), "val": documents(20, 2)}
    (folder / "tokenizer.model").write_bytes(train_sentencepiece([*texts["train"], "abcdefghijklm"], 360))
    tokenizer = SentencePieceTokenizer(folder / "tokenizer.model")
    write_text_dataset(folder, texts, tokenizer, {"name": "walks"})
    return folder


def subject_on(folder, **given):
    subject = Subject("path", str(folder), data_folder=str(folder), **given)
    subject.given_material = material_of(subject)
    return subject


def with_table(folder, change):
    """A subject whose score is divided by a changed table."""
    subject, tokenizer = subject_on(folder), SentencePieceTokenizer(folder / "tokenizer.model")
    table = byte_table_from_sentencepiece(folder / "tokenizer.model")
    arrays = [table.base_bytes.copy(), table.leading_space.copy(), table.boundary.copy()]
    change(tokenizer.pieces, *arrays)
    subject.material.byte_table = ByteTable(*arrays)
    return subject


def space_counted_twice(pieces, base, leading, boundary):
    base += leading


def fallback_as_three(pieces, base, leading, boundary):
    """A byte piece alone decodes to U+FFFD, which has three bytes."""
    base[[token for token in range(len(base)) if pieces.is_byte(token)]] = 3


def control_has_bytes(pieces, base, leading, boundary):
    base[boundary] = 3


def space_never(pieces, base, leading, boundary):
    leading[:] = False


def no_lone_space(pieces, base, leading, boundary):
    """The table thinks that U+2581 stands for its three bytes."""
    base[leading] += 3
    leading[:] = False


def test_sound_data_pass(dataset, outcomes):
    found = outcomes(subject_on(dataset), "L14", "L15", "L28", "L30")
    assert found == dict.fromkeys(found, "pass")


@pytest.mark.parametrize(
    "fault", [space_counted_twice, fallback_as_three, no_lone_space, space_never], ids=lambda fault: fault.__name__
)
def test_a_wrong_byte_table_is_caught(fault, dataset, outcomes):
    assert outcomes(with_table(dataset, fault), "L28") == {"L28": "fail"}


def test_bytes_for_control_ids_are_caught(dataset, outcomes):
    def count_starts(subject):
        ids, table = subject.material.val_tokens, subject.material.byte_table
        entry = {"tokens": len(ids) - 1, "bytes": int(table.count(ids[:-1], ids[1:]).sum())}
        sound = subject_on(dataset)
        sound.summary = {"ladder": [entry]}
        return outcomes(sound, "L28")

    assert count_starts(subject_on(dataset)) == {"L28": "pass"}
    assert count_starts(with_table(dataset, control_has_bytes)) == {"L28": "fail"}


def test_a_folded_split_is_caught(dataset, tmp_path, outcomes):
    """#1578: the text is made easier first; its own bytes are counted right, the source's are not."""
    tokenizer = SentencePieceTokenizer(dataset / "tokenizer.model")
    (tmp_path / "tokenizer.model").write_bytes((dataset / "tokenizer.model").read_bytes())
    texts = {"train": documents(30, 1), "val": documents(20, 2)}
    write_text_dataset(tmp_path, {split: [t.lower() for t in found] for split, found in texts.items()}, tokenizer, {})
    with open(tmp_path / "docs_selected.jsonl", "w") as file:
        file.writelines(json.dumps({"text": text}) + "\n" for text in [*texts["val"], *texts["train"]])
    assert outcomes(subject_on(tmp_path), "L28", "L30") == {"L28": "pass", "L30": "fail"}


def test_a_tokenizer_that_loses_characters_is_caught(dataset, outcomes):
    subject = subject_on(dataset)
    subject.material.sources = [text.replace("river", "river!?") for text in subject.material.sources]
    assert outcomes(subject, "L30") == {"L30": "fail"}


def test_training_from_the_wrong_document_is_caught(dataset, tmp_path, outcomes):
    """#2127: training begins inside of the validation documents, in a shard that also holds honest ones."""
    prepared = open_folder(dataset)
    val, tokenizer = prepared.validation_tokens(), prepared.tokenizer()
    starts = np.flatnonzero(val == tokenizer.bos_id)
    honest = np.concatenate([np.fromfile(path, dtype="<u2")[512:] for path in prepared.train_paths])
    write_split(tmp_path, "val", val)
    write_split(tmp_path, "train", np.concatenate([val[starts[4] :], honest]))
    (tmp_path / "tokenizer.model").write_bytes((dataset / "tokenizer.model").read_bytes())
    assert outcomes(subject_on(tmp_path), "L14", "L15") == {"L14": "fail", "L15": "fail"}


@pytest.mark.parametrize("pack", [bytes, zlib.compress, lzma.compress], ids=["plain", "zlib", "lzma"])
@pytest.mark.parametrize("what", ["text", "ids"])
def test_a_paid_prefix_is_caught(what, pack, dataset, tmp_path, outcomes):
    subject = subject_on(dataset)
    ids = subject.material.val_tokens[:400]
    stored = ids.astype("<u2").tobytes() if what == "ids" else subject.material.tokenizer.decode(ids.tolist()).encode()
    path = tmp_path / "model.bin"
    path.write_bytes(pack(np.random.default_rng(0).bytes(3000) + stored))
    subject.shipped = [path]
    assert outcomes(subject, "L14") == {"L14": "fail"}
    path.write_bytes(pack(np.random.default_rng(0).bytes(6000)))
    assert outcomes(subject, "L14") == {"L14": "pass"}


def test_calibration_on_validation_is_caught(dataset, outcomes):
    from golf.rules.facts import Facts

    subject = subject_on(dataset)
    subject.facts = [Facts("run", calibration_source="ValidationTokens", calibration_seconds=1.0)]
    assert outcomes(subject, "L14", "L17") == {"L14": "fail", "L17": "fail"}


INSIDE = """
import json, sys
from golf.rules.sandbox import install_guard
request, attempts = json.load(open(sys.argv[1])), []
install_guard(set(request["hidden"]), attempts)
try:
{body}
finally:
    json.dump({{"attempts": attempts, "bpb": []}}, open(request["report"], "w"))
"""


def inside(body, tmp_path, hidden=()):
    script = tmp_path / "inside.py"
    script.write_text(INSIDE.format(body="\n".join(f"    {line}" for line in body.splitlines())))
    return run_inside([str(script)], {"hidden": [str(path) for path in hidden], "import_path": sys.path}, tmp_path)


@pytest.mark.parametrize(
    "body",
    [
        "import socket\nsocket.create_connection(('198.51.100.7', 80), timeout=1)",
        "import urllib.request\nurllib.request.urlopen('http://198.51.100.7/weights.bin', timeout=1)",
        "import socket\ntry:\n    socket.getaddrinfo('example.org', 80)\nexcept OSError:\n    pass",
        "open('fineweb_train_000001.bin', 'rb')",
        "import numpy\ntry:\n    numpy.memmap(request['hidden'][0])\nexcept OSError:\n    pass",
        "import os\ntry:\n    os.open(request['hidden'][0], os.O_RDONLY)\nexcept OSError:\n    pass",
    ],
    ids=["connection", "download", "swallowed look-up", "training shard", "memory map", "descriptor"],
)
def test_what_reaches_out_of_the_sandbox_is_caught(body, tmp_path):
    hidden = tmp_path / "renamed_shard.bin"
    hidden.write_bytes(b"0" * 64)
    result = inside(body, tmp_path, [hidden])
    assert result.attempts, result


def test_the_guard_alone_is_said_to_be_alone(tmp_path, monkeypatch):
    """Where the system gives no namespace there is the hook, which still sees who reaches out."""
    monkeypatch.setattr("golf.rules.sandbox.namespace_prefix", list)
    result = inside("import socket\nsocket.create_connection(('198.51.100.7', 80), timeout=1)", tmp_path)
    assert result.attempts
    assert result.guard == "a hook on sockets and files (this system gives no user namespace)"


def test_what_stays_inside_of_the_sandbox_is_not(tmp_path):
    (tmp_path / "fineweb_val_000000.bin").write_bytes(b"0" * 64)
    result = inside(f"open({str(tmp_path / 'fineweb_val_000000.bin')!r}, 'rb').read()\nimport numpy", tmp_path)
    assert (result.attempts, result.error) == ([], "")
    assert "hook" in result.guard
