"""Reads the log and keeps a server up to it, through what is away: for `fedlog mlflow`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from time import sleep

from ops.history.following import Follower
from ops.operator import model_files
from ops.operator.errors import ModelGone
from ops.services.mlflow.entries import Courses, Entry
from ops.services.mlflow.registering import Done, Names, Registrar
from ops.services.mlflow.server import Server, ServerAway, ServerRefuses
from schemas.identifiers import TaskId
from schemas.topics import partition_of
from streams.log import EventLog

POLL_S = 0.5
WAIT_S, WAIT_MAX_S = 1.0, 30.0
# Somebody may have moved an alias by hand, or another of us died amid its work.
LOOKS_AGAIN_S = 300.0
FORM = "safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """The server is away; it is tried again in so many seconds."""

    why: str
    again_s: float


class Keeper:
    """Keeps one server up to one log, of one task or of all."""

    def __init__(self, log: EventLog, server: Server, *, courses: Courses, names: Names, task: TaskId = "") -> None:
        self._courses, self._task = courses, task
        # A scheduler may name one task, and another of us the others: neither touches what is not its own.
        self._registrar = Registrar(server, courses, names=names, read_files=partial(read_files, log))
        partitions = [partition_of(task, log.partitions)] if task else None
        self._follower = Follower(log, courses, partitions=partitions, reads_ahead=True)
        self._looked_s = time.monotonic()

    def keep(self, *, follow: bool) -> Iterator[Done | Waiting]:
        """Register what is new, up to the present end of the log, or for ever. Raises ServerRefuses, ModelTaken."""
        # To the end first: an alias is not moved to where it was last week.
        self._follower.catch_up()
        todo = dict.fromkeys(self._courses.tasks)
        while True:
            yield from self._work_through(todo)
            if not follow:
                return
            self._follower.poll(POLL_S)
            todo = dict.fromkeys(self._courses.take_news())
            if time.monotonic() - self._looked_s > LOOKS_AGAIN_S:
                todo, self._looked_s = dict.fromkeys(self._courses.tasks), time.monotonic()
                self._registrar.forget()

    def close(self) -> None:
        """Release the reader."""
        self._follower.close()

    def _work_through(self, tasks: dict[TaskId, None]) -> Iterator[Done | Waiting]:
        wait_s, has_looked = WAIT_S, False
        while tasks:
            task = next(iter(tasks))
            try:
                for done in self._registrar.step(task) if self._task in ("", task) else ():
                    # It answers again.
                    wait_s, has_looked = WAIT_S, False
                    yield done
                del tasks[task]
            except ServerAway as error:
                # Nobody knows what was done of the last request: it is looked for anew.
                self._registrar.forget()
                yield Waiting(why=str(error), again_s=wait_s)
                sleep(wait_s)
                wait_s = min(2 * wait_s, WAIT_MAX_S)
            except ServerRefuses:
                # Somebody may have deleted by hand what was here a moment ago; twice in a row it is our fault.
                if has_looked:
                    raise
                self._registrar.forget()
                has_looked = True


def read_files(log: EventLog, entry: Entry) -> tuple[Mapping[str, bytes], bool]:
    """The files of a version as `fedlog model export` writes them, and whether its model is still there."""
    version = entry.data.version
    try:
        return model_files.read_files(log, entry.view, version=version, form=FORM), True
    except ModelGone:
        return {"privacy.log": model_files.describe_privacy(entry.view, version).encode()}, False
