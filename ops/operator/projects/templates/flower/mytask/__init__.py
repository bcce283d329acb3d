"""A Flower app: a line through points, found by clients that each have some of them."""
