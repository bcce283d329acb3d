"""Sections of a task whose policy has somebody or something watched.

`apart`: who was set apart from the others, and why. `drift`: how far a measure task's answers have moved.
"""
