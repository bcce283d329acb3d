"""What programs log about themselves: structlog, JSON lines in workers, readable lines for people, always on stderr."""

from __future__ import annotations

import logging
import sys


def set_up_logging(*, as_json: bool, level: str = "info") -> None:
    """Set structlog up for this process."""
    # It takes a tenth of a second to import, which a command that only prints its help need not wait for.
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
