"""Shards that are already there, in the challenge's official layout, with any tokenizer by path."""

from collections.abc import Callable
from pathlib import Path

from golf.data.dataset import PreparedData, ShardedDataset, check_prepared, open_folder
from golf.data.stream import SequentialStream, TokenStream
from golf.data.tokenizer import AUTOMATIC


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
        """Find and check everything; UserError names the first fault. `say` gets the reach of the overlap check."""
        prepared = open_folder(self.folder, self.tokenizer, require_train)
        report = check_prepared(prepared, self.seq_len, self.vocab_size)
        if report is not None:
            say(str(report))
        return prepared
