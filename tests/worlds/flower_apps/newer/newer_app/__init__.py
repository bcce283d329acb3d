"""A model that moves to the mean of its node's data, by the Message API."""
