"""Codecs: identity, bounds and refusals, and the options in conf/codec."""

import builtins
import resource
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from golf.codec.brotli_codec import BrotliCodec
from golf.codec.catalogue import CODECS, codec_named
from golf.codec.lzma_codec import LzmaCodec
from golf.codec.zlib_codec import ZlibCodec
from golf.codec.zpaq_codec import ZpaqCodec
from golf.codec.zstd_codec import ZstdCodec
from golf.errors import UserError

FOLDER = Path(__file__).parents[2] / "conf" / "codec"
OPTIONS = sorted(path for path in FOLDER.glob("*.yaml") if "_target_" in path.read_text())
PACKAGES = {"zstd": "zstandard", "brotli": "brotli", "zpaq": "zpaq", "grouped_brotli": "brotli", "grouped_zpaq": "zpaq"}
PAYLOADS = [b"", b"\0", b"golf" * 5000, bytes(range(256)) * 40]


@pytest.fixture(params=CODECS, ids=lambda codec: codec.name)
def codec(request):
    pytest.importorskip(PACKAGES.get(request.param.name, "zlib"))
    return request.param()


@pytest.mark.parametrize("data", PAYLOADS, ids=len)
def test_decode_undoes_encode_and_stays_within_its_bound(codec, data):
    packed = codec.encode(data)
    assert codec.decode(packed) == data
    assert codec.decode(packed, len(data)) == data
    assert codec.encode(data) == packed
    if data:
        with pytest.raises(UserError, match="longer than"):
            codec.decode(packed, len(data) - 1)


def test_truncated_and_trailed_streams_are_refused(codec):
    if codec.name == "none":
        pytest.skip("no structure to damage: the container checks sizes")
    packed = codec.encode(PAYLOADS[2])
    for damaged in (packed[:-1], packed[: len(packed) // 2], packed[:1], b"", packed + b"x"):
        with pytest.raises(UserError, match=f"damaged {codec.name.removeprefix('grouped_')} stream"):
            codec.decode(damaged)


def test_a_bomb_stops_at_the_bound(codec):
    if codec.name == "none":
        pytest.skip("does not expand")
    bomb = (codec if codec.name == "range" else type(codec)(level=1)).encode(bytes(2**24))
    with pytest.raises(UserError, match=r"longer than the 1,000 bytes"):
        codec.decode(bomb, 1000)


@pytest.mark.parametrize("path", OPTIONS, ids=lambda path: path.stem)
def test_options_build_the_codec_of_their_name(path):
    node = yaml.safe_load(path.read_text())
    module, name = node.pop("_target_").rsplit(".", 1)
    assert getattr(import_module(module), name)(**node).name == path.stem


@pytest.mark.parametrize("make", [ZlibCodec, LzmaCodec, ZstdCodec, BrotliCodec, ZpaqCodec])
@pytest.mark.parametrize("level", [99, -1, 1.5, True])
def test_levels_out_of_range_are_refused_at_construction(make, level):
    with pytest.raises(UserError, match=r"codec\.level="):
        make(level=level)


def test_an_unknown_codec_is_named():
    with pytest.raises(UserError, match="unknown codec 'zpaq9'"):
        codec_named("zpaq9")


@pytest.mark.parametrize(("make", "package"), [(ZstdCodec, "zstandard"), (BrotliCodec, "brotli"), (ZpaqCodec, "zpaq")])
def test_a_missing_package_is_named_with_the_command(make, package, monkeypatch):
    real_import = builtins.__import__

    def without(name, *arguments, **keywords):
        if name == package:
            raise ImportError(name)
        return real_import(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    for call in (make().encode, make().decode):
        with pytest.raises(UserError, match=f"pip install '{package}"):
            call(b"x")


def test_a_zpaq_stream_with_a_second_block_is_refused():
    """A second block would bring a model of its own, which nobody has looked at."""
    codec = ZpaqCodec(1)
    data = codec.encode(b"weights" * 50)
    rest = data[9:] + bytes.fromhex("376b5374a03183d38cb228b0d3") + b"zPQ\2\1"
    with pytest.raises(UserError, match="a second block"):
        codec.decode(data[:5] + len(rest).to_bytes(4, "little") + rest)
    assert codec.decode(data) == b"weights" * 50


def test_a_zpaq_block_that_goes_on_and_on_is_stopped():
    """A block says nowhere how long it becomes: 53 bytes of a megabyte, declared as 100 bytes."""
    codec = ZpaqCodec()
    data = codec.encode(bytes(2**20 - 4096))
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    with pytest.raises(UserError, match=r"damaged zpaq stream \(not 100 bytes within 0\.75 s"):
        codec.decode(data[:1] + (100).to_bytes(4, "little") + data[5:])
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - children < 2.0  # it would take 6


def test_zpaq_refuses_what_its_process_has_no_memory_for(monkeypatch):
    monkeypatch.setattr("golf.codec.zpaq_codec.ZPAQ_MOST_BYTES", 100)
    with pytest.raises(UserError, match="at most 100 bytes: type codec=brotli"):
        ZpaqCodec().encode(bytes(101))
    with pytest.raises(UserError, match="longer than"):
        ZpaqCodec().decode(bytes([5]) + (101).to_bytes(4, "little") + (1).to_bytes(4, "little") + b"x")
