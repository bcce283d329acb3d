"""The server: actors, each of which decides from its own journal and is the only writer of it.

- `wiring`: one row an actor: what it reads and writes, where its code is. Hosts, audit, console and tests loop over it.
- `keys`: the operator's key, and what is derived from it. Hosts load it, effects use it.
- `disk`: what has to be on the disk before anybody is told of it. Whoever keeps keys or a journal in files uses it.
- `expiry`: until when a role is certified. Hosts and the evaluator watch it.

Below stand `deciders/` (the pure half of each actor), `effects/` (the other half, under the same name), `runtime/`
(runs any actor) and `hosts/` (the processes). They may import `streams` and `schemas`, never `ops` or `client_agent`.
"""
