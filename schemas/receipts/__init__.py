"""What anybody can check about a round without its journal, from what is announced of it.

* `members`: the tree over a round's members, and proofs that one is in it.
* `receipt`: what became of one update, as a file that anybody can check who knows the operator's public key.
"""
