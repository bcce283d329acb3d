"""`fedlog topics`: create the topics of the catalogue on the cluster, list and check them, and grant rights."""

from __future__ import annotations

from typing import Annotated

import typer

from ops.console import say, say_json, table
from ops.opening import open_log
from ops.settings import Settings
from ops.terminal.commands.cluster import acl
from ops.terminal.commands.cluster.acl import Passwords
from schemas.topics import CATALOGUE, Topic
from streams.log import TopicPartition

app = typer.Typer(help="The topics on the cluster: create, list, check, grant rights.", no_args_is_help=True)


def create_topics(settings: Settings) -> list[str]:
    """Create every topic of the catalogue that is missing; returns their names."""
    with open_log(settings) as log:
        # None where no number was given: topics that exist say theirs, and the cluster how many copies it can keep.
        return log.create_topics(
            CATALOGUE, partitions=settings.partitions or None, replication=settings.replication or None
        )


@app.command()
def create(ctx: typer.Context) -> None:
    """Create the topics that are missing, and check the others."""
    # Topics that exist are only checked: their settings may be the cluster owner's.
    created = create_topics(ctx.obj)
    say(f"{len(created)} of {len(CATALOGUE)} topics created under the prefix {ctx.obj.topic_prefix!r}.")


@app.command("list")
def list_topics(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per topic.")] = False,
) -> None:
    """Show every topic: its only writer, its retention, its number of offsets."""
    with open_log(ctx.obj) as log:
        existing = log.describe_topics([topic.name for topic in CATALOGUE])
        ends = {
            name: [log.bounds(TopicPartition(name, number)).end for number in range(found.partitions)]
            for name, found in existing.items()
        }
    if as_json:
        for topic in CATALOGUE:
            say_json({"topic": topic.name, "writer": topic.writer, "ends": ends.get(topic.name)})
        return
    # These are offsets, so deleted records and transaction markers count too.
    rows = [
        (t.name, t.writer, _format_retention(t), sum(ends[t.name]) if t.name in ends else "missing") for t in CATALOGUE
    ]
    table(("topic", "only writer", "kept", "offsets"), rows)


@app.command()
def check(ctx: typer.Context) -> None:
    """Exit 1 and name each topic that is missing or set up wrongly."""
    with open_log(ctx.obj) as log:
        log.check_topics(CATALOGUE)
        partitions = log.partitions
    say(f"All {len(CATALOGUE)} topics are set up correctly, with {partitions} partitions each.")


@app.command()
def grant(ctx: typer.Context, passwords: Passwords = None) -> None:
    """Grant each role its least rights on the cluster: the same as `fedlog acl apply`."""
    acl.apply(ctx, passwords=passwords)


def _format_retention(topic: Topic) -> str:
    """How long records are kept, for people."""
    # A compacted topic has no age: what counts is whether a newer record has the same key.
    if topic.retention["cleanup.policy"] == "compact":
        return "newest of each key"
    hours = int(topic.retention["retention.ms"]) // 3_600_000
    return "forever" if hours < 0 else f"{hours} h" if hours < 48 else f"{hours // 24} days"
