"""Simulated devices that attack: for tests of a server's rules, and labelled so wherever a person sees them.

Called by `running/fleet` and by runs in virtual time; a real device imports none of it. All is drawn from the policy's
seed, so that the same fleet is hostile in the same way again.

- `attacks`: which attacks there are, with their sources, and the word that asks for one; the console reads it.
- `vectors`: what attackers make of updates, as formulas.
- `poisoning`: what attackers make of their examples before they train on them.
- `ring`: what the attackers of a fleet know together; a trainer that sends what the attack makes of it.
- `timing`: attackers that are early, or strike together.
- `crew`: which devices of a fleet attack, and how they are put together.
"""
