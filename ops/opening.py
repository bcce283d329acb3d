"""Opens the log that a command works on: the Kafka of the settings, or an exported folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ops.logging_setup import set_up_logging
from ops.settings import Settings, SettingsError
from streams import notes

if TYPE_CHECKING:
    from actors.effects.sealing.epoch_keys import EpochKeys
    from actors.keys import OperatorKey
    from streams.kafka.log import KafkaLog
    from streams.log import EventLog


@contextmanager
def open_log(settings: Settings) -> Iterator[KafkaLog]:
    """The log of a command for people: its warnings go to stderr, and it is closed at the end."""
    set_up_logging(as_json=False)
    with closing(settings.log()) as log:
        yield log


@contextmanager
def open_log_briefly(settings: Settings) -> Iterator[KafkaLog]:
    """The same for one quick question: logging is set up when the log has something to say, and for that alone."""
    notes.before_first(partial(set_up_logging, as_json=False))
    with closing(settings.log()) as log:
        yield log


@contextmanager
def open_log_or_export(settings: Settings, folder: Path | None) -> Iterator[EventLog]:
    """The log of a command that only reads: an exported folder where one is named, else Kafka's."""
    if folder is None:
        with open_log(settings) as log:
            yield log
        return
    # Reading an export needs no Kafka client, so an auditor's machine need not reach a cluster.
    from streams.exported import ExportedLog

    set_up_logging(as_json=False)
    yield ExportedLog(folder)


def load_key(settings: Settings) -> OperatorKey | None:
    """The operator's key; None where this machine has none, as on an auditor's."""
    # Only commands that check signatures or noise need the cryptography behind it.
    from actors import keys

    return keys.load(settings.operator_key_file) if settings.operator_key_file.exists() else None


def require_key(settings: Settings) -> OperatorKey:
    """The operator's key, which what is said about tasks is signed with. Raises OperatorKeyError."""
    from actors import keys

    return keys.load(settings.operator_key_file)


def find_epoch_keys(settings: Settings) -> EpochKeys:
    """The keys of sealed tasks, as far as this machine has them."""
    from actors.effects.sealing.epoch_keys import EpochKeys

    return EpochKeys(settings.epoch_keys)


def find_operator(settings: Settings) -> bytes | None:
    """The operator's public key: the one given, else that of the key file; None where neither is here."""
    # What was named wins: whoever names it may look at another operator's log.
    if settings.operator_public_key:
        return bytes.fromhex(settings.operator_public_key)
    key = load_key(settings)
    return None if key is None else key.public_key


def require_operator(settings: Settings) -> bytes:
    """The same for whoever acts on what the log says. Raises SettingsError."""
    operator = find_operator(settings)
    if operator is None:
        raise SettingsError(
            "Whom to believe? Name the operator's public key with --operator-public-key HEX (or "
            "FEDLOG_OPERATOR_PUBLIC_KEY); `fedlog key show` prints it where the operator's key is."
        )
    return operator


def list_partitions(log: EventLog) -> list[int]:
    """The partitions that there are: all of them, or those of an export."""
    from schemas.topics import JOURNALS

    # Only an export can hold some partitions and lack others.
    listed = getattr(log, "list_partitions", None)
    return listed([topic.name for topic in JOURNALS]) if listed else [*range(log.partitions)]
