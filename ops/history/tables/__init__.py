"""The history of a log as tables: every event a row, and queries over them. Needs the extra `history` (DuckDB).

`facts`: each kind of event as a table; called by `projector`.
`projector`: records to rows, each exactly once; fed by `ops.history.following`.
`catalogue`, `tables.toml`: the tables that people ask, with meaning, unit and query.
`answers`: what a question comes back with, or why not; without DuckDB, for whoever asks a process that writes.
`duckdb_file`: where they lie, and questions about them; called by `fedlog history` and `fedlog query`.
`syncing`: brings them up to the log, or builds them anew; called by the same.
`explaining`: questions put together: what a version is made of; called by `fedlog explain` and `fedlog diff`.
`arrays`: columns of values as DuckDB takes them in; called by `duckdb_file`.
`standing`: tasks as the console shows them.
`positions`: where a history stands, as answers say it and readers wait for it.
`serving`: questions to a process that is writing them. `live`: kept up to the log while it answers; held by
`fedlog history sync --follow`, which runs and the demo start. `exporting`: an answer as a file of Parquet.
"""
