"""Devices whose updates are unlike the others', from the bodies in the log; `fedlog devices --outliers` calls it.

- `scores`: what is measured of an update beside its round, and what is rare among devices. Pure.
- `reading`: the rounds of a task with the vectors of their members; only where looking at them is allowed.
"""
