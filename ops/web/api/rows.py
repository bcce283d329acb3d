"""Tables of the history as lists: filters, and pages that begin behind a key, so that new rows shift none of them."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, create_model
from starlette.responses import Response

from ops.history.tables.answers import Answer
from ops.history.tables.catalogue import load_tables
from ops.history.tables.duckdb_file import make_transient
from ops.operator.errors import TaskUnknown, VersionUnknown
from ops.web.api.asked import Asked, list_objects, write_answer
from ops.web.problems import RequestRefused
from schemas.identifiers import TaskId, Version

ROWS_MAX = 500
# What is larger is no number of a version or a round, and may not fit into a BIGINT.
INTEGER_MAX = 10**15
Filter = Annotated[str | None, Field(max_length=127)]
Number = Annotated[int | None, Field(ge=0, le=INTEGER_MAX)]
# Python's types for those of the tables; everything else is JSON of any form.
_TYPES: Mapping[str, Any] = {
    "VARCHAR": str,
    "INTEGER": int,
    "BIGINT": int,
    "DOUBLE": float,
    "BOOLEAN": bool,
    "TIMESTAMP": str,
}


class Page(BaseModel):
    """Which page; what is beside these two are filters, by name, and None filters nothing."""

    limit: Annotated[int, Field(ge=1, le=ROWS_MAX, description="How many rows at most.")] = 100
    after: Annotated[str | None, Field(max_length=600, description="`next` of the page before.")] = None


@dataclass(frozen=True, slots=True)
class Listing:
    """A table of the history as a list. `keys`: expressions of SQL, never NULL, that tell its rows apart in order.

    `expressions`: what a filter compares, where that is no column of its name.
    """

    table: str
    keys: tuple[str, ...]
    expressions: Mapping[str, str] = field(default_factory=dict)

    def answer(self, asked: Asked, page: Page, *, task: TaskId | None = None) -> Response:
        """A page of rows. Raises TaskUnknown for a task without rows that the history does not know."""
        chosen = {**page.model_dump(exclude={"limit", "after", "newest"}), **({"task": task} if task else {})}
        wanted = [(self.expressions.get(name, name), value) for name, value in chosen.items() if value is not None]
        parameters: dict[str, object] = {f"value_{number}": value for number, (_, value) in enumerate(wanted)}
        where = [f"{expression} = $value_{number}" for number, (expression, _) in enumerate(wanted)]
        is_newest_first = getattr(page, "newest", False)
        if page.after is not None:
            where.append(self._begin_after(page.after, parameters, sign="<" if is_newest_first else ">"))
        sql = self._write(where, limit=page.limit, direction=" DESC" if is_newest_first else "")
        found = asked.ask(sql, **parameters)
        # An empty list of a task that nobody knows would be taken for one that has nothing yet.
        if not found.rows and task is not None:
            require_task(asked, task)
        return self._write_page(found, limit=page.limit)

    def _write(self, where: Sequence[str], *, limit: int, direction: str) -> str:
        keys = ", ".join(f"{key} AS key_{number}" for number, key in enumerate(self.keys))
        order = ", ".join(f"key_{number}{direction}" for number in range(len(self.keys)))
        # One more than asked for says whether there is another page.
        condition = f"WHERE {' AND '.join(where)}" if where else ""
        return f"SELECT *, {keys} FROM {self.table} {condition} ORDER BY {order} LIMIT {limit + 1}"  # noqa: S608

    def _begin_after(self, after: str, parameters: dict[str, object], *, sign: str) -> str:
        values = _read_cursor(after)
        # Where a page begins comes from outside, like everything else in a request.
        if len(values) != len(self.keys):
            raise RequestRefused("after: is of another list.")
        parameters.update({f"after_{number}": value for number, value in enumerate(values)})
        return f"({', '.join(self.keys)}) {sign} ({', '.join(f'$after_{number}' for number in range(len(values)))})"

    def _write_page(self, found: Answer, *, limit: int) -> Response:
        width = len(self.keys)
        rows = found.rows[:limit]
        has_more = len(found.rows) > limit
        shown = Answer(
            found.columns[:-width], found.types[:-width], [row[:-width] for row in rows], found.until_ms, found.position
        )
        following = _write_cursor(rows[-1][-width:]) if has_more else None
        return write_answer(found, {"rows": [*list_objects(shown)], "next": following})


def require_task(asked: Asked, task: TaskId) -> Answer:
    """The task's row, as of the question. Raises TaskUnknown."""
    found = asked.ask("FROM tasks WHERE task = $task", task=task)
    if not found.rows:
        raise TaskUnknown(f"There is no task {task!r}.")
    return found


def require_version(asked: Asked, task: TaskId, *, version: Version) -> Answer:
    """The version's row, as of the question. Raises TaskUnknown, VersionUnknown."""
    found = asked.ask("FROM versions WHERE task = $task AND version = $version", task=task, version=version)
    if not found.rows:
        require_task(asked, task)
        raise VersionUnknown(f"{task!r} has no version {version}.")
    return found


@cache
def make_row_model(table: str) -> type[BaseModel]:
    """A row of the table, described as the catalogue does, with its types in the history."""
    described = load_tables()[table]
    fields: dict[str, Any] = {
        name: (Any if kind is None else kind | None, Field(description=described.columns[name]))
        for name, kind in _read_types()[table].items()
    }
    name = f"{table.title().replace('_', '')}Row"
    return create_model(name, __doc__=described.meaning, __config__=ConfigDict(extra="forbid"), **fields)


@cache
def make_page_model(table: str) -> type[BaseModel]:
    """A page of rows of the table."""
    fields: dict[str, Any] = {
        "position": (str, Field(description="Where the history stood.")),
        "until": (str | None, Field(description="Append time of the newest record that this rests on, UTC.")),
        "rows": (list[make_row_model(table)], ...),  # type: ignore[misc]
        "next": (str | None, Field(description="`after` of the next page; null on the last.")),
    }
    return create_model(f"{table.title().replace('_', '')}Page", **fields)


@cache
def _read_types() -> dict[str, dict[str, Any]]:
    """Each table's columns with their types, None for JSON of any form: asked of an empty history."""
    # Asked and not written down a second time: the catalogue alone says what the tables are.
    with make_transient() as history:
        answers = {name: history.ask(f"FROM {name} LIMIT 0") for name in load_tables()}
    return {
        name: {column: _TYPES.get(kind) for column, kind in zip(answer.columns, answer.types, strict=True)}
        for name, answer in answers.items()
    }


def _write_cursor(values: Sequence[object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


def _read_cursor(text: str) -> list[str | int]:
    try:
        values = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, binascii.Error, RecursionError) as error:
        raise RequestRefused("after: is no `next` of a page.") from error
    if not isinstance(values, list) or not all(type(value) in (str, int) for value in values):
        raise RequestRefused("after: is no `next` of a page.")
    return values
