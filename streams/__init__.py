"""The log: append, read, one fenced writer a journal; and what is read from it as a whole. May import `schemas` only.

* `log`: the protocol that both implementations obey, with its errors, records and places; everybody imports it.
* `memory`: the log in memory, for tests, simulations and recomputed histories.
* `kafka/`: the log on Apache Kafka.
* `writer`: the commit that every writer has, dead after a doubt; the two implementations extend it.
* `topics`: what a topic must look like; the two implementations check theirs.
* `journals`: the one reader of journals, which follows their chain; for replay, shard workers, read models and audit.
* `read_ahead`: records that a thread fetches while others are worked on; for audits.
* `bodies/`: stores and fetches the bytes that events name by a BodyRef; for actors, devices and audit.
* `exported/`: exports partitions into files, and reads such a folder as a log; for `fedlog export-log` and audit.
* `packing`: many messages in one record of devices, both halves; for whoever writes such records and whoever reads.
* `holes`: tells a hole that is real from a record that was missed; for the inputs and the journal of an actor.
* `skipped`: counts and tells what a reader passes over because nobody of ours wrote it.
* `retry`: waits while no broker answers, and logs when one goes and when it is back.
* `notes`: what all of these say about themselves, and who says nothing loads nothing for it.
"""
