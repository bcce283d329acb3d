"""The cohorts of a task's held-out examples: which there are, and which examples each has.

What names them is a column of the data, or a plugin of the policy that is asked once for each example.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import Any

from actors.deciders.scores import COHORTS_MAX
from client_agent.learning.data import find_column, take_example
from client_agent.learning.foreign import call
from client_agent.learning.plugins import resolve
from schemas.errors import FedlogError
from schemas.identifiers import Cohort

Places = list[int]
_PRINTABLE = re.compile(r"[A-Za-z0-9._-]{1,32}")
_ADVICE = "a cohort is called by a text or whole number of 1 to 32 letters of A-Z a-z 0-9 . _ -"


class CohortsUnusable(FedlogError):
    """The held-out examples cannot be told apart by cohort; the message says which example, and what to do."""

    code = "cohorts_unusable"


def find_cohorts(given: Any, named_by: str, *, count: int) -> dict[Cohort, Places]:
    """Each cohort of the held-out data that a plugin gave, by name, with the places of its examples.

    Raises CohortsUnusable, PluginError, and LearnerError for what the policy's own code does.
    """
    if given is None:
        raise CohortsUnusable("the learner keeps nothing of the held-out data by which cohorts could be told")
    values = _ask_plugin(given, named_by, count=count) if ":" in named_by else _read_column(given, named_by)
    found: dict[Cohort, Places] = {}
    for place, value in enumerate(values):
        found.setdefault(_to_name(value, place=place, named_by=named_by), []).append(place)
        # Before all are read: a column of millions of names, such as an id, would fill the memory.
        if len(found) > COHORTS_MAX:
            raise CohortsUnusable(
                f"{named_by!r} names more than {COHORTS_MAX} cohorts in {place + 1} examples, as {_show(found)}: name "
                "groups, and not single examples"
            )
    if (told := sum(map(len, found.values()))) != count:
        raise CohortsUnusable(f"{named_by!r} names the cohorts of {told} examples, and there are {count}")
    return dict(sorted(found.items()))


def check_same(before: Iterable[Cohort], now: Iterable[Cohort], *, version: int) -> None:
    """Raises CohortsUnusable where cohorts are others than those of an earlier version."""
    gone, new = sorted(set(before) - set(now)), sorted(set(now) - set(before))
    if not (gone or new):
        return
    told = " and ".join([f"has no {_show(gone)} any more"] * bool(gone) + [f"has {_show(new)}"] * bool(new))
    raise CohortsUnusable(
        f"the held-out data {told}, unlike when version {version} was scored: scores by cohort could not be compared. "
        "Give it the data that it had, or start another evaluator with a key of its own "
        "(`fedlog key issue --for evaluator --serial N`)"
    )


def _ask_plugin(given: Any, plugin: str, *, count: int) -> list[Any]:
    name: Callable[[Any], Any] = resolve(plugin)
    return [call(f"cohort {plugin!r} of example {place}", name, take_example(given, place)) for place in range(count)]


def _read_column(given: Any, name: str) -> list[Any]:
    column = call(f"the column {name!r}", find_column, given, name)
    if column is None:
        raise CohortsUnusable(
            f"evaluation.cohort = {name!r}: the held-out data ({type(given).__name__}) have no such column. Give them "
            "as arrays by name, or as a list of examples that have names; of arrays side by side name a plugin, "
            "'module:callable', that is called with an example"
        )
    # Arrays and tensors give Python's own values so.
    return column.tolist() if hasattr(column, "tolist") else list(column)


def _to_name(value: Any, *, place: int, named_by: str) -> Cohort:
    where = f"{named_by!r} names no cohort for example {place}"
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        raise CohortsUnusable(f"{where}: give it one, such as 'unknown', or leave the example out")
    # A number of an array is one of Python's only once it is asked.
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        value = value.item()
    text = str(value) if isinstance(value, str | int) else ""
    if not _PRINTABLE.fullmatch(text):
        raise CohortsUnusable(f"{where}, but {value!r:.60}: {_ADVICE}")
    return text


def _show(names: Iterable[Cohort]) -> str:
    listed = list(names)
    return ", ".join(map(repr, listed[:3])) + (" ..." if len(listed) > 3 else "")
