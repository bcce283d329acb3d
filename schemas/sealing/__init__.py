"""The tier sealed: what only the aggregator can open, and how it says with which key. May import `schemas.policy`.

* `epochs`: the public key of an epoch, as an aggregator signs it and a device checks it.
* `envelopes`: the body of an update under that key: HPKE, bound to its lease, and padded.
* `partials`: what a shard worker has added up, under the same key.
"""
