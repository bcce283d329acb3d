"""The device: it checks in, trains under leases, and keeps everything that it sends on its own disk first.

May import `schemas` only; `links/` alone may import `streams`, and nothing here imports `actors` or `ops`.

- `device`: one lease of one device as a sentence: fetch, train, protect, compress, store, publish. `running/loop.py`
  calls it.
- `answers`: which answers a device obeys; `device` asks it.
- `counts`: what a device did, and why its leases ended without a trained update; `device` and `running/` count.
- `schedule`: when the device checks in and repeats what got no answer; `device` asks it.
- `setting`: what one device is made of; `running/` puts it together.
- `conditions`: the conditions that a check-in reports, and the profile that a device asks for them.
- `local_update`: from a model and examples to the update that leaves; called by `device`.
- `compression`: clipping, codecs and error feedback; called by `local_update`, and by the outbox after a refusal.
- `identity`: the device's name and key, in its folder; opened by `running/`.
- `files`: files that survive a crash; written by `identity` and `outbox/`.
- `locks`: one process a device and task; taken by `running/`.
- `link`: the protocol by which a device speaks to the server; `links/` implements it.
"""
