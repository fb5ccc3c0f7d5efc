"""Documents as they are stored: JSON lines (plain, .gz, .xz, .zst) or Parquet, read in batches, resumable.

A batch holds JSON lines as bytes (parsing is the workers' job), or texts. Files are streamed: memory is one batch.
Invariant: batches together are the documents in file order, and `Position` says where the next one begins.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from golf.errors import UserError

BATCH_BYTES = 1 << 20
PARQUET_ROWS = 256
COMPRESSED = (".gz", ".xz", ".zst")
FORMATS = ".jsonl (also .gz, .xz, .zst) or .parquet"


@dataclass(frozen=True)
class Position:
    """Before document `document` (counted in its file) of file number `file`; `offset`: its byte in a plain file."""

    file: int = 0
    document: int = 0
    offset: int = 0

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


@dataclass(frozen=True)
class DocumentBatch:
    """Documents of one file, the first of which is number `first` in it, and the position behind them."""

    path: str
    first: int
    items: list[Any]
    after: Position


class DocumentFiles:
    """The documents of some files, one after the other. `field`: the key, or column, that holds the text."""

    def __init__(self, paths: Sequence[str | Path], field: str = "text") -> None:
        self.paths = [Path(path) for path in paths]
        self.field = field
        for path in self.paths:
            if not path.is_file():
                raise UserError(f"{path} is not there; name {FORMATS} files of documents")
            if kind_of(path) not in ("jsonl", "parquet"):
                raise UserError(f"{path} is of another kind; convert it to {FORMATS}")

    def identity(self) -> list[dict[str, Any]]:
        """What tells these files from others without reading them."""
        return [{"name": path.name, "bytes": path.stat().st_size} for path in self.paths]

    def batches(self, start: Position | None = None, limit: int | None = None) -> Iterator[DocumentBatch]:
        """Batches from a position on; `limit` documents at most, so that a batch ends exactly there."""
        start, left = start or Position(), limit
        for number in range(start.file, len(self.paths)):
            begin = start if number == start.file else Position(number)
            for batch in self._of_file(number, begin, left):
                left = None if left is None else left - len(batch.items)
                yield batch
            if left == 0:
                return

    def _of_file(self, number: int, begin: Position, limit: int | None) -> Iterator[DocumentBatch]:
        path = self.paths[number]
        if limit == 0:
            return
        try:
            if kind_of(path) == "parquet":
                yield from self._parquet(path, number, begin, limit)
            else:
                with open_lines(path) as file:
                    yield from self._lines(file, path, number, begin, limit)
        except (EOFError, ValueError, *decompression_errors(path)) as error:
            raise UserError(f"{path} is damaged ({str(error).splitlines()[0]}); fetch it again") from None

    def _lines(self, file: IO[bytes], path: Path, number: int, begin: Position, limit: int | None):
        document, offset, left = begin.document, begin.offset, limit
        if path.suffix in COMPRESSED:
            for _ in range(document):
                next(file, None)
        else:
            file.seek(offset)
        lines: list[bytes] = []
        first, size = document, 0
        for line in file:
            document, offset, size = document + 1, offset + len(line), size + len(line)
            lines.append(line)
            left = None if left is None else left - 1
            if size >= BATCH_BYTES or left == 0:
                yield DocumentBatch(str(path), first, lines, Position(number, document, offset))
                lines, first, size = [], document, 0
            if left == 0:
                return
        if lines:
            yield DocumentBatch(str(path), first, lines, Position(number, document, offset))

    def _parquet(self, path: Path, number: int, begin: Position, limit: int | None) -> Iterator[DocumentBatch]:
        table = open_parquet(path, self.field)
        document, left, seen = begin.document, limit, 0
        for group in range(table.num_row_groups):
            rows = table.metadata.row_group(group).num_rows
            if seen + rows <= document:
                seen += rows
                continue
            for part in table.iter_batches(PARQUET_ROWS, row_groups=[group], columns=[self.field]):
                texts = part.column(0).to_pylist()[max(document - seen, 0) :][:left]
                seen += part.num_rows
                if not texts:
                    continue
                first, document = document, document + len(texts)
                left = None if left is None else left - len(texts)
                yield DocumentBatch(str(path), first, texts, Position(number, document))
                if left == 0:
                    return


def kind_of(path: Path) -> str:
    """jsonl, parquet, or what the name ends in."""
    suffixes = [suffix for suffix in path.suffixes if suffix not in COMPRESSED]
    return suffixes[-1].removeprefix(".") if suffixes else ""


def open_lines(path: Path) -> IO[bytes]:
    """A file of lines, decompressed as its name says."""
    if path.suffix == ".gz":
        import gzip

        return gzip.open(path, "rb")  # type: ignore[return-value]
    if path.suffix == ".xz":
        import lzma

        return lzma.open(path, "rb")
    if path.suffix == ".zst":
        import zstandard

        return io.BufferedReader(zstandard.open(path, "rb"))  # type: ignore[arg-type]
    return open(path, "rb", buffering=1 << 20)


def decompression_errors(path: Path) -> tuple[type[Exception], ...]:
    """What a decompressor raises on damaged input."""
    if path.suffix == ".gz":
        import gzip
        import zlib

        return gzip.BadGzipFile, zlib.error
    if path.suffix == ".xz":
        import lzma

        return (lzma.LZMAError,)
    if path.suffix == ".zst":
        import zstandard

        return (zstandard.ZstdError,)
    return ()


def open_parquet(path: Path, field: str) -> Any:
    """A Parquet file that has a column of texts; pyarrow is an extra."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise UserError("Parquet needs pyarrow; type pip install 'golf[data]'") from None
    try:
        table = ParquetFile(path, memory_map=True)
    except ArrowException as error:
        raise UserError(f"{path} is not a Parquet file ({str(error).splitlines()[0]}); fetch it again") from None
    if field not in table.schema_arrow.names:
        raise UserError(f"{path} has the columns {', '.join(table.schema_arrow.names)}; type --field <one of them>")
    return table
