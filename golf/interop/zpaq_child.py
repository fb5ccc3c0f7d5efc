"""A process of its own that expands ZPAQ streams: time and memory are limited, and a crash stays in here.

A ZPAQ stream is a small program for a virtual machine as well as data. The parent runs only known models; what a
damaged stream still could do (loop, grow, crash) ends this process, which the parent reports as a damaged file.
stdin: seconds of processor time, count (uint32), per stream its expanded and stored sizes (uint32), then the streams.
stdout: the expanded streams, one after the other. Invariant: exit code 0 means every size is as declared.
"""

import struct
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from golf.codec.protocol import damaged_stream, missing_package
from golf.errors import UserError

MEMORY_LIMIT_BYTES = 2 * 1024**3
THREADS = 2
CPU_SECONDS_AT_LEAST = 2
CPU_SECONDS_PER_MIB = 30  # three times what a slow core takes for the strongest model
WALL_SECONDS_PER_CPU_SECOND = 10  # a busy machine
MISSING_PACKAGE = 5
LIBRARY_MARK = bytes.fromhex("376b5374a03183d38cb228b0d3")  # what libzpaq looks for before a stream


def expand_zpaq(streams: Sequence[tuple[bytes, int]]) -> list[bytes]:
    """Expand (stream, expanded size) pairs in a process of its own.

    Raises:
        UserError: a stream is damaged, or the package `zpaq` is not installed.
    """
    if not streams:
        return []
    seconds = CPU_SECONDS_AT_LEAST + CPU_SECONDS_PER_MIB * sum(size for _, size in streams) // 2**20
    head = struct.pack("<II", seconds, len(streams))
    head += b"".join(struct.pack("<II", size, len(stream)) for stream, size in streams)
    command = [sys.executable, "-m", "golf.interop.zpaq_child"]
    try:
        done = subprocess.run(
            command,
            input=head + b"".join(stream for stream, _ in streams),
            capture_output=True,
            timeout=seconds * WALL_SECONDS_PER_CPU_SECOND,
        )
    except subprocess.TimeoutExpired as error:
        raise damaged_stream("zpaq", f"not expanded after {error.timeout:.0f} s") from error
    if done.returncode == MISSING_PACKAGE:
        raise UserError(missing_package("zpaq", "zpaq"))
    if done.returncode or len(done.stdout) != sum(size for _, size in streams):
        raise damaged_stream("zpaq", "its size or its content is not what the file says")
    found, start = [], 0
    for _, size in streams:
        found.append(done.stdout[start : start + size])
        start += size
    return found


def limit_this_process(seconds: int) -> None:
    """Let the system end this process when it takes too much; systems without such limits have the parent's clock."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> int:
    seconds, count = struct.unpack("<II", sys.stdin.buffer.read(8))
    limit_this_process(seconds)
    try:
        from zpaq import Error, decompress
    except ImportError:
        return MISSING_PACKAGE
    sizes = [struct.unpack("<II", sys.stdin.buffer.read(8)) for _ in range(count)]
    streams = [sys.stdin.buffer.read(stored) for _, stored in sizes]
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            found = list(pool.map(lambda stream: decompress(LIBRARY_MARK + stream, threads=1), streams))
    except (Error, MemoryError):
        return 1
    if [len(out) for out in found] != [size for size, _ in sizes]:
        return 1
    sys.stdout.buffer.write(b"".join(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
