"""What becomes of a version after its training.

* `rollouts`: the rollout's journal; which version is tried, promoted, rolled back.
* `drift`: in the aggregator's journal; how far the answers of a measure task have moved.
"""
