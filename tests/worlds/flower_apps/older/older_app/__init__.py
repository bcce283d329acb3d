"""A model that moves to the mean of its node's data, by a NumPyClient."""
