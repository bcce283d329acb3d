"""Traces out of the log: where the time of a round and of an update went. The hot path carries nothing for it.

`spans`: rounds and updates as spans, asked of the history; pure but for the question.
`otlp`: sends spans to a collector, as OTLP over HTTP in JSON; called by `fedlog trace`.
"""
