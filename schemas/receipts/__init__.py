"""What anybody can check about a round without its journal, from what is announced of it.

* `members`: the tree over a round's members, and proofs that one is in it.
"""
