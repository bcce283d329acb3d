"""`fedlog events`: the content of the log, one line per event."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Annotated

import typer

from ops.audit.verification import make_trust
from ops.console import say, say_json
from ops.history.authorship import Authorship
from ops.history.merging import MergedReader
from ops.history.projections import TOPICS
from ops.history.records import Line, lines
from ops.history.telling import tell
from ops.opening import find_operator, list_partitions, open_log_or_export
from ops.terminal.completing import complete_task
from ops.terminal.errors import ConsoleError, require_partition
from ops.terminal.fitting import find_room
from ops.terminal.options import FromFiles
from schemas.topics import ANSWERS, CATALOGUE, partition_of
from streams.log import EventLog, Record, TopicPartition


def events(
    ctx: typer.Context,
    topic: Annotated[
        list[str] | None, typer.Option(help="Topic to read; may be repeated. Default: journals, tasks and evaluations.")
    ] = None,
    start: Annotated[int | None, typer.Option("--from", metavar="OFFSET", help="Start at this offset.", min=0)] = None,
    partition: Annotated[int | None, typer.Option(help="Read this partition only.", min=0)] = None,
    task: Annotated[
        str | None, typer.Option(autocompletion=complete_task, help="Show only events of this task.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep running and show new records.")] = False,
    from_files: FromFiles = None,
    fields: Annotated[bool, typer.Option("--fields", help="Show every field instead of a few words.")] = False,
    limit: Annotated[int | None, typer.Option(help="Stop after this many lines.", min=1)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one complete JSON object per event.")] = False,
) -> None:
    """Show the events in the log, oldest first, each with its time and place, in a few words.

    A record of a journal that its readers pass over is marked: [stranger] where no writer of the journal signed it,
    [zombie] where a superseded writer did, [unknown] where the chain is broken before it. Without the operator's public
    key a claim is taken for what it says.
    """
    topics = topic or list(TOPICS)
    _check_topics(topics)
    if follow and from_files is not None:
        raise ConsoleError("--follow needs Kafka: an export in files does not grow.", exit_code=2)
    operator, count = find_operator(ctx.obj), 0
    show = _choose_form(as_json=as_json, fields=fields)
    with open_log_or_export(ctx.obj, from_files) as log, ExitStack() as stack:
        places = _find_places(log, topics, partition=partition, task=task)
        reader = stack.enter_context(closing(MergedReader(log, places, start)))
        authorship = Authorship(log, places, trust=make_trust(log, operator), start=start or 0)
        for record in _read(reader, follow=follow):
            passed_over = authorship.judge(record)
            for line in lines(record):
                # The partition narrows the search, but other tasks may live in it too.
                if task is not None and line.task != task:
                    continue
                show(line if passed_over is None else replace(line, passed_over=passed_over))
                count += 1
                if count == limit:
                    return
        if task is not None and not count:
            _require_task(log, task, operator=operator, is_export=from_files is not None)


def _require_task(log: EventLog, task: str, *, operator: bytes | None, is_export: bool) -> None:
    """Nothing where a task exists that has no event here. Raises TaskUnknown."""
    from ops.operator import tasks
    from ops.operator.errors import TaskUnknown

    # What is not in an export may be anywhere else.
    if is_export:
        raise TaskUnknown(f"The export holds no event of a task {task!r}.")
    tasks.find_view(log, task, operator=operator)


def _check_topics(topics: list[str]) -> None:
    # A misspelt topic would otherwise look like an empty one.
    known = [topic.name for topic in CATALOGUE]
    for name in topics:
        if name not in known:
            raise ConsoleError(f"There is no topic {name!r}; there are {', '.join(known)}.", exit_code=2)


def _find_places(log: EventLog, topics: list[str], *, partition: int | None, task: str | None) -> list[TopicPartition]:
    """What is to be read, without the partitions that an export does not hold."""
    if partition is not None:
        require_partition(log, partition)
    known = list_partitions(log)
    places: list[TopicPartition] = []
    for name in topics:
        # A task lives in one partition of every topic but the answers, whose partition is the device's.
        if partition is None and task is not None and name != ANSWERS.name:
            numbers = [partition_of(task, log.partitions)]
        else:
            numbers = known if partition is None else [partition]
        places += [TopicPartition(name, number) for number in numbers if number in known]
    return places


def _read(reader: MergedReader, *, follow: bool) -> Iterator[Record]:
    yield from reader.read_past()
    # What is appended from now on is shown as it comes: to sort it by time would mean to wait for it.
    while follow:
        try:
            yield from reader.poll()
        except KeyboardInterrupt:
            return


def _choose_form(*, as_json: bool, fields: bool) -> Callable[[Line], None]:
    """How a line is printed."""
    if as_json:
        return lambda line: say_json(line.plain())
    if fields:
        return lambda line: say(line.text())
    # Into a pipe an event is one line, whatever its length: `grep` and `wc -l` count on that.
    columns = find_room()
    return lambda line: say(tell(line, columns=columns))
