"""The outbox: one device's updates on its disk, from training to outcome. `client_agent.device` calls it.

May import `schemas`, and of the device `compression`, `files`, `identity` and `link`.

- `outbox`: the steps of an update, each durable before the next; called by `client_agent.device`.
- `slots`: its large pieces, in files that are used again; called by `outbox`.
"""
