"""Processes: what starts, watches and ends others. May import operator, audit and history; prints through the console.

`children`: starts and ends child processes; called by the others.
`supervisor`: keeps one worker alive; run by `fedlog worker`.
`worker`: the child that runs an actor; started by `supervisor`.
`broker`: the embedded Kafka; run by `fedlog broker`, the demo and the tests.
`head_start`: what lets it start sooner; made by `broker`, once for a user.
`services`: what a run or the demo starts and ends; `started` marks it, `guardian` ends it after a kill.
`running`: a task from nothing to its score; run by `fedlog run`.
`wording`: how advice names an option, in a terminal or in a program; `running` asks it.
`demo`: a whole training run with a kill and a replay; run by `fedlog demo`.
`panel`: shows a running task; called by `fedlog run` and the demo.
"""
