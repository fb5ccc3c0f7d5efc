"""Tokenizers: training, byte accounting, and messages where a tokenizer and the data do not belong together."""

import hashlib
import json
import os
import random
from pathlib import Path

import numpy as np
import pytest

from golf.data.accounting import normalisation_report
from golf.data.bytes import byte_table_from_sentencepiece
from golf.data.sentencepiece_training import train_sentencepiece
from golf.data.tokenizer import find_tokenizer, load_tokenizer
from golf.data.tokenizer_kinds import synthetic_description
from golf.errors import UserError

WORDS = ["the", "golf", "ball", "rolls", "over", "grass", "stops", "2026", "hole", "nine", "café", "naïve", "wind"]
AWKWARD = [
    "  two  spaces\tand\nlines ",
    "ﬁne ½ café 😀",
    "日本語 text",
    "plain",
    "NUL\0byte",
    "tail \u2581 mark",
    "３ wide",
]


def documents(count: int) -> list[str]:
    rng = random.Random(0)
    return [" ".join(rng.choices(WORDS, k=30)) for _ in range(count)]


@pytest.fixture(scope="module")
def model_path(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    path.write_bytes(train_sentencepiece(documents(200), 320))
    return path


def test_training_is_reproducible_and_has_the_challenges_ids(model_path: Path) -> None:
    assert train_sentencepiece(documents(200), 320) == model_path.read_bytes()
    tokenizer = load_tokenizer(str(model_path), 320)
    assert (tokenizer.kind, tokenizer.vocab_size, tokenizer.bos_id) == ("sentencepiece", 320, 1)
    assert tokenizer.sha256 == hashlib.sha256(model_path.read_bytes()).hexdigest()
    table = tokenizer.byte_table()
    assert np.flatnonzero(table.boundary).tolist() == [0, 1, 2, 3]
    assert table.base_bytes[4:260].tolist() == [1] * 256
    assert len(tokenizer.encode("2026")) == 4


def test_bytes_of_every_document_are_its_normalised_length(model_path: Path) -> None:
    tokenizer = load_tokenizer(str(model_path))
    report = normalisation_report(tokenizer, documents(20) + AWKWARD)
    assert report["exact"]
    assert report["counted_bytes"] == report["normalised_bytes"]
    assert report["changed_documents"] >= 3
    assert report["lost_bytes"] == report["raw_bytes"] - report["normalised_bytes"] != 0


def test_a_space_after_bos_is_not_counted(model_path: Path) -> None:
    table = byte_table_from_sentencepiece(model_path)
    spaced = int(np.flatnonzero(table.leading_space)[0])
    plain = 100
    assert table.count(np.array([plain]), np.array([spaced]))[0] == table.base_bytes[spaced] + 1
    assert table.count(np.array([1]), np.array([spaced]))[0] == table.base_bytes[spaced]
    assert table.count(np.array([spaced]), np.array([1]))[0] == 0


def test_pure_bytes_are_lossless(tmp_path: Path) -> None:
    tokenizer = load_tokenizer("bytes", 260)
    report = normalisation_report(tokenizer, AWKWARD)
    assert (report["lost_bytes"], report["changed_documents"], report["exact"]) == (0, 0, True)
    assert tokenizer.encode("A") == [69]
    for kind in ({"kind": "bytes"}, {"tokenizer_type": "pure_byte"}):
        path = tmp_path / "bytes.json"
        path.write_text(json.dumps(kind))
        assert load_tokenizer(str(path)).encode("A") == [69]


def test_the_synthetic_tokenizer_has_bytes_but_no_text(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(synthetic_description(64, 3))
    tokenizer = load_tokenizer(folder=tmp_path)
    assert tokenizer.byte_table().count_stream(np.array([1, 9, 1, 7])).tolist() == [3, 0, 3]
    assert tokenizer.decode([9, 7]) == "<9> <7>"
    with pytest.raises(UserError, match="no text"):
        tokenizer.encode("x")


def test_official_layout_is_found(tmp_path: Path, model_path: Path) -> None:
    (tmp_path / "datasets" / "fineweb10B_sp320").mkdir(parents=True)
    (tmp_path / "tokenizers").mkdir()
    (tmp_path / "tokenizers" / "fineweb_320_bpe.model").write_bytes(model_path.read_bytes())
    assert load_tokenizer(folder=tmp_path / "datasets" / "fineweb10B_sp320").vocab_size == 320


def test_the_only_model_in_the_folder_is_found_by_any_name(tmp_path: Path, model_path: Path) -> None:
    (tmp_path / "fineweb_320_bpe.model").write_bytes(model_path.read_bytes())
    assert load_tokenizer(folder=tmp_path).vocab_size == 320
    (tmp_path / "second.model").write_bytes(model_path.read_bytes())
    with pytest.raises(UserError, match=r"several tokenizers \(fineweb_320_bpe.model, second.model\); type tokenizer"):
        load_tokenizer(folder=tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(model_path.read_bytes())
    assert find_tokenizer(tmp_path) == str(tmp_path / "tokenizer.model")


def test_errors_say_what_to_type(tmp_path: Path, model_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "not.model").write_text("no model")
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "odd.json").write_text('{"kind": "odd"}')
    cases = {
        (str(model_path), 1024): r"has 320 ids.*type tokenizer\.vocab_size=320",
        (str(tmp_path / "absent.model"), None): r"cannot be read.*tokenizer\.path=",
        (str(tmp_path / "not.model"), None): "is not a SentencePiece model",
        (str(tmp_path / "list.json"), None): "is not a JSON object",
        (str(tmp_path / "odd.json"), None): "unknown kind 'odd'",
        ("auto", None): "needs a dataset folder",
    }
    for (path, vocab_size), words in cases.items():
        with pytest.raises(UserError, match=words) as caught:
            load_tokenizer(path, vocab_size)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"no tokenizer in .*type tokenizer\.path="):
        load_tokenizer(folder=tmp_path / "empty")
    with pytest.raises(UserError, match=r"tokenizer\.vocab_size="):
        train_sentencepiece(["short text"], 2048)


def test_published_byte_tables() -> None:
    conformance, data = os.environ.get("GOLF_CONFORMANCE"), os.environ.get("GOLF_DATA")
    if not conformance or not data:
        pytest.skip("GOLF_CONFORMANCE and GOLF_DATA do not name the vectors and the official tokenizers")
    vectors = json.loads((Path(conformance) / "components" / "byte_accounting.json").read_text())["tokenizers"]
    models = Path(data, "tokenizers").glob("*.model")
    by_hash = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in models}
    for vector in vectors.values():
        table = byte_table_from_sentencepiece(by_hash[vector["sha256"]])
        assert int(table.base_bytes.sum()) == vector["sum_base_bytes"]
        assert int(table.leading_space.sum()) == vector["n_leading_space"]
        assert int(table.boundary.sum()) == vector["n_boundary"]
        for sequence in vector["sequences"]:
            assert int(table.count_stream(np.array(sequence["ids"])).sum()) == sequence["bytes"]
