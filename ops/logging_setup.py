"""What programs log about themselves: structlog, JSON lines in workers, readable lines for people, always on stderr.

Every event is in `log_catalogue`. A line that names a round, an update or a lease has the id of its trace, under which
`fedlog trace` shows it and a collector has it.
"""

from __future__ import annotations

import hashlib
import logging
import sys
from collections.abc import MutableMapping
from typing import Any


def set_up_logging(*, as_json: bool, level: str = "info") -> None:
    """Set structlog up for this process."""
    # It takes a tenth of a second to import, which a command that only prints its help need not wait for.
    import structlog

    # Each lost connection is a dozen lines of theirs; `streams.retry` says it in one.
    for client in ("kafka", "aiokafka", "librdkafka"):
        logging.getLogger(client).setLevel(logging.CRITICAL)
    renderer = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=is_watched())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            add_trace,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    # Else a library's words stand between our lines in a form of their own, and a collector cannot read them.
    root = logging.getLogger()
    if not any(isinstance(each, LibraryHandler) for each in root.handlers):
        root.addHandler(LibraryHandler(logging.WARNING))


class LibraryHandler(logging.Handler):
    """What libraries log by Python's own logging, as lines of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        """Say it, with whose words it is."""
        import structlog

        logger = structlog.get_logger()
        try:
            said = {"library": record.name, "text": record.getMessage(), "exc_info": record.exc_info or False}
            if record.levelno >= logging.ERROR:
                logger.error("library_said", **said)
            else:
                logger.warning("library_said", **said)
        except Exception:  # noqa: BLE001
            # As Python's own handlers do: a line that cannot be written stops nobody.
            self.handleError(record)


def name_trace(kind: str, what: str) -> tuple[str, str]:
    """The ids of the trace of a round (`task/number`) or an update, and of its first span: whoever names it agrees."""
    digest = hashlib.sha256(f"fedlog/{kind}/{what}".encode()).hexdigest()
    return digest[:32], digest[32:48]


def add_trace(*called: Any) -> MutableMapping[str, Any]:
    """Name the trace of what a line is about; the line is the last of what structlog hands over."""
    line: MutableMapping[str, Any] = called[-1]
    if (lease := line.get("update") or line.get("lease")) is not None:
        line["trace_id"] = name_trace("update", lease)[0]
    elif "task" in line and "round" in line:
        line["trace_id"] = name_trace("round", f"{line['task']}/{line['round']}")[0]
    return line


def is_watched() -> bool:
    """Whether a person reads what this process says as it says it; else a program collects it."""
    return sys.stderr.isatty()
