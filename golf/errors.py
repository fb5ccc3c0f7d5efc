"""What golf says when it stops: one line, and an exit code that tools can rely on.

0 done; 2 the user's input is wrong; 3 over a byte or time limit; 4 a rule or a verification failed; 1 our own bug.
"""


class GolfError(Exception):
    """Base of every error that golf raises on purpose; its message is one line that says what to do."""

    exit_code = 1


class RankLost(GolfError):
    """Another rank of a run has gone; said once on every node."""


class UserError(GolfError):
    """The input is wrong: the message says what was wrong, what is allowed and what to type."""

    exit_code = 2


class Interrupted(BaseException):
    """A signal asked for the end. Not an Exception: nothing on the way out may take it for a failure and go on."""

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.exit_code = 128 + signal_number


class LimitExceeded(GolfError):
    """The artifact is over the byte limit, or a stage over its time limit."""

    exit_code = 3


class VerificationFailed(GolfError):
    """A check that protects a published number failed: nothing half-verified is handed on."""

    exit_code = 4
