"""The records' containers: every one gives the same tensors; damaged, hostile and huge ones are refused in one line."""

import pickle
import random
import struct
import sys
import time
from pathlib import Path

import brotli
import pytest
import torch

from golf.errors import UserError
from golf.interop import lrzip as lrzip_module
from golf.interop.lrzip import expand_lrzip
from golf.interop.ptz import read_ptz, read_ptz_and_format, write_ptz
from golf.quant.lowrank import CorrectedTensor
from golf.quant.state import same_state

sys.path.insert(0, str(Path(__file__).parent))
from ptz_files import CONTAINERS, lrzip, model_digest, pergroup, record_tables, saved, shuffled


@pytest.fixture(autouse=True)
def small_model(monkeypatch):
    monkeypatch.setattr(lrzip_module, "KNOWN_MODELS", (model_digest(),))


def expected_state() -> dict[str, torch.Tensor]:
    """Decoded by the formula, independently of golf's classes."""
    document = record_tables()
    weights, found = document["w"], {}
    for name, what in document["m"].items():
        if what.startswith("passthrough"):
            found[name] = weights[name].float()
            continue
        codes, scales = ("gq", "gs") if what == "gate_int8_row" else ("q", "scale")
        found[name] = weights[f"{name}.{codes}"].float() * weights[f"{name}.{scales}"].float()[:, None]
        if "lqer" in what:
            ending = "_a" if what.endswith("asym") else ""
            sides = []
            for key in ("lqA", "lqB"):
                factor, scale = weights[f"{name}.{key}{ending}"], weights[f"{name}.{key}s{ending}"].float().reshape(-1)
                sides.append((factor.reshape(len(scale), -1).float() * scale[:, None]).reshape(factor.shape))
            product = sides[0].double() @ sides[1].double()
            found[name] = (found[name].double() + product).float()
    return found


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container_gives_the_same_tensors(container, tmp_path):
    path = tmp_path / "final_model.int6.ptz"
    path.write_bytes(CONTAINERS[container](record_tables()))
    stored, kind = read_ptz_and_format(path)
    state, expected = stored.dequantise(), expected_state()
    assert kind == "record"
    assert list(state) == list(expected)
    corrected = [name for name, tensor in stored.tensors.items() if isinstance(tensor, CorrectedTensor)]
    assert corrected == ["blocks.0.mlp.fc.weight", "blocks.1.mlp.proj.weight"]
    for name in corrected:
        torch.testing.assert_close(state.pop(name), expected.pop(name), rtol=0, atol=1e-6)
    assert same_state(state, expected)
    with pytest.raises(UserError, match="export with quant=int8_rows"):
        write_ptz(tmp_path / "again.ptz", stored)


def test_rzip_copies_are_followed():
    raw = b"abcdef" * 50 + b"xyz" + b"abcdef" * 2
    commands = struct.pack("<BH", 0, 6) + struct.pack("<BH", 1, 294) + (6).to_bytes(3, "little")
    commands += struct.pack("<BH", 0, 3) + struct.pack("<BH", 1, 12) + (303).to_bytes(3, "little")
    file = lrzip(raw, b"abcdefxyz", commands)
    assert expand_lrzip([file, lrzip(b"q" * 70000)], [len(raw), 70000]) == [raw, b"q" * 70000]
    far = lrzip(raw, b"abcdefxyz", commands.replace((303).to_bytes(3, "little"), (9999).to_bytes(3, "little")))
    for broken, size, message in (
        (far, len(raw), "impossible command"),
        (file, len(raw) + 1, "where the matrices have"),
        (file[:-1] + b"!", len(raw), "MD5 differs"),
        (file[:-40], len(raw), "outside|truncated"),
        (lrzip(raw, b"abcdefxyzxyz", commands), len(raw), "shorter than it says"),
        (lrzip(raw, b"abcdefxyz", commands[:-6]), len(raw), "shorter than it says"),
    ):
        with pytest.raises(UserError, match=message):
            expand_lrzip([broken], [size])


def test_an_unknown_zpaq_model_is_not_run(monkeypatch):
    monkeypatch.setattr(lrzip_module, "KNOWN_MODELS", ())
    with pytest.raises(UserError, match="not run"):
        expand_lrzip([lrzip(b"abc")], [3])


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (Path.mkdir, (Path(self.marker),))


@pytest.mark.parametrize("container", CONTAINERS)
def test_code_in_a_pickle_is_refused_and_not_run(container, tmp_path):
    path, marker = tmp_path / "evil.ptz", tmp_path / "executed"
    document = record_tables(layers=2)
    document["m"]["evil"] = Evil(str(marker))
    path.write_bytes(CONTAINERS[container](document))
    with pytest.raises(UserError, match="not run"):
        read_ptz(path)
    path.write_bytes(brotli.compress(pickle.dumps(document)))
    with pytest.raises(UserError, match="does not hold a torch"):
        read_ptz(path)
    assert not marker.exists()


def change(table, key, value):
    def apply(document):
        if value is None:
            del document[table][key]
        else:
            document[table][key] = value

    return apply


@pytest.mark.parametrize(
    ("apply", "message"),
    [
        (change("w", "tok_emb.weight.q", None), "'tok_emb.weight.q' is missing"),
        (change("w", "blocks.0.mlp.fc.weight.lqB_a", None), "lqB_a' is missing"),
        (change("w", "extra", torch.zeros(2)), "'extra' is not described"),
        (change("w", "blocks.0.attn_scale", 3), "is a int"),
        (change("w", "blocks.0.attn.c_q.weight.scale", torch.ones(31)), "31.* scales for codes"),
        (change("w", "blocks.0.attn.c_q.weight.q", torch.full((32, 32), 32, dtype=torch.int8)), "in 6 bits"),
        (change("w", "blocks.0.attn.c_q.weight.q", torch.zeros(32, 32)), "codes must be int8"),
        (change("w", "blocks.0.mlp.fc.weight.lqA_a", torch.zeros(5, 4).char()), "does not belong"),
        (change("m", "blocks.0.attn_scale", "magic"), "'magic' is not a kind"),
        (change("m", "blocks.0.attn_scale", ["gptq"]), "no text"),
        (lambda document: document.update(x={}), "its tables are m, w, x"),
        (lambda document: document.update(w=torch.zeros(1)), "its tables are m, w"),
    ],
)
def test_inconsistent_tables_are_refused_in_one_line(apply, message, tmp_path):
    document, path = record_tables(layers=2), tmp_path / "wrong.ptz"
    apply(document)
    path.write_bytes(brotli.compress(saved(document), quality=2))
    with pytest.raises(UserError, match=message) as caught:
        read_ptz(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x28\xb5\x2f\xfd" + bytes(9), "zstd.* is damaged"),
        (b"\xfd7zXZ\x00" + bytes(9), "xz.* is damaged"),
        (b"PGRP" + struct.pack("<4I", 3, 1, 1, 1), "streams"),
        (b"PGRP" + struct.pack("<I", 2**31), "table of streams"),
        (brotli.compress(b"BSHF\x02"), "shuffled"),
        (brotli.compress(shuffled(b"hello world")), "shuffled"),
        (brotli.compress(b"BSHF\x00" + bytes(100)), "shuffled"),
        (brotli.compress(bytes(600 << 20), quality=1), "damaged, incomplete"),
        (pergroup(record_tables(2))[:-10], "its streams"),
    ],
)
def test_other_bytes_are_refused_in_one_line(content, message, tmp_path):
    path = tmp_path / "other.ptz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_ptz(path)
    assert "\n" not in str(caught.value)


def mutated(blob: bytes, chance: random.Random) -> bytes:
    """One of: flipped bits, a cut, bytes left out, doubled or moved, a huge number somewhere."""
    out = bytearray(blob)
    kind, at = chance.randrange(6), chance.randrange(len(out))
    if kind == 0:
        for _ in range(chance.randint(1, 4)):
            out[chance.randrange(len(out))] ^= 1 << chance.randrange(8)
    elif kind == 1:
        del out[at:]
    elif kind == 2:
        del out[at : at + chance.randint(1, 64)]
    elif kind == 3:
        out[at:at] = out[at : at + chance.randint(1, 64)]
    elif kind == 4:
        at = chance.randrange(min(len(out), 64))
        out[at : at + 4] = struct.pack("<I", chance.choice([2**32 - 1, 2**31, 2**20, 0]))
    else:
        middle = len(out) // 2
        out = out[middle:] + out[:middle]
    return bytes(out)


@pytest.mark.parametrize("container", CONTAINERS)
def test_mutated_files_are_read_or_refused_in_one_line(container, tmp_path):
    path, chance = tmp_path / "fuzz.ptz", random.Random(container)
    blob = CONTAINERS[container](record_tables(layers=2))
    complaints = []
    for _ in range(200 if container == "pergroup" else 300):
        path.write_bytes(mutated(blob, chance))
        started = time.process_time()
        try:
            read_ptz(path).dequantise()
        except UserError as error:
            complaints.append(str(error))
        assert time.process_time() - started < 2
    assert len(complaints) > 60
    assert [text for text in complaints if "\n" in text] == []
