"""Codecs by the name that a file carries: what a reader needs when nobody told it how the file was packed."""

from golf.codec.brotli_codec import BrotliCodec
from golf.codec.grouped_codec import GroupedBrotli, GroupedZpaq
from golf.codec.lzma_codec import LzmaCodec
from golf.codec.none_codec import NoCodec
from golf.codec.protocol import Codec
from golf.codec.range_codec import RangeCodec
from golf.codec.zlib_codec import ZlibCodec
from golf.codec.zpaq_codec import ZpaqCodec
from golf.codec.zstd_codec import ZstdCodec
from golf.errors import UserError

CODECS = (NoCodec, ZlibCodec, LzmaCodec, ZstdCodec, BrotliCodec, ZpaqCodec, GroupedBrotli, GroupedZpaq, RangeCodec)


def codec_named(name: str) -> Codec:
    """The codec that a container names in its first bytes, with its default settings (decoding needs no others)."""
    for codec in CODECS:
        if codec.name == name:
            return codec()
    known = ", ".join(codec.name for codec in CODECS)
    raise UserError(f"unknown codec '{name}' (this golf reads {known}): upgrade golf (git pull && make install)")
