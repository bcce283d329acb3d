"""What an operator says of devices that stand apart from the others of a task.

- `lifting`: lets a quarantined device take part again.
"""
