"""Many devices' small trainings as one computation: their steps are taken in lockstep, by `torch.func.vmap`.

What a device learns does not depend, in a single bit, on who is in its company. Whoever does not fit is left to the
loop of `training`, which is what all of this has to agree with.

- `group`: which trainings fit, and their results; called by `client_agent.learning.pytorch.learner`.
- `lanes`: what each device takes at each step, padded to a width of its own; called by `group`.
- `steps`: one step of all: gradients, FedProx's term, bounds, optimizers; called by `group`.
- `padded_losses`: losses over batches of which some rows do not count; called by `steps`.
- `tape`: the operations of a step, recorded once and played again; called by `group`.
- `rehearsal`: whether a model learns in lockstep what it learns alone; called by `group`.
"""
