"""What a method of test-time training is: it works through a `ScoringSession`, which scores first and lets learn later.

`by_document` says how it walks: along the stream in sliding windows, `run(session, seq_len, windows)`, or document by
document, `run(session, seq_len)`. A method has no tokens of its own: losses come from `session.score` and
`session.score_rows`, which write them into the ledger before they return, and tokens from `session.scored_tokens`,
which refuses those without a score. The network is `session.model`; its code is the one that was trained.
"""

from typing import Any, Protocol


class TestTimeTraining(Protocol):
    """A method; its constructor's arguments are the keys of its option in conf/ttt."""

    by_document: bool

    def run(self, session: Any, seq_len: int, *windows: Any) -> None: ...
