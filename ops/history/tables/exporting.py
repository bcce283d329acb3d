"""An answer as a file of Parquet, which pandas, Spark and most other tools read."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import duckdb

from ops.history.tables.answers import Answer
from ops.history.tables.arrays import insert


def write_parquet(answer: Answer, path: Path) -> None:
    """Write the rows with the types that they have in SQL; a file that is there is replaced."""
    with closing(duckdb.connect()) as connection:
        columns = ", ".join(f'"{name}" {kind}' for name, kind in zip(answer.columns, answer.types, strict=True))
        connection.execute(f"CREATE TABLE answer ({columns})")
        # No rows have no columns to be taken by.
        if answer.rows:
            values = zip(*answer.rows, strict=True)
            insert(connection, "answer", columns=dict(zip(answer.columns, values, strict=True)))
        # Beside it first, so that nobody finds half a file under its name.
        half = path.with_name(path.name + ".new")
        connection.table("answer").write_parquet(str(half))
    half.replace(path)
