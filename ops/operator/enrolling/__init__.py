"""What an operator, or an enroller, does about who takes part: enrolments, tokens, revocations, and forgetting.

- `authority`: who may say so here: the operator's key, or an enroller's.
- `vault`: the salts behind the pseudonyms, in a file beside the keys and nowhere in the log.
- `orders`: opens, closes, revokes and forgets, and waits until it counts.
- `standing`: what the registrar's journal says at this moment.
"""
