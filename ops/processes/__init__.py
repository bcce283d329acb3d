"""Processes: what starts, watches and ends others. May import operator, audit and history; prints through the console.

`children`: starts and ends child processes; called by the three below.
`supervisor`: keeps one worker alive; run by `fedlog worker`.
`worker`: the child that runs an actor; started by `supervisor`.
`broker`: the embedded Kafka; run by `fedlog broker`, the demo and the tests.
`demo`: a whole training run with a kill and a replay; run by `fedlog demo`.
`demo_view`: shows a running task; called by `demo`.
"""
