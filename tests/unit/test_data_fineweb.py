"""Foreign shards: what is refused before training, and how far the overlap check reaches."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from golf.data.caseops import CASE_OPERATORS
from golf.data.fineweb import FinewebShards
from golf.data.overlap import check_overlap
from golf.data.sentencepiece_training import train_sentencepiece
from golf.data.shards import write_shard
from golf.data.tokenizer_kinds import pure_byte_description
from golf.errors import UserError

TRAIN, VALIDATION = "fineweb_train_000000.bin", "fineweb_val_000000.bin"


def documents(seed: int, count: int, length: int = 60) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.concatenate([np.append(1, rng.integers(4, 260, size=length)) for _ in range(count)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "fineweb_bytes"
    place.mkdir()
    write_shard(place / TRAIN, documents(0, 40))
    write_shard(place / VALIDATION, documents(1, 10))
    (place / "tokenizer.json").write_bytes(pure_byte_description())
    return place


def fineweb(folder: Path, **changes) -> FinewebShards:
    settings = {"vocab_size": 260, "tokens_per_step": 64, "seq_len": 8, "spans_per_step": 2}
    return FinewebShards(str(folder), **(settings | changes))


def test_a_good_folder_says_what_was_checked(folder: Path) -> None:
    lines: list[str] = []
    data = fineweb(folder)
    prepared = data.prepare(lines.append)
    assert lines == ["overlap check: 0 of 10 validation documents found in all 40 training documents"]
    assert data.stream(prepared, 260).batch(0).inputs_BT.shape == (4, 8)
    assert len(prepared.validation_tokens(260)) == 610


def test_evaluation_needs_no_training_shards(folder: Path) -> None:
    (folder / TRAIN).unlink()
    assert fineweb(folder).prepare(require_train=False).train_paths == ()
    with pytest.raises(UserError, match=r"no fineweb_train_\*\.bin"):
        fineweb(folder).prepare()


def test_faults_are_found_before_training(folder: Path) -> None:
    with pytest.raises(UserError, match=r"has 260 ids, but tokenizer\.vocab_size=1024"):
        fineweb(folder, vocab_size=1024).prepare()
    with pytest.raises(UserError, match="shorter than one window of 1024"):
        fineweb(folder, seq_len=1024).prepare()
    write_shard(folder / TRAIN, [1, 300])
    with pytest.raises(UserError, match="token id 300, outside the vocabulary of 260"):
        fineweb(folder).prepare()


def test_shards_of_a_smaller_vocabulary_are_noticed(folder: Path, tmp_path: Path) -> None:
    words = [f"w{number:x}y{number * 7:x}" for number in range(3000)]
    (tmp_path / "big.model").write_bytes(train_sentencepiece(words, 600))
    write_shard(folder / VALIDATION, documents(1, 60))
    with pytest.raises(UserError, match=r"uses no id above 259.*tokenizer\.path="):
        fineweb(folder, tokenizer=str(tmp_path / "big.model"), vocab_size=600).prepare()


def test_what_is_absent_names_the_command_that_makes_it(folder: Path, tmp_path: Path) -> None:
    caseops = tmp_path / "datasets" / "fineweb10B_sp8192_lossless_caps_caseops_v1_reserved"
    make = r"make it: golf data download --variant sp8192_lossless_caps_caseops_v1_reserved$"
    with pytest.raises(UserError, match=f"does not exist.*{make}"):
        fineweb(caseops).prepare()
    caseops.mkdir(parents=True)
    for name in (TRAIN, VALIDATION):
        shutil.copy(folder / name, caseops / name)
    with pytest.raises(UserError, match=f"no tokenizer in .*{make}"):
        fineweb(caseops).prepare()
    words = [f"\ue001w{number:x} \ue002y{number * 7:x}" for number in range(3000)]
    model = train_sentencepiece(words, 560, user_defined_symbols=list(CASE_OPERATORS))
    (caseops / "tokenizer.model").write_bytes(model)
    with pytest.raises(UserError, match=f"is CaseOps text, its bytes are in .*fineweb_val_bytes_000000.bin.*{make}"):
        fineweb(caseops, vocab_size=560).prepare()
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"make it: golf data retokenise docs_selected\.jsonl --tokenizer <file> --out"):
        fineweb(folder).prepare()


@pytest.mark.parametrize("make", [shutil.copy, os.link, os.symlink])
def test_the_validation_file_among_the_training_files(folder: Path, make) -> None:
    make(folder / VALIDATION, folder / "fineweb_train_000001.bin")
    with pytest.raises(UserError, match=r"fineweb_train_000001\.bin is the validation shard .*data\.folder="):
        fineweb(folder).prepare()


def test_validation_documents_hidden_in_training(folder: Path) -> None:
    hidden = np.concatenate([documents(0, 200), documents(1, 10)[61:122], documents(3, 5)])
    write_shard(folder / TRAIN, hidden)
    with pytest.raises(UserError, match="1 of 10 validation documents are among 206 training documents looked at"):
        fineweb(folder).prepare()


def test_an_honest_duplicate_is_reported_and_a_cluster_refused(tmp_path: Path) -> None:
    train, validation = str(tmp_path / TRAIN), str(tmp_path / VALIDATION)
    write_shard(validation, documents(1, 500))
    write_shard(train, np.concatenate([documents(0, 300), documents(1, 500)[:61], documents(2, 5)]))
    report = check_overlap([train], [validation], 1)
    assert (report.shared_documents, report.train_documents, report.complete) == (1, 306, True)
    write_shard(train, np.concatenate([documents(1, 500)[: 3 * 61], documents(0, 2000)]))
    report = check_overlap([train], [validation], 1)
    assert report.shared_documents == 3
    with pytest.raises(UserError, match=r"3 of \d+ documents at tokens 0 to 2500 of"):
        check_overlap([train], [validation], 1, sampled_tokens=10_000)


def test_data_without_documents_is_compared_by_file_only(tmp_path: Path) -> None:
    train, validation = str(tmp_path / TRAIN), str(tmp_path / VALIDATION)
    write_shard(validation, np.arange(4, 200))
    write_shard(train, np.arange(4, 220))
    assert str(check_overlap([train], [validation], 1)) == "overlap check: files only (no document boundaries found)"
