"""What a policy has watched: the members of a round beside each other, and its answers beside earlier ones.

- `watched`: a running total that keeps a sketch of each member beside the sum, and their scores. Pure but for the seed.
- `drifting`: the distances of a measure task's version, from what is published alone.
"""
