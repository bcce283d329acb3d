"""Effects of shard workers.

- `worker`: measures bodies, adds the admitted ones, publishes the results; run by `actors.hosts.shard_host`
- `following`: the aggregators' journals as a shard worker reads them
- `held`: opened bodies that wait for their admission, and sums of those that have theirs
- `results`: measures and sums, stored and told
"""
