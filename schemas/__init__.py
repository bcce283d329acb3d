"""The vocabulary: every value that crosses the log, and its bytes. Imports nothing of ours; everybody imports it.

* `events/`: everything that can happen, a module for each chapter of the story.
* `identifiers`: names and counts, and the address of a body.
* `policy/`: the rules of a task, with units and bounds.
* `topics`: the catalogue of topics, and which partition a task lives in.
* `canonical`: values as bytes and back, strict and unambiguous, with upcasters for older events.
* `journal`: the records of a journal, and the chain that ties them.
* `certificates`: the operator certifies a key for each role; what a role says carries its certificate.
* `leases`: the signed lease; selector, device and aggregator.
* `receipts/`: what can be checked about a round without its journal.
* `updates`: the record that submits an update; device and aggregator.
* `devices`: a device is its key: its id, and whose signature counts as its own.
* `signing`: a device's signature over what it sends.
* `tensors/`: updates and models as bytes, each codec with both halves.
* `published`: the announcement of a version, a signed CloudEvent for services that know nothing of fedlog.
* `announcements/`: the same topic as subscribers read it, with promotions and rollbacks; and its AsyncAPI.
* `rollouts/`: what is in production, as `published` says it, and which version a device gets.
* `creations`: what the operator signed in `tasks`: which creation counts, and what is wrong with one.
* `errors`: the root of all errors, with exit codes.
"""
