"""CaseOps: the transform is its rules and bijective, malformed text is refused, bytes are those of the source."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golf.data.accounting import normalisation_report
from golf.data.caseops import CASE_OPERATORS, CaseOpsTokenizer, decode_case, encode_case, surface_bytes
from golf.data.dataset import open_folder, write_text_dataset
from golf.data.shards import read_shard, write_shard
from golf.data.tokenizer import load_tokenizer
from golf.errors import UserError
from golf.interop.conform import main as conform
from golf.interop.conform_caseops import check_caseops

WORDS = ["The", "golf", "BALL", "rolls", "over", "McDonald's", "grass", "U.S.A.", "iPhone", "café", "É", "9 IRON", "\n"]
MIXED = st.text(alphabet="abzABZ é1-\n" + CASE_OPERATORS, max_size=24)


def documents(count: int) -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, 20)) for _ in range(count)]


@pytest.fixture(scope="module")
def model_path(tmp_path_factory) -> Path:
    """A lossless CaseOps model: no normalisation, so that nothing of the text is lost."""
    from sentencepiece import SentencePieceTrainer

    place = tmp_path_factory.mktemp("caseops") / "tokenizer.model"
    with open(place, "wb") as file:
        SentencePieceTrainer.train(
            sentence_iterator=map(encode_case, documents(200)),
            model_writer=file,
            vocab_size=330,
            model_type="bpe",
            byte_fallback=True,
            hard_vocab_limit=False,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=False,
            user_defined_symbols=list(CASE_OPERATORS),
            pad_id=0,
            bos_id=1,
            eos_id=2,
            unk_id=3,
            minloglevel=2,
        )
    return place


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("hello", "hello"),
        ("Hello", "\ue001hello"),
        ("HELLO", "\ue002hello"),
        ("I", "\ue001i"),
        ("iPhone", "i\ue003phone"),
        ("McDonald's", "\ue001mc\ue003donald's"),
        ("ABc", "\ue001a\ue003bc"),
        ("A1B", "\ue001a1\ue001b"),
        ("ÉCOLE", "É\ue002cole"),
        ("\ue002A", "\ue004\ue002\ue001a"),
    ],
)
def test_every_rule(text: str, encoded: str) -> None:
    assert encode_case(text) == encoded
    assert decode_case(encoded) == text


@settings(max_examples=300, deadline=None)
@given(MIXED)
def test_it_is_a_bijection_without_ascii_capitals(text: str) -> None:
    encoded = encode_case(text)
    assert decode_case(encoded) == decode_case(encoded, strict=False) == text
    assert not any("A" <= character <= "Z" for character in encoded)


@pytest.mark.parametrize(
    "encoded",
    [
        "\ue001",
        "\ue003",
        "\ue004",
        "\ue001 x",
        "a\ue001b",
        "\ue0021",
        "\ue001\ue001a",
        "x\ue003",
        "\ue001é",
        "a\ue002b",
    ],
)
def test_malformed_text_is_refused_and_a_models_is_read_around(encoded: str) -> None:
    with pytest.raises(ValueError, match="malformed"):
        decode_case(encoded)
    assert not set(decode_case(encoded, strict=False)) & set(CASE_OPERATORS)


def test_surfaces_count_the_source() -> None:
    assert surface_bytes(["\ue001", "  the", "", "É", "\ue004", "\ue002x", "\ue004\ue004"]) == [0, 5, 0, 2, 0, 4, 3]


@settings(max_examples=60, deadline=None)
@given(text=MIXED)
def test_sidecar_bytes_are_the_documents_and_decoding_gives_it_back(model_path: Path, text: str) -> None:
    tokenizer = CaseOpsTokenizer(model_path)
    ids, counts = tokenizer.encode_with_bytes(text)
    assert ids == tokenizer.encode(text)
    assert sum(counts) == len(text.encode("utf-8"))
    assert tokenizer.decode(ids) == text


@pytest.fixture
def folder(tmp_path: Path, model_path: Path) -> Path:
    (tmp_path / "tokenizer.model").write_bytes(model_path.read_bytes())
    texts = {"train": documents(60)[30:], "val": documents(30)}
    write_text_dataset(tmp_path, texts, load_tokenizer(folder=tmp_path), {"name": "caseops"})
    return tmp_path


def test_a_dataset_has_its_sidecar_and_scores_divide_by_it(folder: Path) -> None:
    prepared = open_folder(folder)
    assert prepared.tokenizer().kind == "caseops"
    assert [Path(path).name for path in prepared.val_paths] == ["fineweb_val_000000.bin"]
    tokens, counter = prepared.validation_tokens(), prepared.byte_counter()
    counts = counter.bytes_of(0, len(tokens))
    assert int(counts.sum()) == sum(len(text.encode("utf-8")) for text in documents(30))
    assert not counts[tokens == 1].any()
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["splits"]["val"]["exact"]
    assert manifest["splits"]["val"]["lost_bytes"] == 0


def test_a_sidecar_that_does_not_fit_is_refused(folder: Path) -> None:
    path = folder / "fineweb_val_bytes_000000.bin"
    counts = np.array(read_shard(path))
    damaged = {
        r"counts the bytes of \d+ tokens, .* has \d+": counts[:-1],
        "BOS tokens have bytes, expected 0": np.maximum(counts, 1),
        "have their own length, expected over 80%": np.where(counts > 1, counts + 1, counts),
    }
    for words, wrong in damaged.items():
        write_shard(path, wrong)
        with pytest.raises(UserError, match=words) as caught:
            open_folder(folder).byte_counter()
        assert "\n" not in str(caught.value)
    path.unlink()
    with pytest.raises(UserError, match=r"CaseOps text, its bytes are in .*retokenise"):
        open_folder(folder).byte_counter()


def test_a_plain_model_is_not_taken_for_caseops(tmp_path: Path) -> None:
    from golf.data.sentencepiece_training import train_sentencepiece

    (tmp_path / "plain.model").write_bytes(train_sentencepiece(documents(50), 300))
    assert load_tokenizer(str(tmp_path / "plain.model")).kind == "sentencepiece"
    with pytest.raises(UserError, match="no CaseOps operators at ids 4 to 7"):
        CaseOpsTokenizer(tmp_path / "plain.model")


def test_conform_compares_text_and_names_a_missing_tokenizer(tmp_path: Path, capsys) -> None:
    path = tmp_path / "caseops_more.json"
    strings = [{"text": "Ab", "encoded": "\ue001ab", "ids": [4], "bytes_per_token": [2]}, {"text": "b", "encoded": "a"}]
    path.write_text(json.dumps({"strings": strings, "decoder_on_malformed": [{"encoded": "\ue001", "raises": True}]}))
    status = [check.status for check in check_caseops(path, None)]
    assert status == ["pass", "pass", "fail", "fail", "unsupported", "pass"]
    assert conform([str(path)]) == 4
    assert "no tokenizer with sha256" in capsys.readouterr().out


def test_published_vectors_and_documents() -> None:
    conformance, data = os.environ.get("GOLF_CONFORMANCE"), os.environ.get("GOLF_DATA")
    if not conformance or not data:
        pytest.skip("GOLF_CONFORMANCE and GOLF_DATA do not name the vectors and the published tokenizer")
    assert {check.status for check in check_caseops(Path(conformance, "components", "caseops.json"), Path(data))} == {
        "pass"
    }
    with open(Path(data, "docs", "val_fineweb_official_prefix.jsonl"), encoding="utf-8", newline="\n") as file:
        texts = [json.loads(line)["text"] for _, line in zip(range(100), file)]
    model = next(Path(data, "tokenizers").glob("*caseops*.model"))
    report = normalisation_report(CaseOpsTokenizer(model), texts)
    assert report["counted_bytes"] + report["lost_bytes"] == report["raw_bytes"]
    assert report["exact"], "these texts begin and end without white space"


def test_the_referee_counts_by_the_sidecar(folder: Path) -> None:
    from types import SimpleNamespace

    from golf.rules.material import counted_bytes, material_of
    from golf.rules.metric_rules import L28

    subject = SimpleNamespace(data_folder=folder, tokenizer_file=None, folder=None, summary={}, facts=[])
    subject.material = material = material_of(subject)
    subject.summary = {"ladder": [{"bytes": counted_bytes(material, 300), "tokens": 300}]}
    assert L28().check(subject, None).outcome == "pass"
    material.sources[2] += " and more"
    verdict = L28().check(subject, None)
    assert (verdict.outcome, verdict.evidence["document"]) == ("fail", 2)
    material.sources = None
    subject.summary["ladder"][0]["bytes"] += 1
    assert "the score was divided by" in L28().check(subject, None).reason


def test_a_token_worth_more_than_a_sidecar_can_say(tmp_path: Path) -> None:
    from golf.data.sentencepiece_training import train_sentencepiece
    from golf.data_commands.encode_worker import EncodeWorker
    from golf.data_commands.sources import DocumentBatch, Position

    path = tmp_path / "case.model"
    path.write_bytes(train_sentencepiece(documents(50), 320, user_defined_symbols=list(CASE_OPERATORS)))
    batch = DocumentBatch("docs.jsonl", 0, ["The" + " " * 70_000 + "ball"], Position())
    with pytest.raises(UserError, match="a token stands for 70,00"):
        EncodeWorker(str(path), "text").encode(batch, prove=True)
