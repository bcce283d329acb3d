"""Where actors run. `ops.processes` starts these; they may import everything in `actors/`, and nothing imports them.

- `faust_app`: hosts the actors of one role; Faust assigns partitions and delivers records. The supervisor calls it.
- `shard_host`: hosts a shard worker on the partitions that its group leaves to it. The supervisor calls it.
- `assembly`: puts an actor together from its row in `actors.wiring`. Hosts and tests call it.
- `metrics`: what a worker tells Prometheus; an observer of actors. Hosts make it.
- `event_log`: what a worker's log shows of decisions; an observer of actors. Hosts make it.
- `crash_marker`: the input that a worker is deciding, in memory that outlives it. Its supervisor reads it.
"""
