"""What becomes of a version after its training.

* `rollouts`: the rollout's journal; which version is tried, promoted, rolled back.
"""
