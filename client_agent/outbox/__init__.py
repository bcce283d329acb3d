"""The outbox: one device's updates on its disk, from training to outcome. `client_agent.device` calls it.

May import `schemas`, and of the device `compression`, `files`, `identity`, `link` and the errors of `learning`.

- `outbox`: the steps of an update, each durable before the next; called by `client_agent.device`.
- `giving_up`: why there will be none, and the report that says so; called by `client_agent.device`.
- `outcomes`: what the aggregator signed of each update, for receipts; `fedlog device` and `fedlog receipt` call it.
- `slots`: its large pieces, in files that are used again; called by `outbox`.
"""
