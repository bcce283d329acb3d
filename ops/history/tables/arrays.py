"""Columns as DuckDB takes them in quickly."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


def insert(connection: Any, table: str, *, columns: Mapping[str, Sequence[Any]], select: str = "*") -> None:
    """Add rows to a table of a DuckDB connection whose columns these are, in order; `select` may add more."""
    # A column at a time: row by row DuckDB takes a thousand times as long.
    connection.register("arriving", {name: make_array(values) for name, values in columns.items()})
    # The names are our own, of tables and numbers.
    connection.execute(f"INSERT INTO {table} SELECT {select} FROM arriving").fetchall()  # noqa: S608
    connection.unregister("arriving")


def make_array(values: Sequence[Any]) -> Any:
    """What DuckDB takes in without looking at each value: numbers as numbers, and what is missing as a mask."""
    # Who only asks stores nothing, and would wait for it.
    import numpy as np

    kinds = {*map(type, values)}
    kind = next(iter(kinds - {type(None)}), None)
    # A number that is none would become NULL, and a whole one that is too long must be refused, not cut.
    if kind not in (int, float, bool) or len(kinds - {type(None)}) > 1 or not _fits(values, kind):
        return np.array(values, dtype=object)
    if type(None) not in kinds:
        return np.array(values, dtype=kind)
    given = [kind() if value is None else value for value in values]
    return np.ma.masked_array(given, mask=[value is None for value in values], dtype=kind)


def _fits(values: Sequence[Any], kind: type) -> bool:
    given = [value for value in values if value is not None]
    if kind is int:
        return all(-(1 << 63) <= value < 1 << 63 for value in (min(given), max(given)))
    return kind is bool or not any(math.isnan(value) for value in given)
