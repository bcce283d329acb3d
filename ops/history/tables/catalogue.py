"""The tables that people ask: their meaning, their columns, and their queries over the facts.

`tables.toml` is the only place where they are described; `fedlog query --schema` and docs/history.md show it.
"""

from __future__ import annotations

import functools
import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

from ops.history.tables.facts import FACTS, PLACE, SECRETS, STORED, FactTable, Submission

FACTS_PATTERN = re.compile(r"\bfacts\.(\w+)")
_NAMES = {table.name: table for table in FACTS.values()}
_PRIVATE = "SELECT task FROM facts.task_created WHERE policy -> 'privacy' ->> 'noise_multiplier' IS NOT NULL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table: `columns` has the meaning and the unit of each; `sql` asks tables of facts, as `facts.NAME`."""

    name: str
    meaning: str
    columns: Mapping[str, str]
    sql: str

    def make_query(self, until: str | None = None, *, hides: bool = False) -> str:
        """Its rows as they are, or as they were when only the facts of which `until` holds were there.

        `hides`: without what only operators may see of private tasks.
        """
        return restrict_facts(self.sql, until=until, hides=hides)


@functools.cache
def load_tables() -> dict[str, Table]:
    """Every table by its name, in the order in which they are described."""
    text = resources.files(__package__).joinpath("tables.toml").read_text(encoding="utf-8")
    # All events are one query over all kinds, which nobody should have to write down.
    return {
        name: Table(name=name, **{**row, "sql": row["sql"].strip() or _make_events_sql()})
        for name, row in tomllib.loads(text).items()
    }


def make_definitions() -> list[str]:
    """The statements that create an empty history."""
    facts = [f"CREATE TABLE facts.{table.name} ({_list_columns(table)})" for table in FACTS.values()]
    views = [f"CREATE VIEW {table.name} AS {table.make_query()}" for table in load_tables().values()]
    return ["CREATE SCHEMA facts", *facts, *views]


@functools.cache
def compute_format() -> str:
    """A digest of all definitions: a file with another one was written by another release."""
    return hashlib.sha256("\n".join(make_definitions()).encode()).hexdigest()[:16]


def restrict_facts(sql: str, *, until: str | None, hides: bool) -> str:
    """A question with a condition on each table of facts that it names; no second way to compute what is asked."""
    if until is None and not hides:
        return sql
    return FACTS_PATTERN.sub(lambda found: _select_facts(found[1], until=until, hides=hides), sql)


def _select_facts(name: str, *, until: str | None, hides: bool) -> str:
    select, where = "", "" if until is None else f" WHERE {until}"
    if hides and (secrets := sorted(SECRETS & {*_NAMES[name].definition} if name in _NAMES else ())):
        # As in the file of somebody who is no operator, who reads devices' records before their tasks are known.
        when = "true" if name == FACTS[Submission].name else f"task IN ({_PRIVATE})"
        hidden = ", ".join(f"CASE WHEN {when} THEN NULL ELSE {one} END AS {one}" for one in secrets)
        select = f" SELECT * REPLACE ({hidden})"
    return f"(FROM facts.{name}{select}{where})"


def _list_columns(table: FactTable) -> str:
    return ", ".join(f'"{name}" {kind}' for name, kind in {**table.definition, **STORED}.items())


def _make_events_sql() -> str:
    return "\nUNION ALL\n".join(_make_event_sql(table) for table in FACTS.values())


def _make_event_sql(table: FactTable) -> str:
    names = [name for name in table.definition if name not in PLACE]
    task = "task" if "task" in names else "NULL::VARCHAR"
    values = ", ".join(f"'{name}': \"{name}\"" for name in names)
    return (
        f'FROM facts.{table.name} SELECT at_topic AS topic, at_partition AS partition, at_offset AS "offset", '
        f"at_number AS number, '{table.event}' AS event, {task} AS task, epoch_ms(log_ms) AS log_time, "
        f'epoch_ms(at_ms) AS appended_at, at_sequence AS sequence, to_json({{{values}}}) AS "values"'
    )
