"""Runs any actor on one partition; knows no actor in particular, and no Faust.

- `actor`: one actor as its sentence: read, decide, fold, commit, answer; hosts call it
- `role`: the row of `actors.wiring` that says what an actor is made of
- `effects`: what an actor's impure half may do, and when it is called
- `inputs`: what is decided of each input topic, and whether a record is missing before the next one (law 2)
- `guard`: inputs on which our own code fails are recorded and skipped (law 9)
- `journal`: claim, chain and fenced commits of the actor's own journal (laws 3 to 5)
- `replay`: folds the journal when an actor opens (law 1)
- `digests`: when a state's digest is due, whether a recorded one holds, which state becomes a snapshot
- `snapshots`: states that the journal proves, so that replay need not begin at its first record
- `answers`: what devices are told once the journal holds it
- `observer`, `meter`: who watches an actor, and the numbers that it shows

May import `actors.deciders`, `actors.keys`, `streams` and `schemas`; never `actors.effects` or `actors.hosts`.
"""
