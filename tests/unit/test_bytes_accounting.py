"""Bytes per document: Σ bytes of the tokens is what the text has, for every kind of tokenizer; what is lost is told."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golf.data.accounting import normalisation_report
from golf.data.byte_bpe import ByteBpeTokenizer, gpt2_pattern, ranks_content
from golf.data.bytes import ByteTable, byte_table_from_processor
from golf.data.sentencepiece_training import train_sentencepiece
from golf.data.shards import write_shard
from golf.data.sidecar import byte_counter
from golf.data.tokenizer import load_tokenizer
from golf.errors import UserError
from golf.evaluation.split import count_target_bytes

WORDS = ["the", "golf", "ball", "rolls", "over", "grass", "2026", "hole", "café", "naïve", "wind", "don't"]
ANY_TEXT = st.text(alphabet=st.sampled_from("abgo 1½é日😀▀▁▂ﬁ\t\n\0\ufeff\u200b'"), max_size=30)
MERGES = [b" t", b"he", b" the", b"ll", b" go", b"20", b"'t", b"\xc3\xa9", b"\n\n", b" golf", b"olf"]


def documents(count: int) -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, 30)) for _ in range(count)]


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory) -> dict[str, object]:
    """One of every kind; `spaceless` has learnt no piece for a space, since its texts have none."""
    folder = tmp_path_factory.mktemp("tokenizers")
    (folder / "plain.model").write_bytes(train_sentencepiece(documents(100), 320))
    (folder / "spaceless.model").write_bytes(train_sentencepiece([text.replace(" ", "") for text in WORDS * 9], 290))
    (folder / "gpt2.tiktoken").write_bytes(ranks_content([*(bytes([byte]) for byte in range(256)), *MERGES]))
    files = ("plain.model", "spaceless.model", "gpt2.tiktoken")
    return {Path(name).stem: load_tokenizer(str(folder / name)) for name in files} | {"bytes": load_tokenizer("bytes")}


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(ANY_TEXT, min_size=1, max_size=4))
def test_every_kind_counts_every_document(tokenizers, texts: list[str]) -> None:
    for name, tokenizer in tokenizers.items():
        report = normalisation_report(tokenizer, texts)
        assert report["exact"], name
        assert report["counted_bytes"] == report["raw_bytes"] - report["lost_bytes"]
        if name in ("gpt2", "bytes"):
            assert (report["lost_bytes"], report["changed_documents"]) == (0, 0)
        else:
            normalised = sum(len(tokenizer.pieces.normalize(t).replace("▁", " ").encode("utf-8")) for t in texts)
            assert report["counted_bytes"] == normalised


def test_a_stream_counts_as_its_documents_wherever_it_is_cut(tokenizers, monkeypatch) -> None:
    texts = ["go ▀ go", " a b", "", "x 日 y", "ball"]
    monkeypatch.setattr("golf.evaluation.split.BYTE_COUNT_CHUNK", 3)
    for name, tokenizer in tokenizers.items():
        stream = np.concatenate([[tokenizer.bos_id, *tokenizer.encode(text)] for text in texts]).astype(np.int64)
        counted = int(count_target_bytes(stream, tokenizer.byte_table()).sum())
        assert counted == normalisation_report(tokenizer, texts)["counted_bytes"], name


def test_a_space_that_is_spelled_in_bytes_is_one_byte(tokenizers) -> None:
    tokenizer = tokenizers["spaceless"]
    table = tokenizer.byte_table()
    assert len(table.spelled_space) == 3
    assert not tokenizers["plain"].byte_table().spelled_space
    ids = np.array([1, *tokenizer.encode("the ▀")])
    assert table.count_stream(ids)[-6:].tolist() == [0, 0, 1, 0, 0, 3]
    assert tokenizer.decode(tokenizer.encode("a b")) == "a b"
    assert ByteTable.from_arrays(table.arrays()).count_stream(ids).tolist() == table.count_stream(ids).tolist()


class OddPieces:
    """A vocabulary with every class of id: control, unknown, unused, byte, and plain pieces."""

    texts = ("<s>", "<unk>", "[gap]", "<0x41>", "▁the", "▁", "é")

    def vocab_size(self) -> int:
        return len(self.texts)

    def is_control(self, token: int) -> bool:
        return token == 0

    def is_unknown(self, token: int) -> bool:
        return token == 1

    def is_unused(self, token: int) -> bool:
        return token == 2

    def is_byte(self, token: int) -> bool:
        return token == 3

    def id_to_piece(self, token: int) -> str:
        return self.texts[token]

    def piece_to_id(self, piece: str) -> int:
        return self.texts.index(piece) if piece in self.texts else 1

    def unk_id(self) -> int:
        return 1


def test_every_class_of_id() -> None:
    table = byte_table_from_processor(OddPieces())
    assert table.base_bytes.tolist() == [0, 0, 0, 1, 3, 0, 2]
    assert table.boundary.tolist() == [True] * 3 + [False] * 4
    assert table.count_stream(np.array([0, 4, 4, 2, 5, 5, 3, 1, 6])).tolist() == [3, 4, 0, 0, 1, 1, 0, 2]


def test_gpt2_cuts_and_merges_like_gpt2(tokenizers) -> None:
    text = "the golfers don't,  go\n\n20½ Ⅷ١ été_x\x1c "
    pieces = ["the", " golfers", " don", "'t", ",", " ", " go", "\n", "\n", "20½", " Ⅷ١", " été", "_", "x", "\x1c", " "]
    assert gpt2_pattern().findall(text) == pieces
    tokenizer = tokenizers["gpt2"]
    assert (tokenizer.kind, tokenizer.vocab_size, tokenizer.bos_id) == (
        "gpt2",
        256 + len(MERGES) + 1,
        256 + len(MERGES),
    )
    # the lowest rank first: " t", "he", " the", "ll"; " golf" is a token as a whole, "golf" has no pair to start with
    merged = [tokenizer.token_bytes[token] for token in tokenizer.encode("o thell golf\tgolf")]
    assert merged == [b"o", b" the", b"ll", b" golf", b"\t", b"g", b"o", b"l", b"f"]
    assert tokenizer.decode([tokenizer.bos_id, *tokenizer.encode("<|endoftext|>")]) == "<|endoftext|>"


def test_damaged_rank_files_are_refused(tmp_path: Path) -> None:
    single = [bytes([byte]) for byte in range(256)]
    damaged = {
        "not a .tiktoken file": b"no ranks at all",
        "byte 255 is no token": ranks_content(single[:-1]),
        "257 tokens are not ranked": ranks_content(single) + b"YWI= 300\n",
    }
    for words, content in damaged.items():
        (tmp_path / "x.tiktoken").write_bytes(content)
        with pytest.raises(UserError, match=words):
            ByteBpeTokenizer(tmp_path / "x.tiktoken")


def test_bytes_beyond_16_bits_do_not_wrap(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="do not fit a shard"):
        write_shard(tmp_path / "fineweb_val_bytes_000000.bin", np.array([0, 70_000]))


def test_real_documents_and_official_tokenizers() -> None:
    data = os.environ.get("GOLF_DATA")
    if not data:
        pytest.skip("GOLF_DATA does not name a folder with real documents and official tokenizers")
    with open(Path(data, "docs", "val_fineweb_official_prefix.jsonl"), encoding="utf-8", newline="\n") as file:
        texts = [json.loads(line)["text"] for _, line in zip(range(60), file)]
    paths = [*map(str, sorted(Path(data, "tokenizers").glob("fineweb_*.model"))), "bytes"]
    for path in paths:
        tokenizer = load_tokenizer(path)
        report = normalisation_report(tokenizer, texts)
        assert report["exact"], path
        assert report["lost_bytes"] == 0, "these texts are normalised already"
        assert isinstance(byte_counter(load_tokenizer("bytes"), []), ByteTable)
