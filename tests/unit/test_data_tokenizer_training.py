"""`golf data tokenizer`: the challenge's flags, the same file every time, byte-level merges, GPT-2's vocabulary."""

import hashlib
import json
from pathlib import Path

import pytest

from golf.cli import main as golf
from golf.data.sentencepiece_training import train_sentencepiece
from golf.data.tokenizer import open_tokenizer
from golf.data_commands.byte_bpe_training import train_byte_bpe

TEXTS = [f"Hole {n}: The ball rolls over the grass, {n} times.\n" * 2 for n in range(40)]


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    path = tmp_path / "docs.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return path


def train(documents: Path, kind: str, out: Path, *more: str) -> int:
    return golf(["data", "tokenizer", "train", str(documents), "--kind", kind, "--out", str(out), *more])


def test_sentencepiece_has_the_challenges_flags(documents, tmp_path, capsys) -> None:
    out = tmp_path / "tokenizers" / "mine.model"
    assert train(documents, "sentencepiece", out, "--vocab-size", "300", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sha256"] == hashlib.sha256(train_sentencepiece(TEXTS, 300)).hexdigest()
    tokenizer = open_tokenizer(out)
    assert tokenizer.pieces.id_to_piece([0, 1, 2, 3, 4]) == ["<pad>", "<s>", "</s>", "<unk>", "<0x00>"]
    assert tokenizer.decode(tokenizer.encode(" two  spaces ﬁ\n")) == "two spaces fi"
    assert out.with_suffix(".vocab").read_text().startswith("<pad>\t0\n<s>\t0\n")


def test_documents_can_be_skipped_and_limited(documents, tmp_path) -> None:
    for name, more in ("a", ["--skip-docs", "10"]), ("b", ["--skip-docs", "10", "--docs", "5"]):
        assert train(documents, "sentencepiece", tmp_path / f"{name}.model", "--vocab-size", "290", *more) == 0
    assert (tmp_path / "a.model").read_bytes() == train_sentencepiece(TEXTS[10:], 290)
    assert (tmp_path / "b.model").read_bytes() == train_sentencepiece(TEXTS[10:15], 290)


def test_caseops_has_its_operators(documents, tmp_path) -> None:
    assert train(documents, "caseops", tmp_path / "case.model", "--vocab-size", "300") == 0
    tokenizer = open_tokenizer(tmp_path / "case.model")
    assert (tokenizer.kind, tokenizer.encode("The")[0]) == ("caseops", 4)


def test_merges_are_the_most_frequent_pairs() -> None:
    tokens = train_byte_bpe(["ab ab abc", "ab abc xyz"], 256 + 3 + 1)
    assert tokens[:3] == [b"\x00", b"\x01", b"\x02"]
    # "ab" 5 times; then " ab" 3 times and "abc" 2; ties would go to the smaller bytes
    assert tokens[256:] == [b"ab", b" ab", b" abc"]


def test_a_trained_gpt2_tokenizer_is_lossless(documents, tmp_path, capsys) -> None:
    assert train(documents, "gpt2", tmp_path / "g.tiktoken", "--vocab-size", "300") == 0
    tokenizer = open_tokenizer(tmp_path / "g.tiktoken")
    assert tokenizer.vocab_size == 300
    assert tokenizer.decode(tokenizer.encode(TEXTS[7])) == TEXTS[7]
    assert len(tokenizer.encode(TEXTS[7])) < len(TEXTS[7].encode()) / 2
    assert train(documents, "gpt2", tmp_path / "g.tiktoken", "--vocab-size", "9000") == 2
    assert "the texts yield" in capsys.readouterr().err


def test_gpt2s_own_vocabulary_is_converted(tmp_path, capsys) -> None:
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    symbol = {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}
    order = [symbol[byte] for byte in (*printable, *others)] + ["Ġthe", "<|endoftext|>"]
    (tmp_path / "vocab.json").write_text(json.dumps({token: rank for rank, token in enumerate(order)}))
    convert = ["data", "tokenizer", "convert"]
    assert golf([*convert, str(tmp_path / "vocab.json"), "--out", str(tmp_path / "gpt2.tiktoken")]) == 0
    tokenizer = open_tokenizer(tmp_path / "gpt2.tiktoken")
    assert (tokenizer.bos_id, tokenizer.token_bytes[256], tokenizer.token_bytes[0]) == (257, b" the", b"!")
    assert tokenizer.encode("! the") == [0, 256]
    (tmp_path / "vocab.json").write_text("[1]")
    assert golf([*convert, str(tmp_path / "vocab.json"), "--out", str(tmp_path / "x.tiktoken")]) == 2
    assert "is not GPT-2's vocab.json" in capsys.readouterr().err


def test_wrong_requests_are_one_line(documents, tmp_path, capsys) -> None:
    cases = [
        (["--kind", "bytes", "--out", "b.model"], "type --out b.json"),
        (["--kind", "gpt2", "--vocab-size", "99", "--out", str(tmp_path / "g.tiktoken")], "no room for 256 bytes"),
        (["--vocab-size", "9999", "--out", str(tmp_path / "s.model")], "no tokenizer of 9999 pieces|the text yields"),
        (["--kind", "words", "--out", "x"], "invalid choice: 'words'"),
    ]
    for more, words in cases:
        assert golf(["data", "tokenizer", "train", str(documents), *more]) == 2
        error = capsys.readouterr().err.strip()
        assert any(word in error for word in words.split("|")), error
        assert error.count("\n") == 0
    assert golf(["data", "tokenizer", "train", "--out", "x.model"]) == 2
    assert "name the documents" in capsys.readouterr().err
