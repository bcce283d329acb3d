"""Errors as people at a terminal read them: what happened, where, what to do, and the exit code of the command.

1   the command's answer is no: a broken chain, a name that is taken, an error of ours
2   wrong use: an option, a setting, a policy
3   no Kafka answers, or none runs and none was named
4   the log no longer holds what is needed
78  a worker or the evaluator: starting it again cannot help
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.errors import EXIT_NO, EXIT_USAGE, FedlogError

# By the code of an error's class, or of a class above it: what a person at this terminal can do about it.
ADVICE = {
    "policy_invalid": "The policy cannot be used:\n{error}",
    "task_unknown": "{error} `fedlog task list` shows those that exist.",
    "close_unnoticed": "{error}\nStart `fedlog worker aggregator`, then give the same command again.",
    "log_unavailable": (
        "No Kafka answers: {error}\nCheck --bootstrap-servers and the network. With TLS or SASL also check the "
        "certificates and the password: a broker may close the connection without a reason. `fedlog broker status` "
        "says whether the embedded one runs."
    ),
    "offset_lost": "The log no longer holds what is needed: {error}",
    "commit_uncertain": "The write may be lost: {error}\nLook with `fedlog events`, then try again.",
    "writer_fenced": "The write may be lost: {error}\nLook with `fedlog events`, then try again.",
    "topic_unfit": "{error}\n`fedlog topics create` creates those that are missing.",
    "export_damaged": "The export is damaged: {error}\nTake that file from a copy, or export again.",
    "no_authorizer": "{error}",
    "log_failed": "The log refused: {error}",
    "chain_broken": "The chain of a journal is broken: {error}\n`fedlog verify` checks all journals.",
    "body_invalid": "A body cannot be decoded: {error}",
}


if TYPE_CHECKING:
    from streams.log import EventLog


class ConsoleError(FedlogError):
    """A command could not do its work."""

    code = "command_failed"

    def __init__(self, message: str, *, exit_code: int = EXIT_NO) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def require_partition(log: EventLog, partition: int) -> None:
    """Raise ConsoleError where the cluster has no such partition."""
    if partition >= log.partitions:
        raise ConsoleError(f"--partition {partition}: there are 0 to {log.partitions - 1}.", exit_code=2)


def explain(error: Exception) -> tuple[int, str]:
    """The exit code and the message for `error`."""
    match error:
        case FedlogError():
            # The class itself first, then those above it: the advice for a log error fits each kind of it.
            codes = [getattr(kind, "code", "") for kind in type(error).__mro__]
            advice = next((ADVICE[code] for code in codes if code in ADVICE), "{error}")
            return error.exit_code, advice.format(error=error)
        case OSError() if error.filename is not None:
            return EXIT_USAGE, f"{error.filename}: {error.strerror}"
        case ModuleNotFoundError():
            return EXIT_USAGE, f"{error}. Is it installed beside fedlog, or its folder named in PYTHONPATH?"
    return EXIT_NO, (
        f"An error that fedlog does not expect: {type(error).__name__}: {error}\n"
        "Run the same command with --debug to see where, and please report it."
    )
