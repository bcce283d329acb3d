"""Exceptions as people read them: what happened, where, what to do, and the exit code.

    1   the command's answer is no: a broken chain, a name that is taken, an error of ours
    2   wrong use: an option, a setting, a policy
    3   no Kafka answers
    4   the log no longer holds what is needed

The modules that define the exceptions are imported when one was raised, so that `fedlog --help` waits for none of them.
"""

from __future__ import annotations

# Their messages say all; importing the modules that define them would bring torch, ray and cryptography.
_SPEAKING = frozenset(
    (
        "OperatorKeyError",
        "PlugError",
        "DataError",
        "ModelError",
        "IdentityError",
        "OutboxError",
        "FleetError",
        "DeviceError",
    )
)

EXIT_NO, EXIT_USAGE, EXIT_UNAVAILABLE, EXIT_LOST = 1, 2, 3, 4


def explained(error: Exception) -> tuple[int, str]:
    """The exit code and the message for `error`."""
    return _of_the_console(error) or _of_the_log(error) or _of_the_rest(error)


def _of_the_console(error: Exception) -> tuple[int, str] | None:
    from ops.console import ConsoleError
    from ops.processes.broker import BrokerError
    from ops.settings import SettingsError
    from schemas.policy import PolicyError

    match error:
        case ConsoleError():
            return error.exit_code, str(error)
        case SettingsError():
            return EXIT_USAGE, str(error)
        case PolicyError():
            return EXIT_USAGE, f"The policy cannot hold:\n{error}"
        case BrokerError():
            return EXIT_UNAVAILABLE, str(error)
    return None


def _of_the_log(error: Exception) -> tuple[int, str] | None:
    from schemas.journal import ChainBroken
    from schemas.tensors import BodyError
    from streams import log
    from streams.exported import ExportDamaged

    match error:
        case log.LogUnavailable():
            return EXIT_UNAVAILABLE, (
                f"No Kafka answers: {error}\nCheck --bootstrap-servers and the network, and with TLS or SASL the "
                "certificates and the password: a broker may hang up without a word. `fedlog broker status` tells "
                "whether the embedded one runs."
            )
        case log.OffsetLost():
            return EXIT_LOST, f"The log no longer holds what is needed: {error}"
        case log.CommitUncertain() | log.WriterFenced():
            return EXIT_NO, f"The write may not stand: {error}\nLook with `fedlog events`, then try again."
        case log.TopicUnfit():
            return EXIT_NO, f"{error}\n`fedlog topics create` makes those that are missing."
        case ExportDamaged():
            return EXIT_NO, f"The export is damaged: {error}\nTake that file from a copy, or export anew."
        case log.LogError():
            return EXIT_NO, f"The log refused: {error}"
        case ChainBroken():
            return EXIT_NO, f"A journal is off its chain: {error}\n`fedlog verify` checks all of them."
        case BodyError():
            return EXIT_LOST, f"A body does not read as it should: {error}"
    return None


def _of_the_rest(error: Exception) -> tuple[int, str]:
    match error:
        case OSError() if error.filename is not None:
            return EXIT_USAGE, f"{error.filename}: {error.strerror}"
        case _ if type(error).__name__ in _SPEAKING:
            return EXIT_USAGE, str(error)
        case ModuleNotFoundError():
            return EXIT_USAGE, f"{error}. Is it installed beside fedlog, or its folder named in PYTHONPATH?"
    return EXIT_NO, (
        f"Something went wrong that fedlog does not know: {type(error).__name__}: {error}\n"
        "The same command with --debug shows where; please report it."
    )
