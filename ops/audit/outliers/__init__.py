"""What is unlike: devices among others (`fedlog devices --outliers`), answers of now among earlier.

- `scores`: what is measured of an update beside its round, and what is rare among devices. Pure.
- `reading`: the rounds of a task with the vectors of their members; only where looking at them is allowed.
- `quarantine`: what a replay checks of devices that are let in no more. Pure.
- `drift`: what a replay checks of answers that have moved. Pure but for the reference's body.
"""
