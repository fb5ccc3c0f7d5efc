"""The artifact container: what is in it, that its bytes are determined, and how it refuses."""

import errno
import hashlib
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import torch

from golf.codec.artifact import artifact_bytes, bytes_by_class, pack, read_artifact
from golf.codec.none_codec import NoCodec
from golf.codec.size import LIMIT_BYTES, require_fit, total_bytes, with_code
from golf.codec.zlib_codec import ZlibCodec
from golf.errors import LimitExceeded, UserError
from golf.quant.plan import QuantPlan
from golf.quant.state import same_state

NETWORK = {"_target_": "golf.models.gpt.GPT", "width": 32, "softcap": 30.0, "nested": {"list": [1, 2.5, None, True]}}
TOKENIZER = {"kind": "sentencepiece", "vocab_size": 64, "sha256": "ab" * 32}


def quantised():
    generator = torch.Generator().manual_seed(0)
    state = {
        "tok_emb.weight": torch.randn(64, 32, generator=generator).bfloat16(),
        "skip_weights": torch.randn(2, 32, generator=generator),
    }
    roles = {"tok_emb.weight": "embedding", "skip_weights": "scalar"}
    for layer in (0, 2, 10):
        for name in ("attn.c_q.weight", "mlp.fc.weight"):
            state[f"blocks.{layer}.{name}"] = torch.randn(32, 32, generator=generator)
            roles[f"blocks.{layer}.{name}"] = "matrix"
    return QuantPlan(small_numel=100).quantise(state, roles)


def test_what_is_packed_is_what_is_read(tmp_path):
    path = tmp_path / "new" / "model.golf"
    sizes = pack(path, quantised(), NETWORK, TOKENIZER, ZlibCodec())
    artifact = read_artifact(path)
    assert artifact.network == NETWORK
    assert artifact.tokenizer == TOKENIZER
    assert artifact.codec == "zlib"
    assert same_state(artifact.quantised.dequantise(), quantised().dequantise())
    assert artifact.quantised.payload_bytes() == quantised().payload_bytes()
    assert sizes == artifact.sizes == bytes_by_class(path)
    assert sum(sizes.values()) == os.path.getsize(path) == total_bytes(path)
    assert set(sizes) == {"embedding", "attention_q", "mlp_in", "scalars", "scales", "metadata"}
    assert same_state(read_artifact(path, ZlibCodec()).quantised.dequantise(), quantised().dequantise())
    # The canonical order: classes, then like names with their numbers in order; the insertion order does not matter.
    layers = [name for name in artifact.quantised.tensors if "c_q" in name]
    assert layers == [f"blocks.{layer}.attn.c_q.weight" for layer in (0, 2, 10)]


def test_reading_with_another_codec_says_so(tmp_path):
    path = tmp_path / "model.golf"
    pack(path, quantised(), NETWORK, TOKENIZER, ZlibCodec())
    with pytest.raises(UserError, match="packed with codec 'zlib', not 'none'"):
        read_artifact(path, NoCodec())


def test_the_bytes_are_the_same_in_another_process_and_order(tmp_path):
    state = quantised()
    turned = type(state)(dict(reversed(state.tensors.items())), dict(reversed(state.classes.items())))
    digest = hashlib.sha256(artifact_bytes(state, NETWORK, TOKENIZER, ZlibCodec())[0]).hexdigest()
    assert hashlib.sha256(artifact_bytes(turned, NETWORK, TOKENIZER, ZlibCodec())[0]).hexdigest() == digest
    program = (
        "import hashlib, sys; sys.path.insert(0, sys.argv[1]); import test_codec_artifact as here; "
        "from golf.codec.artifact import artifact_bytes; from golf.codec.zlib_codec import ZlibCodec; "
        "blob = artifact_bytes(here.quantised(), here.NETWORK, here.TOKENIZER, ZlibCodec())[0]; "
        "print(hashlib.sha256(blob).hexdigest())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "77", "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-c", program, str(Path(__file__).parent)]
    other = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == digest


def damaged(path, change):
    blob = bytearray(path.read_bytes())
    change(blob)
    path.write_bytes(blob)


def test_a_newer_container_is_told_to_upgrade(tmp_path):
    path = tmp_path / "model.golf"
    pack(path, quantised(), NETWORK, TOKENIZER, ZlibCodec())
    damaged(path, lambda blob: struct.pack_into("<H", blob, 4, 3))
    with pytest.raises(UserError, match=r"newer golf \(container 3, this one reads 2\): upgrade with"):
        read_artifact(path)


def test_wrong_files_are_refused_in_one_line(tmp_path):
    path = tmp_path / "model.golf"
    for content in (b"", b"GOL", b"PK\x03\x04" + bytes(100), bytes(4000)):
        path.write_bytes(content)
        with pytest.raises(UserError, match="is not a golf artifact"):
            read_artifact(path)
    with pytest.raises(UserError, match="cannot read"):
        read_artifact(tmp_path / "absent.golf")
    with pytest.raises(UserError, match="cannot read"):
        read_artifact(tmp_path)


def test_header_data_must_be_plain(tmp_path):
    for network in ({"x": {1, 2}}, {"x": float("nan")}, {"x": torch.ones(1)}):
        with pytest.raises(UserError, match="must be plain data"):
            pack(tmp_path / "model.golf", quantised(), network, TOKENIZER, ZlibCodec())
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_last_artifact(tmp_path, monkeypatch):
    path = tmp_path / "model.golf"
    pack(path, quantised(), NETWORK, TOKENIZER, ZlibCodec())
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("golf.codec.files.os.fsync", full)
    with pytest.raises(UserError, match=r"cannot write .*No space left on device"):
        pack(path, quantised(), {}, TOKENIZER, NoCodec())
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.golf"]


def test_sizes_add_up_with_code_and_the_limit_is_decimal(tmp_path):
    path, code = tmp_path / "model.golf", tmp_path / "train_gpt.py"
    code.write_bytes(b"#" * 1234)
    sizes = with_code(pack(path, quantised(), NETWORK, TOKENIZER, ZlibCodec()), code)
    assert sizes["code"] == 1234
    assert sum(sizes.values()) == total_bytes(path, code) == require_fit(sizes)
    assert LIMIT_BYTES == 16_000_000
    assert require_fit({"mlp": LIMIT_BYTES}) == LIMIT_BYTES
    with pytest.raises(LimitExceeded, match=r"16,000,001 bytes are 1 over .*\(mlp 16,000,000, code 1\)") as caught:
        require_fit({"code": 1, "mlp": LIMIT_BYTES})
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)


def rewritten(blob: bytes, change) -> bytes:
    """An artifact (codec none) whose header was edited and whose header CRC was made right again."""
    length = struct.unpack_from("<I", blob, 11)[0]
    header = change(blob[23 : 23 + length])
    prefix = blob[:11] + struct.pack("<II", len(header), len(header))
    return prefix + struct.pack("<I", zlib.crc32(header, zlib.crc32(prefix))) + header + blob[23 + length :]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"[64,32]", b"[64,99999999]"),
        (b"[64,32]", b"[-64,-32]"),
        (b"[64,32]", b"[64,31]"),
        (b"[64,32]", b"[64,true]"),
        (b'"int8"', b'"int99"'),
        (b'"int8"', b'"float32"'),
        (b'"kind":', b'"x":NaN,"kind":'),
        (b'"network":{', b'"network":[],"y":{'),
        (b'"sections":[[', b'"sections":[[4000000000,4000000000,0],['),
        (b'"sections":[[', b'"sections":[[0,4000000000,0],['),
        (b'"code_max":127', b'"code_max":"x"'),
        (b'"code_max":127', b'"code_max":1270'),
        (b'"tok_emb.weight"', b'"skip_weights"'),
        (b'"embedding"', b'"wheels"'),
        (b'{"groups"', b"[" * 100_000 + b'{"groups"'),
        (b'"layouts":[', b'"layouts":[-1,'),
        (b'"bits":8', b'"bits":' + b"9" * 5000),
    ],
)
def test_a_hostile_header_with_a_right_crc_is_refused(tmp_path, old, new):
    path = tmp_path / "model.golf"
    blob = artifact_bytes(quantised(), NETWORK, TOKENIZER, NoCodec())[0]
    path.write_bytes(rewritten(blob, lambda header: header))
    read_artifact(path)
    assert old in blob
    path.write_bytes(rewritten(blob, lambda header: header.replace(old, new)))
    with pytest.raises(UserError) as caught:
        read_artifact(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
