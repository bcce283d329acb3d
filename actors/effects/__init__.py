"""The impure half of each actor, under the name of its decider: what is checked before a decision and follows from it.

- `selector`: signed check-ins come in, sealed leases and declines go out
- `registrar`: signed requests and orders come in, certificates and refusals go out
- `rollout`: scores come in, each step is announced; `published`: what an actor says in that topic, and completes
- `privacy_budget`: a proposal that cannot be charged is withheld
- `aggregator/`: updates come in checked and measured, running sums grow, releases are stored
- `scores`: what evaluators say, and whether a measurement is told as it stands in the log
- `operator_events`: what the operator signed, for actors that hear of it through another's journal
- `masking/`: what helpers of masked tasks say, and the sum of a round without its masks
- `shard/`: shard workers, which measure and add bodies beside an aggregator

`actors.wiring` names these modules and `actors.runtime.actor` calls them. May import `actors.runtime`,
`actors.deciders`, `actors.keys`, `streams` and `schemas`; never `actors.hosts`.
"""
