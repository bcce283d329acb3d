"""How the programs log: structlog, JSON lines in workers, readable lines for people, always on stderr."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.settings import Settings

if TYPE_CHECKING:
    from streams.kafka.log import KafkaLog
    from streams.log import EventLog

FromFiles = Annotated[
    Path | None, typer.Option("--from-files", metavar="FOLDER", help="Read an export, and ask no Kafka.")
]


@contextmanager
def opened(settings: Settings) -> Iterator[KafkaLog]:
    """The log of a command for people: its warnings go to stderr, and it is closed at the end."""
    configure(as_json=False)
    with closing(settings.log()) as log:
        yield log


@contextmanager
def reading(settings: Settings, folder: Path | None) -> Iterator[EventLog]:
    """The log of a command that only reads: an exported folder, or else Kafka's."""
    if folder is None:
        with opened(settings) as log:
            yield log
        return
    from streams.exported import ExportedLog

    configure(as_json=False)
    yield ExportedLog(folder)


def partitions_of(log: EventLog) -> list[int]:
    """The partitions that there are: all of them, or those of an export."""
    from schemas.topics import JOURNALS, PARTITIONS

    known = getattr(log, "partitions", None)
    return known([topic.name for topic in JOURNALS]) if known else [*range(PARTITIONS)]


def configure(*, as_json: bool, level: str = "info") -> None:
    """Set structlog up for this process."""
    import structlog

    # Each lost connection is a dozen lines of theirs; `streams.retry` says it in one.
    for client in ("kafka", "aiokafka"):
        logging.getLogger(client).setLevel(logging.CRITICAL)
    renderer = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=_is_terminal())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _is_terminal() -> bool:
    return sys.stderr.isatty()
