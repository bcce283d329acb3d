"""The log on Apache Kafka. Others import `log`, `settings` and `membership`; each client library stays in its modules.

* `log`: the log itself, which opens the others; for hosts, devices and the console.
* `settings`: brokers, credentials, and the connection options of every client.
* `reader`: reads a little at a time (kafka-python); `log` makes it.
* `bulk_reader`: reads much in order (librdkafka); `log` makes it.
* `appender`: appends plain records (librdkafka); `log` makes it.
* `writer`: the fenced writer of a journal, a transactional producer (kafka-python); `log` makes it.
* `admin`: bounds, deletions and topics (kafka-python); `log` calls it.
* `access`: access rules, passwords and quotas (kafka-python); for `fedlog acl`.
* `survey`: what a cluster says of itself (kafka-python); for `ops.doctor`.
* `errors`: kafka-python's errors as the log's; for all modules that call kafka-python.
* `librdkafka`: librdkafka's errors as the log's, and its logger; for `appender` and `bulk_reader`.
* `membership`: divides partitions among equal workers (kafka-python); for the shard host.
"""
