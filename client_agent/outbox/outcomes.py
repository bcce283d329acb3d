"""What became of a device's updates, as the aggregator signed it: kept, because the log keeps answers for an hour only.

`fedlog device` keeps each before it obeys it; `fedlog receipt` proves an exclusion with it, years later too.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import structlog

from client_agent.files import open_private_folder, write_durably
from schemas.canonical import MalformedError, decode
from schemas.certificates import parse_certified
from schemas.events import Outcome
from schemas.identifiers import TaskId, UpdateId

# Some hundred bytes each: a few hundred kilobytes, and years of a device that trains once a day.
OUTCOMES_MAX = 1_000

logger = structlog.get_logger(__name__)


class KeptOutcomes:
    """The signed outcomes of one device and task, a file each, in a folder beside its outbox."""

    def __init__(self, folder: Path, task: TaskId) -> None:
        self._folder, self._task = folder / f"{task}.outcomes", task

    def keep(self, outcome: Outcome, message: bytes) -> None:
        """Keep what was signed, byte for byte; a device that has no room for it goes on without."""
        path = self._folder / outcome.update
        # The first counts, which every repeat says again.
        if outcome.task != self._task or path.exists():
            return
        try:
            open_private_folder(self._folder)
            write_durably(path, message)
            self._drop_oldest()
        except OSError as error:
            logger.warning("outcome_not_kept", update=outcome.update, error=str(error))

    def find(self, update: UpdateId) -> bytes | None:
        """What was signed of an update; None where nothing is kept."""
        return self._list().get(update)

    def list_told(self) -> list[Outcome]:
        """Every outcome that is kept, the oldest first."""
        return [outcome for outcome in map(_read, self._list().values()) if outcome is not None]

    def _list(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self._list_paths()}

    def _list_paths(self) -> list[Path]:
        # What a crash has left of a write has a dot in its name, which no update has.
        paths = [path for path in self._folder.glob("*") if not path.suffix]
        return sorted(paths, key=lambda path: (path.stat().st_mtime_ns, path.name))

    def _drop_oldest(self) -> None:
        for path in self._list_paths()[:-OUTCOMES_MAX]:
            path.unlink(missing_ok=True)


def _read(message: bytes) -> Outcome | None:
    with contextlib.suppress(MalformedError):
        return decode(parse_certified(message).payload, Outcome)
    return None
