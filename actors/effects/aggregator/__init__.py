"""Effects of the aggregator, in the order in which an update meets them.

- `effects`: says in which order the others are called; `actors.runtime.actor` calls it
- `submissions`: seal and signature of an update; where its body is
- `intake`: bodies fetched, opened and added in threads
- `bodies`: any body by its address
- `summation`: measure, add, total, recompute: the seam for trust tiers and aggregation rules
- `round_sums`: the running sums of open rounds
- `partials`: results of shard workers
- `release`: from a round's sum to the next model
- `noise_ahead`: noise drawn while a round is being charged
- `model_cache`: the newest models in memory
- `published`: the public records, also those that a crash has left out
- `retention`: bodies and models that are deleted
- `meter`: the numbers that an aggregator shows

Shard workers (`actors.effects.shard`) and full replay (`ops.audit`) share `submissions`, `intake`, `bodies`,
`summation`, `release` and `retention`. May import what `actors.effects` may.
"""
