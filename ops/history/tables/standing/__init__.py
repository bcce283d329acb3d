"""How tasks stand, out of the tables: the views that the console shows, without a fold of the log.

`views`, `views.toml`: a task's view as one question; called by `ops.terminal.standing`.
`reading`: rows of facts as the events that they were.
"""
