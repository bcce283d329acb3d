"""Processes: what starts, watches and ends others. May import operator, audit and history; prints through the console.

`children`: starts and ends child processes; called by the three below.
`supervisor`: keeps one worker alive, and is the worker's own entrance; run by `fedlog worker`.
`broker`: the embedded Kafka; run by `fedlog broker`, the demo and the tests.
`demo`: a whole training run with a kill and a replay; run by `fedlog demo`.
`demo_view`: shows a running task; called by `demo`.
"""
