"""Where actors run. `ops.processes` starts these; they may import everything in `actors/`, and nothing imports them.

- `faust_app`: Faust as the carrier of records, and the process that hosts one role. The supervisor calls it.
- `shard_host`: the process that hosts a shard worker. The supervisor calls it.
- `worker`: what both processes begin with: options, key, cluster, metrics.
- `loop`: the turns of every host: open what is assigned, feed it, let time pass.
- `host`: actors in that loop, whatever carries the records. `faust_app` makes it.
- `assignment`: which partitions are a host's, from what its carrier says of single topics.
- `inbox`: records that have come and are not decided yet.
- `unseen`: what actors have committed and readers do not see. `host` asks it.
- `assembly`: puts an actor together from its row in `actors.wiring`. Hosts and tests call it.
- `metrics`: what a worker tells Prometheus; an observer of actors. Hosts make it.
- `event_log`: what a worker's log shows of decisions; an observer of actors. Hosts make it.
- `crash_marker`: the input that a worker is deciding, in memory that outlives it. Its supervisor reads it.
"""
