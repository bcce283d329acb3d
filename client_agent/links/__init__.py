"""Transports: how a device's words reach the server. `running/` opens one link a process.

May import `schemas`, `client_agent.link` and, for the log itself, `streams`.

- `kafka`: over the log, for devices that may reach Kafka, and for tests in memory.
- `http`: to a gateway, for all others. `errands`: what it asks for; `sending`: uploads; `requests`: its connections;
  `refusals`: what it says no to.
"""
