"""How tasks stand, for commands that show them: out of the history where one is at hand, else by folding the log."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ops.opening import find_operator, open_log, open_log_or_export
from ops.operator import tasks
from ops.settings import HISTORY_FILE, Settings
from ops.terminal.commands.history import query
from schemas.topics import partition_of

if TYPE_CHECKING:
    from ops.history.tables.standing.views import Versions, Views
    from ops.history.task_view import TaskView
    from schemas.identifiers import TaskId

    Read = Callable[..., Views | None]

T = TypeVar("T")


def find_all(settings: Settings) -> dict[TaskId, TaskView]:
    """Every task with its newest version; what comes out of a history says up to when it knows."""
    known = _look(settings, lambda read: read())
    if known is not None:
        return known.tasks
    with open_log(settings) as log:
        return tasks.find_views(log, operator=find_operator(settings))


def find_one(settings: Settings, name: TaskId, *, versions: Versions, from_files: Path | None) -> list[TaskView]:
    """A task, and behind it those that may measure it. Raises TaskUnknown."""
    views = None if from_files is not None else _look(settings, partial(_read_one, name=name, versions=versions))
    if views is None:
        with open_log_or_export(settings, from_files) as log:
            views = tasks.find_views(log, [partition_of(name, log.partitions)], operator=find_operator(settings))
    task = tasks.require(views, name)
    return [task, *(view for view in views.values() if view is not task)]


def _read_one(read: Read, *, name: TaskId, versions: Versions) -> dict[TaskId, TaskView] | None:
    known = read(name, versions=versions)
    if known is None:
        return None
    others = [read(each) for each in known.measured_by.get(name, ())]
    return {**known.tasks, **{each: view for other in others if other for each, view in other.tasks.items()}}


def _look(settings: Settings, look: Callable[[Read], T | None]) -> T | None:
    """What the history says; None where there is none, or none that can answer this."""
    path = settings.folder / HISTORY_FILE
    # Nobody's first look at a task is made to build a history.
    if not path.exists():
        return None
    from ops.history.tables.answers import HistoryInUse, HistoryUnfit, HistoryUnwritable
    from ops.history.tables.projector import HistoryGap
    from ops.history.tables.serving import WriterGone
    from ops.history.tables.standing.views import read_views

    until: list[int | None] = []

    def read(name: TaskId | None = None, *, versions: Versions = "newest") -> Views | None:
        known = read_views(ask, name, versions=versions)
        until.extend([] if known is None else [known.until_ms])
        return known

    try:
        with query.open_answers(settings, file=path, from_files=None) as ask:
            found = look(read)
    # The log answers too; what is wrong with a history is told to whoever asks for that.
    except (HistoryInUse, HistoryUnfit, HistoryUnwritable, HistoryGap, WriterGone, ImportError):
        return None
    if found is not None:
        query.say_until(until[0])
    return found
