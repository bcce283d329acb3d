"""What happened, as people read it: read models folded from the log, and records as lines.

May import what lies below `ops`; prints nothing.

`task_view`: one task as a value, and its fold; read by terminal, operator, services and the demo.
`projections`: the protocol of a read model, and the views of all tasks; fed by `following`.
`makeup`: what a version is made of: weights, clips, codec loss; `task_view` keeps it.
`following`: feeds projections from a log; called by operator, services, the demo and `fedlog fleet`.
`records`: any record of any topic as a line; called by `fedlog events`.
`telling`: what an event says, in a few words; called by `fedlog events`.
`authorship`: which records of journals readers pass over; called by `fedlog events`.
`merging`: records of many partitions in the order of time; called by `fedlog events`.
`tables`: everything as tables for SQL, in a file of DuckDB; called by `fedlog query` and `fedlog history`.
`levels`: the table of service levels as metrics; `fedlog history sync --follow` may serve them.
`releases`: the values that measure tasks have released; `tables` stores them.
`tracing`: rounds and updates as spans, and their way to a collector; called by `fedlog trace`.
`plots`: pictures on those tables; called by `fedlog plot` and `fedlog compare`.
`verified`: what `fedlog verify` found last, as a note in the folder; read by the page.
`prospects`: whether devices can still bring a task forward, and why not. Whoever waits for a task asks it.
"""
