"""The tier masked, where an aggregator hears of its helpers; audit comes here too.

- `unmasking`: what helpers have signed, and the sum of a round without its masks
"""
