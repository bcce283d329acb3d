"""`fedlog events`: what stands in the log, one line a fact."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Annotated

import typer

from ops.console import say, say_json
from ops.history.merging import MergedReader
from ops.history.projections import TOPICS
from ops.history.records import Line, lines
from ops.opening import list_partitions, open_log_or_export
from ops.terminal.errors import ConsoleError
from ops.terminal.options import FromFiles
from schemas.topics import ANSWERS, CATALOGUE, PARTITIONS, partition_of
from streams.log import EventLog, Record, TopicPartition


def events(
    ctx: typer.Context,
    topic: Annotated[list[str] | None, typer.Option(help="May be repeated; default: a task's story.")] = None,
    start: Annotated[int | None, typer.Option("--from", metavar="OFFSET", help="Begin at this offset.", min=0)] = None,
    partition: Annotated[int | None, typer.Option(help="Only this partition.", min=0, max=PARTITIONS - 1)] = None,
    task: Annotated[str | None, typer.Option(help="Only facts about this task.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as new records come.")] = False,
    from_files: FromFiles = None,
    limit: Annotated[int | None, typer.Option(help="Stop after so many lines.", min=1)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, nothing cut short.")] = False,
) -> None:
    """Show the facts in the log, oldest first: when, where (topic/partition@offset #seq), what."""
    places = list(_places(topic or list(TOPICS), partition, task=task))
    if follow and from_files is not None:
        raise ConsoleError("An export does not grow: --follow and --from-files exclude each other.", exit_code=2)
    with (
        open_log_or_export(ctx.obj, from_files) as log,
        closing(MergedReader(log, _keep_known(log, places), start)) as reader,
    ):
        left = limit
        for record in _records(reader, follow=follow):
            for line in lines(record):
                if task is not None and line.task != task:
                    continue
                _print(line, as_json=as_json)
                left = None if left is None else left - 1
                if left == 0:
                    return


def _places(topics: list[str], partition: int | None, *, task: str | None) -> Iterator[TopicPartition]:
    known = {topic.name: topic for topic in CATALOGUE}
    for name in topics:
        if name not in known:
            raise ConsoleError(f"There is no topic {name!r}; there are {', '.join(known)}.", exit_code=2)
        # A task lives in one partition of every topic but the answers, which lie by device.
        if partition is None and task is not None and name != ANSWERS.name:
            yield TopicPartition(name, partition_of(task))
        else:
            wanted = range(known[name].partitions) if partition is None else [partition]
            yield from (TopicPartition(name, number) for number in wanted)


def _keep_known(log: EventLog, places: list[TopicPartition]) -> list[TopicPartition]:
    """An export may hold a few partitions only."""
    known = list_partitions(log)
    return [place for place in places if place.partition in known]


def _records(reader: MergedReader, *, follow: bool) -> Iterator[Record]:
    yield from reader.read_past()
    while follow:
        try:
            yield from reader.poll()
        except KeyboardInterrupt:
            return


def _print(line: Line, *, as_json: bool) -> None:
    if as_json:
        say_json(line.plain())
    else:
        say(line.text())
