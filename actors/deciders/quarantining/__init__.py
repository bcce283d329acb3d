"""Who stands apart, and is let in no more; `actors.deciders.aggregator` alone uses it. Pure, like every decider.

- `watch`: what an aggregator remembers of devices that stood apart, and how an event changes it.
- `judging`: what it decides on the scores of a round, and on the operator's word that lifts a quarantine.
"""
