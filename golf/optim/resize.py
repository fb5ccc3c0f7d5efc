"""Sequence-length and batch schedules: the same tokens in shorter rows, and only a share of them.

Legend: B batch (rows), T time.
"""

from typing import Any

from golf.errors import UserError


def resize_batch(batch: Any, seq_len: int | None = None, share: float = 1.0) -> Any:
    """The batch with its rows cut into rows of `seq_len` tokens, and of those the first `share` (at least one row).

    Rows stay views. A packed batch (one flat row with `cu_seqlens`) keeps its first tokens instead of rows.

    Raises:
        UserError: a length that does not divide the rows, a share outside (0, 1], another length for a packed batch.
    """
    if not 0.0 < share <= 1.0:
        raise UserError(f"schedule.batch_share: {share:g} is not in (0, 1]; type a share like 0.5")
    rows, length = batch.inputs_BT.shape
    cu_seqlens = getattr(batch, "cu_seqlens", None)
    if seq_len is None or seq_len == length:
        if share == 1.0:
            return batch
    elif cu_seqlens is not None:
        raise UserError("schedule.seq_len: packed documents have no rows to cut; type schedule.seq_len=null")
    elif seq_len < 1 or length % seq_len:
        raise UserError(
            f"schedule.seq_len: rows of {length} tokens cannot be cut into {seq_len}; type a divisor of {length}"
        )
    if cu_seqlens is not None:
        kept = max(1, int(length * share))
        parts = (batch.inputs_BT[:, :kept], batch.targets_BT[:, :kept], cu_seqlens.clamp(max=kept))
        return batch._replace(inputs_BT=parts[0], targets_BT=parts[1], cu_seqlens=parts[2])
    seq_len = seq_len or length
    kept = max(1, int(rows * length // seq_len * share))
    inputs_BT = batch.inputs_BT.reshape(-1, seq_len)[:kept]
    return batch._replace(inputs_BT=inputs_BT, targets_BT=batch.targets_BT.reshape(-1, seq_len)[:kept])
