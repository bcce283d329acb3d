"""Columns as arrays: what DuckDB stores is what was there."""

from __future__ import annotations

import math
from pathlib import Path

import duckdb
import pytest

from ops.history.tables.arrays import insert

VALUES = {
    "BIGINT": [1, None, -(1 << 63), (1 << 63) - 1],
    "DOUBLE": [0.1, None, math.inf, -0.0],
    "BOOLEAN": [True, None, False, True],
    "VARCHAR": ["1", None, "", "nan"],
    "JSON": ["[]", None, '{"a":1}', "null"],
}


@pytest.mark.parametrize("length", [1, 2, 4])
def test_values_come_back_as_they_were(tmp_path: Path, length: int) -> None:
    """Numbers to their last bit, what is missing as nothing, whether or not anything is missing in a column."""
    for kind, values in VALUES.items():
        with duckdb.connect(str(tmp_path / kind)) as connection:
            connection.execute(f"CREATE TABLE t (a {kind}, b {kind})")
            insert(connection, "t", columns={"a": values[:length], "b": [None] * length})
            found = connection.execute("FROM t").fetchall()
            assert list(map(repr, found)) == [repr((value, None)) for value in values[:length]]


@pytest.mark.parametrize("value", [1 << 63, -(1 << 63) - 1, "x", True])
def test_a_value_of_another_kind_is_refused_or_stays_what_it_is(value: object) -> None:
    """A column of numbers takes no number that it would have to change."""
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE t (a BIGINT)")
        try:
            insert(connection, "t", columns={"a": [1, value]})
        except duckdb.Error:
            return
        assert connection.execute("SELECT a FROM t WHERE a <> 1 OR a IS NULL").fetchall() in ([], [(value,)])
