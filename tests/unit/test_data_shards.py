"""Shards: the format, every way in which a file can be wrong, and random access."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from golf.data.shards import Shards, read_shard, require_window, train_shards, validation_shards, write_shard
from golf.errors import UserError


def test_written_bytes_are_the_published_format(tmp_path: Path) -> None:
    path = tmp_path / "fineweb_train_000000.bin"
    write_shard(path, [1, 2, 65535])
    content = path.read_bytes()
    header = np.frombuffer(content[:1024], dtype="<i4")
    assert header[:3].tolist() == [20240520, 1, 3]
    assert not header[3:].any()
    assert content[1024:] == b"\x01\x00\x02\x00\xff\xff"
    assert read_shard(path).tolist() == [1, 2, 65535]


def corrupt(path: Path, place: int, value: int) -> None:
    header = np.fromfile(path, dtype="<i4", count=256)
    content = path.read_bytes()
    header[place] = value
    path.write_bytes(header.tobytes() + content[1024:])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.unlink(), "does not exist"),
        (lambda path: path.write_bytes(b"short"), "less than its 1024-byte header"),
        (lambda path: path.write_bytes(path.read_bytes()[:-2]), "asks for 1034"),
        (lambda path: path.write_bytes(path.read_bytes() + b"\0\0"), "has 1036 bytes"),
        (lambda path: corrupt(path, 0, 7), "magic 7"),
        (lambda path: corrupt(path, 1, 2), "version 2"),
        (lambda path: corrupt(path, 2, -1), "-1 tokens"),
    ],
)
def test_a_bad_shard_is_named_in_one_line(tmp_path: Path, damage, words: str) -> None:
    path = tmp_path / "fineweb_train_000000.bin"
    write_shard(path, np.arange(5))
    damage(path)
    for reader in (read_shard, lambda path: Shards([path])):
        with pytest.raises(UserError) as caught:
            reader(path)
        assert words in str(caught.value)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_ids_outside_the_vocabulary_are_refused_where_they_are(tmp_path: Path) -> None:
    write_shard(tmp_path / "fineweb_train_000000.bin", [1, 5, 99, 2])
    shards = Shards(train_shards(tmp_path), vocab_size=99)
    assert shards.take(0, 2).tolist() == [1, 5]
    with pytest.raises(UserError, match=r"token id 99, outside the vocabulary of 99.*tokenizer\.path"):
        shards.take(1, 2)


@pytest.mark.parametrize("tokens", [[], [[1, 2]], [-1], [65536]])
def test_tokens_that_do_not_fit_a_shard(tmp_path: Path, tokens: list) -> None:
    with pytest.raises(UserError):
        write_shard(tmp_path / "x.bin", tokens)


def test_byte_sidecars_are_not_tokens(tmp_path: Path) -> None:
    for name in ("fineweb_val_000001.bin", "fineweb_val_000000.bin", "fineweb_val_bytes_000000.bin"):
        write_shard(tmp_path / name, [1])
    assert [Path(path).name for path in validation_shards(tmp_path)] == [
        "fineweb_val_000000.bin",
        "fineweb_val_000001.bin",
    ]


def test_missing_folders_name_their_neighbours(tmp_path: Path) -> None:
    (tmp_path / "fineweb10B_sp1024").mkdir()
    write_shard(tmp_path / "fineweb10B_sp1024" / "fineweb_val_000000.bin", [1])
    with pytest.raises(UserError, match=r"there are: fineweb10B_sp1024; type data\.folder="):
        train_shards(tmp_path / "fineweb10B_sp8192")
    with pytest.raises(UserError, match=r"no fineweb_train_\*\.bin in"):
        train_shards(tmp_path / "fineweb10B_sp1024")
    with pytest.raises(UserError, match="no shard holds a token"):
        Shards([])


def test_spans_inside_a_shard_and_across_shards(tmp_path: Path) -> None:
    for index, tokens in enumerate(([0, 1, 2], [3], [4, 5, 6, 7])):
        write_shard(tmp_path / f"fineweb_train_{index:06d}.bin", tokens)
    shards = Shards(train_shards(tmp_path))
    assert len(shards) == 8
    assert shards.take(4, 3).tolist() == [4, 5, 6]
    assert shards.take(20, 3, wrap=True).tolist() == [4, 5, 6]
    assert shards.take(1, 5).tolist() == [1, 2, 3, 4, 5]
    assert shards.take(6, 12, wrap=True).tolist() == [6, 7, 0, 1, 2, 3, 4, 5, 6, 7, 0, 1]
    assert shards.take(8, 0, wrap=True).tolist() == []
    assert shards.read_all().tolist() == list(range(8))
    assert pickle.loads(pickle.dumps(shards)).take(2, 3).tolist() == [2, 3, 4]
    with pytest.raises(UserError, match="outside the stream of 8 tokens"):
        shards.take(6, 3)


def test_a_shard_that_has_become_shorter_is_said(tmp_path: Path) -> None:
    write_shard(tmp_path / "fineweb_train_000000.bin", range(9))
    shards = Shards(train_shards(tmp_path))
    write_shard(tmp_path / "fineweb_train_000000.bin", range(5))
    assert shards.take(3, 2).tolist() == [3, 4]
    for taken in (lambda: shards.take(3, 4), lambda: shards.read(0, 3, 4)):
        with pytest.raises(UserError, match="has become shorter than its header says; fetch it again"):
            taken()


def test_validation_shorter_than_a_window() -> None:
    require_window(1025, 1024)
    with pytest.raises(UserError, match=r"1024 tokens, shorter than one window of 1024 \+ 1; type data\.seq_len=1023"):
        require_window(1024, 1024)


def test_the_first_tokens_are_the_stream_of_files_that_end_there(tmp_path):
    """`first_tokens` in the middle of a shard: the same tokens, lengths and wrap as shorter files have."""
    tokens = np.arange(1, 301, dtype=np.uint16)
    for name, part in (("a", tokens[:100]), ("b", tokens[100:200]), ("c", tokens[200:])):
        write_shard(tmp_path / f"{name}.bin", part)
    write_shard(tmp_path / "short_b.bin", tokens[100:130])
    whole = Shards([tmp_path / f"{name}.bin" for name in "abc"], first_tokens=130)
    cut = Shards([tmp_path / "a.bin", tmp_path / "short_b.bin"])
    assert (len(whole), whole.lengths) == (len(cut), cut.lengths)
    for start, count in ((0, 130), (95, 10), (120, 40), (129, 300)):
        assert np.array_equal(whole.take(start, count, wrap=True), cut.take(start, count, wrap=True))
    with pytest.raises(UserError, match="outside"):
        whole.read(1, 25, 10)
    with pytest.raises(UserError, match=r"has only 300 tokens; type budget\.unique_tokens=300"):
        Shards([tmp_path / f"{name}.bin" for name in "abc"], first_tokens=301)
