"""What an operator does, for the console and an API alike: takes an open log, returns data, raises `OperatorError`s.

May import `ops.history` and what lies below `ops`; prints nothing.

`tasks`: create, pause, resume, close, and look at tasks; called by `fedlog task`, `fedlog replay` and the demo.
`succession`: claims the task that another carries on from, and lists what was spent; called by `tasks`.
`deployments`: names a log once, and issues the keys of roles for it; called by `tasks`, workers and `fedlog key`.
`first_models`: what a task starts from, as its learner gives it; called by `tasks`.
`measurements`: what a measure task starts from: zeros, and a copy of what it measures; called by `tasks`.
`questions`: the policy of a federated evaluation; called by `fedlog measure`.
`results`: what a measure task has published; called by `fedlog measure` and `fedlog task show`.
`models`: writes, reads and chooses model versions; called by `tasks`, `model_files` and the evaluator.
`weight_files`: weights in the formats of others, read and written; called by `tasks` and `model_files`.
`model_files`: a version as files that need nothing of fedlog; called by `fedlog model export`.
`populations/`: what devices may spend over all tasks of their population; called by `fedlog population` and `tasks`.
`quarantines/`: lets a device that stood apart take part again; called by `fedlog task lift`.
`projects/`: a new project out of a template; called by `fedlog new`.
`readback`: waits until what was written can be read; called by `tasks`, `succession` and `deployments`.
`errors`: what can be asked for in vain; recognised by the console.
"""
