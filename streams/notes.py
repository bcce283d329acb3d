"""What the log's own code says about itself, through structlog, which is loaded when there is something to say.

It takes a tenth of a second to import, and a console that only asks a question has hardly longer for all it does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# What is to be done before the first word, such as to choose where it goes.
_preparations: list[Callable[[], None]] = []


def before_first(prepare: Callable[[], None]) -> None:
    """Have `prepare` called once, before the next word."""
    _preparations[:] = [prepare]


@dataclass(frozen=True, slots=True)
class Notes:
    """A logger of structlog by its name."""

    name: str

    def debug(self, event: str, **values: object) -> None:
        """Say what only developers want to know."""
        self._find().debug(event, **values)

    def warning(self, event: str, **values: object) -> None:
        """Say what somebody should look at."""
        self._find().warning(event, **values)

    def _find(self) -> Any:
        while _preparations:
            _preparations.pop()()
        import structlog

        return structlog.get_logger(self.name)
