"""Pure deciders: state, `decide` and `evolve`, without clock, entropy, environment or I/O.

`actors.runtime` runs them, `ops.audit` folds them again, and tests specify them on the pure functions. They may import
`schemas` and the arithmetic below, nothing else; `.importlinter` holds that. A new decider has a module here, and its
impure half under the same name in `actors/effects/`.

- `decider`: what a decider is, and digests of its state. The runtime calls it.
- `tallies`: events that only count, and their sum. The runtime adds them up on their way into a journal.
- `selector`: which device may train, from which version, and until when.
- `drawing`: which devices a synchronous round takes. `selector` alone uses it.
- `utility`: which of them it calls first, where the policy prefers useful ones. `selector` alone uses it.
- `devices`: what the selector knows of each device, in rows of bytes. `selector` alone uses it.
- `aggregator`: what the aggregator decides: admission, proposal, publication, halt.
- `admission`: whether an update is admitted, and what its admission says. `aggregator` and its effects use it.
- `aggregator_state`: the state of those decisions, folded from the journal. `aggregator` and its effects read it.
- `lifetime`: whether a task may begin, and which score ends it. `aggregator` alone uses it.
- `privacy_budget`: charges each round before it may be published.
"""
