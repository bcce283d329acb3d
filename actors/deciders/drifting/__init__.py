"""How far the answers of a measure task have moved; `actors.deciders.aggregator` alone uses it. Pure.

- `standing`: the reference, where it is a version of the task itself, and what was found and has not ended.
- `judging`: what is found, or ends, with the distances of a version.
"""
