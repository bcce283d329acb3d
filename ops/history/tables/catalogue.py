"""The tables that people ask: their meaning, their columns, and their queries over the facts.

`tables.toml` is the only place where they are described; `fedlog query --schema` and docs/history.md show it.
"""

from __future__ import annotations

import functools
import hashlib
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from ops.history.tables.facts import (
    FACTS,
    PLACE,
    SECRETS,
    STORED,
    FactTable,
    StatisticReleased,
    Submission,
)

_SCORE_WORDS = re.compile(r"\b(SCORED_VERSIONS|SCORES)\b")
_FACTS = re.compile(r"\bfacts\.(\w+)")
# Functions in place of a table that make rows of what they are given; others read tables by a name that is computed.
_HARMLESS = {"range", "generate_series", "unnest", "json_each", "json_tree"}
_KEPT = {"about", "batches", "marks"}
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
        if until is None and not hides:
            return self.sql
        return _FACTS.sub(lambda found: _select_facts(found[1], until=until, hides=hides), self.sql)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question whose tables can be replaced by views: those of `load_tables`, and facts; `sql` asks the views.

    `other`: the first that it asks and that no view can stand before.
    """

    tables: frozenset[str] = frozenset()
    facts: frozenset[str] = frozenset()
    sql: str = ""
    other: str = ""

    def make_views(self, until: str | None, *, hides: bool) -> dict[str, str]:
        """Queries for what it asks, by name, with the conditions of `Table.make_query`."""
        tables = {name: load_tables()[name].make_query(until, hides=hides) for name in self.tables}
        return {**tables, **{name: _select_facts(name, until=until, hides=hides) for name in self.facts}}


# What was read lately: the questions of a page and a few of people.
KNOWN_MAX, KNOWN_LETTERS_MAX = 500, 20_000
_KNOWN: dict[str, Asked] = {}


def find_asked(sql: str, parse: Callable[[str], Mapping[str, Any]]) -> Asked:
    """What `sql` asks, as DuckDB's parser reads it: no search in the text finds all ways to write a name."""
    # A page asks the same again and again, and to read a question takes as long as to answer it.
    if (known := _KNOWN.get(sql)) is not None:
        return known
    asked = _find_asked(parse(sql), sql)
    if len(_KNOWN) < KNOWN_MAX and len(sql) < KNOWN_LETTERS_MAX:
        _KNOWN[sql] = asked
    return asked


def _find_asked(parsed: Mapping[str, Any], sql: str) -> Asked:
    if "statements" not in parsed:
        return Asked(other=f"This form of a question ({parsed.get('error_message')})")
    nodes = [*_iterate_nodes(parsed["statements"])]
    # Names that the question itself gives to parts of it, but never those of what the file keeps for itself.
    maps = [node["cte_map"]["map"] for node in nodes if isinstance(node.get("cte_map"), dict)]
    known = {*load_tables(), *({entry["key"].lower() for entries in maps for entry in entries} - _KEPT)}
    data, tables, facts = sql.encode(), set[str](), dict[int, str]()
    for node in nodes:
        match node:
            case {"type": "BASE_TABLE", "catalog_name": "", "schema_name": "", "table_name": name} if (
                name.lower() in known
            ):
                tables.add(name.lower())
            case {
                "type": "BASE_TABLE",
                "catalog_name": "",
                "schema_name": "facts",
                "table_name": name,
                "query_location": at,
            } if name in _NAMES and data[at:].startswith(f"facts.{name}".encode()):
                facts[at] = name
            case {"type": "BASE_TABLE", "catalog_name": catalog, "schema_name": schema, "table_name": name}:
                return Asked(other=f"The table {'.'.join(filter(None, (catalog, schema, name)))}")
            case {"type": "TABLE_FUNCTION", "function": {"function_name": called}} if called not in _HARMLESS:
                return Asked(other=f"The function {called}")
            case {"type": "SHOW_REF"}:
                return Asked(other="A list of what there is")
    # By place and not by name, the last first: the same words in a text of the question stay as they are.
    for at in sorted(facts, reverse=True):
        data = data[:at] + b"temp" + data[at + len(b"facts") :]
    return Asked(tables=frozenset(tables & load_tables().keys()), facts=frozenset(facts.values()), sql=data.decode())


@functools.cache
def load_tables() -> dict[str, Table]:
    """Every table by its name, in the order in which they are described."""
    text = resources.files(__package__).joinpath("tables.toml").read_text(encoding="utf-8")
    # All events are one query over all kinds, which nobody should have to write down.
    return {
        name: Table(name=name, **{**row, "sql": insert_scores(row["sql"].strip()) or _make_events_sql()})
        for name, row in tomllib.loads(text).items()
    }


def insert_scores(sql: str) -> str:
    """A question with what is final in the place of its words.

    SCORED_VERSIONS has the score that counts of each version: task, version, metrics, samples. Where a quorum decides
    it is the final one, else the last said. SCORES has how each stands, final or not, also by cohort.
    """
    found = _SCORE_WORDS.search(sql)
    if found is None:
        return sql
    scored = resources.files(__package__).joinpath("scored.sql").read_text(encoding="utf-8").strip()
    final = scored.replace("BY_COHORT", "false")
    words = {
        "SCORED_VERSIONS": f"(SELECT task, version, metrics, samples FROM {final} WHERE status = 'final')",  # noqa: S608
        "SCORES": scored.replace("BY_COHORT", "true"),
    }
    return _SCORE_WORDS.sub(lambda found: words[found[0]], sql)


def make_definitions() -> list[str]:
    """The statements that create an empty history."""
    facts = [f"CREATE TABLE facts.{table.name} ({_list_columns(table)})" for table in FACTS.values()]
    views = [f"CREATE VIEW {table.name} AS {table.make_query()}" for table in load_tables().values()]
    return ["CREATE SCHEMA facts", *facts, *views]


@functools.cache
def compute_format() -> str:
    """A digest of all definitions: a file with another one was written by another release."""
    return hashlib.sha256("\n".join(make_definitions()).encode()).hexdigest()[:16]


def _select_facts(name: str, *, until: str | None, hides: bool) -> str:
    select, where = "", "" if until is None else f" WHERE {until}"
    if hides and (secrets := sorted(SECRETS & {*_NAMES[name].definition} if name in _NAMES else ())):
        # As in the file of somebody who is no operator, who reads devices' records before their tasks are known.
        when = "true" if name == FACTS[Submission].name else f"task IN ({_PRIVATE})"
        hidden = ", ".join(f"CASE WHEN {when} THEN NULL ELSE {one} END AS {one}" for one in secrets)
        select = f" SELECT * REPLACE ({hidden})"
    return f"(FROM facts.{name}{select}{where})"


def _iterate_nodes(parsed: Any) -> Iterator[dict[str, Any]]:
    if isinstance(parsed, dict):
        yield parsed
    for part in parsed.values() if isinstance(parsed, dict) else parsed if isinstance(parsed, list) else ():
        yield from _iterate_nodes(part)


def _list_columns(table: FactTable) -> str:
    return ", ".join(f'"{name}" {kind}' for name, kind in {**table.definition, **STORED}.items())


def _make_events_sql() -> str:
    # What stands in a body is no record, and has no place of its own among them.
    tables = (table for kind, table in FACTS.items() if kind is not StatisticReleased)
    return "\nUNION ALL\n".join(_make_event_sql(table) for table in tables)


def _make_event_sql(table: FactTable) -> str:
    names = [name for name in table.definition if name not in PLACE]
    task = "task" if "task" in names else "NULL::VARCHAR"
    values = ", ".join(f"'{name}': \"{name}\"" for name in names)
    return (
        f'FROM facts.{table.name} SELECT at_topic AS topic, at_partition AS partition, at_offset AS "offset", '
        f"at_number AS number, '{table.event}' AS event, {task} AS task, epoch_ms(log_ms) AS log_time, "
        f'epoch_ms(at_ms) AS appended_at, at_sequence AS sequence, to_json({{{values}}}) AS "values"'
    )
