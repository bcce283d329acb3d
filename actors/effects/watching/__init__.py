"""Where a policy asks for quarantine: the members of a round, compared while its sum grows. Pure but for the seed.

- `watched`: a running total that keeps a sketch of each member beside the sum, and their scores.
"""
