"""What becomes of a version after its training: the table [rollout].

* `rollout`: the table, with its stages and gates.
* `rollout_checks`: what cannot hold there. `schemas.policy.checks` asks it.
"""
