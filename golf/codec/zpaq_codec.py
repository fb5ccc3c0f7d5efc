"""ZPAQ, level 5: a context-mixing compressor, what the record of 2026-04-27 used through the program `lrzip`.

A ZPAQ stream opens with a description of its model, about 280 bytes that follow from the level and the size; they
are not stored, the decoder makes them anew: a stream that describes another model is not run, and one that goes on with
a second block (which would describe its own) is refused. A block says nowhere how long it becomes and the package has
no bound, so each is expanded in a process of its own whose processor time follows from the declared size.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from golf.codec.protocol import DECODE_LIMIT_BYTES, damaged_stream, missing_package, require_level
from golf.errors import UserError

# libzpaq's own language; the last is exactly its level 5 for data that is neither text nor code.
ZPAQ_ONE_BYTE_TAIL = 14
# What libzpaq looks for to begin another block.
ZPAQ_BLOCK_MARK = b"\x37\x6b\x53\x74\xa0\x31\x83\xd3\x8c\xb2\x28\xb0\xd3"
# Arguments: seconds of processor time, expanded size, folder of the package. Systems without such limits (Windows) have
# the parent's clock alone.
ZPAQ_CHILD = """import sys
try:
 import signal,resource as r
 signal.setitimer(signal.ITIMER_PROF,float(sys.argv[1]))
 r.setrlimit(r.RLIMIT_AS,(3<<30,3<<30))
except(ImportError,OSError,ValueError):pass
sys.path.insert(0,sys.argv[3])
from zpaq import decompress
out=decompress(sys.stdin.buffer.read(),threads=1)
if len(out)==int(sys.argv[2]):sys.stdout.buffer.write(out)
"""
ZPAQ_MOST_BYTES = (128 << 20) - 4096  # level 5 reserves 1.8 GB for that many; for more, over the child's 3 GiB
ZPAQ_CPU_SECONDS_AT_LEAST = 0.75  # seven times what a short stream takes
ZPAQ_CPU_SECONDS_PER_BYTE = 30 / 2**20  # five times what level 5 takes
ZPAQ_MODELS = (
    "0c",
    "0cm",
    "0ci1m",
    "0ci1,1,1,1,2am",
    "0w1i1c256ci1,1,1,1,1,1,2ac0,2,0,255i1c0,3,0,0,255i1c0,4,0,0,0,255i1mm16ts19t0",
)


def model_description(compress: Callable[..., bytes], method: str) -> bytes:
    """What every stream of a method opens with: a stream of one byte, less its length, code and end."""
    return compress(b"\0", method=method, threads=1)[:-ZPAQ_ONE_BYTE_TAIL]


class ZpaqCodec:
    """ZPAQ streams, one block on one thread, through the package `zpaq`.

    Args:
        level: 1 (fastest) to 5 (smallest).
    """

    name = "zpaq"

    def __init__(self, level: int = 5) -> None:
        self.level = require_level(self.name, level, 1, 5)
        self.openings: dict[str, bytes] = {}  # making one takes as long as expanding a short stream

    def opening(self, compress: Callable[..., bytes], method: str) -> bytes:
        """What every stream of a method opens with."""
        if method not in self.openings:
            self.openings[method] = model_description(compress, method)
        return self.openings[method]

    def method(self, level: int, size: int) -> str:
        """libzpaq's name of the model: contexts for binary data, memory for blocks of up to 2^k MiB."""
        block = max(0, (size + 4095 >> 20).bit_length())
        return f"x{block},{ZPAQ_MODELS[level - 1]}"

    def encode(self, data: bytes) -> bytes:
        try:
            from zpaq import compress
        except ImportError as error:
            raise UserError(missing_package(self.name, "zpaq")) from error
        head = bytes([self.level]) + len(data).to_bytes(4, "little")
        if not data:
            return head
        if len(data) > ZPAQ_MOST_BYTES:
            raise UserError(f"codec=zpaq packs sections of at most {ZPAQ_MOST_BYTES:,} bytes: type codec=brotli")
        method = self.method(self.level, len(data))
        opening = self.opening(compress, method)
        packed = compress(data, method=method, threads=1)
        if not packed.startswith(opening):
            raise UserError(missing_package(self.name, "zpaq==0.3.*"))
        rest = packed[len(opening) :]
        return head + len(rest).to_bytes(4, "little") + rest

    def decode(self, data: bytes, limit_bytes: int = DECODE_LIMIT_BYTES) -> bytes:
        try:
            import zpaq
        except ImportError as error:
            raise UserError(missing_package(self.name, "zpaq")) from error
        size, stored = int.from_bytes(data[1:5], "little"), int.from_bytes(data[5:9], "little")
        if len(data) < 5 or not 1 <= data[0] <= 5 or len(data) != (9 + stored if size else 5):
            raise damaged_stream(self.name, "truncated, or bytes after its end")
        if size > min(limit_bytes, ZPAQ_MOST_BYTES):
            raise damaged_stream(self.name, f"longer than the {limit_bytes:,} bytes declared")
        if not size:
            return b""
        if ZPAQ_BLOCK_MARK in data[9:]:
            raise damaged_stream(self.name, "a second block")
        seconds = ZPAQ_CPU_SECONDS_AT_LEAST + ZPAQ_CPU_SECONDS_PER_BYTE * size
        limits = [str(seconds), str(size), str(Path(zpaq.__file__).parents[1])]
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-S", "-c", ZPAQ_CHILD, *limits],
                input=self.opening(zpaq.compress, self.method(data[0], size)) + data[9:],
                capture_output=True,
                timeout=60 + 10 * seconds,
            )
        except subprocess.TimeoutExpired as problem:
            raise damaged_stream(self.name, f"not expanded after {problem.timeout:.0f} s") from problem
        if done.returncode or len(done.stdout) != size:
            raise damaged_stream(self.name, f"not {size:,} bytes within {seconds:.2f} s of processor time")
        return done.stdout
