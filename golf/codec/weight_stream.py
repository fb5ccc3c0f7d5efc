"""Codes of weight matrices as one rANS stream, in the order in which a model can predict them.

Matrices with equally many columns form a family. Its rows, one matrix after the other, are dealt to lanes in
contiguous runs; step by step every lane codes the next column of its row. So each matrix's columns are learned by all
its lanes at once, and each row learns from its own beginning.
Invariant: encoder and decoder run the same loop; they differ only in where a step's symbols come from.
"""

from dataclasses import dataclass

import numpy as np

from golf.codec.column_prediction import ColumnPredictor
from golf.codec.rans import RansDecoder, rans_encode
from golf.codec.weight_model import CENTRES, AdaptiveTables, MagnitudeModel

MEAN_STEP = 64.0


@dataclass(frozen=True)
class WeightFamily:
    """Matrices coded together: rows of each, their common columns, mean |x|·64 of each, and the model's settings.

    `walk`: next state of a trellis by [state, parity of the code]; codes in odd states are centred half a code lower.
    """

    rows: tuple[int, ...]
    columns: int
    means: tuple[int, ...]
    lanes: int
    ridge: int = 0
    row_prior: int = 128
    column_prior: int = 12
    walk: np.ndarray | None = None


class StepRecorder:
    """Takes the encoder's steps and keeps what `rans_encode` needs."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self.starts: list[np.ndarray] = []
        self.frequencies: list[np.ndarray] = []

    def code(self, tables: AdaptiveTables, rows: np.ndarray, symbols: np.ndarray) -> np.ndarray:
        start = tables.cumulative[rows, symbols]
        self.starts.append(start.astype(np.uint16))
        self.frequencies.append((tables.cumulative[rows, symbols + 1] - start).astype(np.uint32))
        return symbols

    def bits(self) -> float:
        """Bits that the steps will take (to compare ways of coding, not to be exact)."""
        steps = np.concatenate(self.frequencies) if self.frequencies else np.ones(1)
        return float(np.log2(65536.0 / steps).sum())

    def finish(self, seed: bytes = b"") -> bytes:
        return rans_encode(self.starts, self.frequencies, self.lanes, seed)


class StepReader:
    """Gives the decoder's steps."""

    def __init__(self, data: bytes, lanes: int) -> None:
        self.decoder = RansDecoder(data, lanes)

    def code(self, tables: AdaptiveTables, rows: np.ndarray, symbols: np.ndarray) -> np.ndarray:
        found = self.decoder.decode(tables.cumulative, rows)
        tables.require(found)
        return found


def code_family(
    family: WeightFamily, tables: AdaptiveTables, steps: StepRecorder | StepReader, values: np.ndarray
) -> None:
    """Code `values` [rows, columns] of a family: read by a recorder, filled in by a reader."""
    total, lanes, reach = len(values), family.lanes, tables.reach
    pool_of_row = np.repeat(np.arange(len(family.rows)), family.rows)
    first = np.arange(lanes + 1) * total // lanes
    lengths = np.diff(first)
    order = np.argsort(-lengths, kind="stable")
    magnitudes = MagnitudeModel(
        len(family.rows), family.columns, np.array(family.means) / MEAN_STEP, family.row_prior, family.column_prior
    )
    predictor = ColumnPredictor(family.columns, family.ridge, reach / 3) if family.ridge else None
    for turn in range(int(lengths.max(initial=0))):
        rows = first[:-1][order[lengths[order] > turn]] + turn
        magnitudes.start_rows(pool_of_row[rows])
        if predictor:
            predictor.start_rows(len(rows))
        states = np.zeros(len(rows), dtype=np.int64)
        for column in range(family.columns):
            centre = predictor.centres(column) if predictor else np.zeros(len(rows))
            if family.walk is not None:
                centre = (centre - (states & 1)) * 0.5
            whole = np.rint(centre)
            quarter = np.rint((centre - whole) * 4.0)
            sign = np.where(quarter < 0, -1.0, 1.0)
            table = magnitudes.bins(column) * CENTRES + (quarter * sign).astype(np.int64)
            wanted = ((values[rows, column] - whole) * sign).astype(np.int64) + reach
            symbols = steps.code(tables, table, wanted)
            tables.update(table, symbols)
            value = (symbols - reach) * sign + whole
            values[rows, column] = value
            magnitudes.update(column, np.abs(value - centre))
            if family.walk is not None:
                parity = value.astype(np.int64) & 1
                value = 2 * value + (states & 1)
                states = family.walk[states, parity]
            if predictor:
                predictor.update(column, value)
        if predictor:
            predictor.end_rows()
