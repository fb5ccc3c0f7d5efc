"""Shards that are already there, in the challenge's official layout, with any tokenizer by path."""

from collections.abc import Callable
from pathlib import Path

from golf.data.dataset import PreparedData, ShardedDataset, check_prepared, open_folder
from golf.data.stream import SequentialStream, TokenStream
from golf.data.tokenizer import AUTOMATIC
from golf.errors import UserError

OFFICIAL_FOLDER = "fineweb10B_"


class FinewebShards(ShardedDataset):
    """A folder with fineweb_train_*.bin and fineweb_val_*.bin.

    tokenizer: "auto" finds tokenizer.model or tokenizer.json in the folder, or ../../tokenizers/fineweb_<V>_bpe.model.
    The tokenizer must have `vocab_size` ids; the splits are checked against each other before anything is trained.
    """

    def __init__(
        self,
        folder: str = "data/datasets/fineweb10B_sp1024",
        tokenizer: str = AUTOMATIC,
        vocab_size: int = 1024,
        tokens_per_step: int = 524_288,
        seq_len: int = 1024,
        spans_per_step: int = 8,
        order: Callable[..., TokenStream] = SequentialStream,
    ) -> None:
        super().__init__(tokens_per_step, seq_len, spans_per_step, order)
        self.folder = Path(folder)
        self.tokenizer = tokenizer
        self.vocab_size = vocab_size

    def prepare(self, say: Callable[[str], None] = print, require_train: bool = True) -> PreparedData:
        """Find and check everything; UserError names the first fault. `say` gets the reach of the overlap check.

        Raises:
            UserError: shards, tokenizer or byte sidecar are absent (and by which command they are made), or faulty.
        """
        try:
            prepared = open_folder(self.folder, self.tokenizer, require_train)
            prepared.byte_counter()
        except UserError as error:
            raise UserError(f"{error}, or make it: {self.made_by()}") from error
        report = check_prepared(prepared, self.seq_len, self.vocab_size)
        if report is not None:
            say(str(report))
        return prepared

    def made_by(self) -> str:
        """The command that makes this folder with its tokenizer and, for CaseOps, its sidecar."""
        official, variant = self.folder.name.startswith(OFFICIAL_FOLDER), self.folder.name.removeprefix(OFFICIAL_FOLDER)
        if official:
            return f"golf data download --variant {variant}"
        return f"golf data retokenise docs_selected.jsonl --tokenizer <file> --out {self.folder}"
