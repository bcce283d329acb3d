"""What an operator promises the devices of a population, over all of its tasks together.

- `budgets`: sets a budget and waits until it is in force, lists those that are, and refuses tasks that do not fit one.
"""
