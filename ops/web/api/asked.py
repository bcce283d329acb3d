"""What every question may say: as of when, not older than which position; and how its answer is written."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any

from fastapi import Depends, Query
from starlette.requests import Request
from starlette.responses import Response

from ops.history.tables.answers import Answer
from ops.history.tables.positions import Position
from ops.web.callers import Caller, find_caller
from ops.web.problems import RequestRefused
from ops.web.reading import HistoryReader
from ops.web.site import find_site
from schemas.errors import FedlogError

POSITION_HEADER = "Fedlog-Position"
REACH_WAIT_S = 10.0


class PositionNotReached(FedlogError):
    """The history is not there yet, or was built anew; ask again, or without a position."""

    code = "position_not_reached"


@dataclass(frozen=True, slots=True)
class Asked:
    """A question of a caller, who may see `reader`, as of `at`."""

    caller: Caller
    reader: HistoryReader
    at: str | None

    def ask(self, sql: str, **parameters: object) -> Answer:
        """The answer of the history. Raises QueryRefused, WriterGone."""
        return self.reader.ask(sql, as_of=self.at, parameters=parameters)


async def read_question(
    request: Request,
    *,
    at: Annotated[
        str | None, Query(max_length=120, description="As of TASK@VERSION, a time (UTC), or a position.")
    ] = None,
    not_older_than: Annotated[
        str | None, Query(max_length=60, description="Wait until the history has reached this position.")
    ] = None,
) -> Asked:
    """The question, once the history is as far as it asks for. Raises PositionNotReached, RequestRefused."""
    site, caller = find_site(request), find_caller(request)
    if not_older_than is not None:
        position = Position.parse(not_older_than)
        if position is None:
            raise RequestRefused("not_older_than: no position, which is GENERATION:SEQUENCE.")
        # Without a thread: forty of them waiting would keep everybody else from being answered.
        if not await site.changes.reach(position, timeout_s=REACH_WAIT_S):
            raise PositionNotReached
    return Asked(caller, site.reader_for(caller), at)


Question = Annotated[Asked, Depends(read_question)]


def list_objects(answer: Answer) -> Iterator[dict[str, Any]]:
    """Its rows as objects; what SQL calls JSON is no text within JSON."""
    # By the type that SQL says, and not by how a text looks.
    for row in answer.rows:
        yield {
            name: json.loads(value) if kind == "JSON" and value is not None else make_plain(value)
            for name, kind, value in zip(answer.columns, answer.types, row, strict=True)
        }


def make_plain(value: Any) -> Any:
    """A value of SQL as JSON has it: times in UTC, and no number that JSON does not know."""
    match value:
        case datetime():
            return value.replace(tzinfo=value.tzinfo or UTC).isoformat(timespec="milliseconds")
        case date():
            return value.isoformat()
        case Decimal():
            return float(value)
        case float() if not math.isfinite(value):
            return None
        case _:
            return value


def write_answer(answer: Answer, told: Mapping[str, Any], *, status: int = 200) -> Response:
    """The answer to a request: `told`, and where the history stood."""
    # In a header too: whoever follows a redirect or reads a body by pieces has it first.
    position = "" if answer.position is None else str(answer.position)
    until = None if answer.until_ms is None else make_plain(datetime.fromtimestamp(answer.until_ms / 1000, UTC))
    body = json.dumps({"position": position, "until": until, **told}, ensure_ascii=False, allow_nan=False)
    # A lone surrogate can stand in JSON and in no UTF-8; it is written as JSON writes it.
    data = body.encode("utf-8", "surrogatepass").decode("utf-8", "replace").encode()
    return Response(data, status, media_type="application/json", headers={POSITION_HEADER: position})
