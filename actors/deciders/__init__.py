"""Pure deciders: state, `decide` and `evolve`, without clock, entropy, environment or I/O.

`actors.runtime` runs them, `ops.audit` folds them again, and tests specify them on the pure functions. They may import
`schemas` and the arithmetic below, nothing else; `.importlinter` holds that. A new decider has a module here, and its
impure half under the same name in `actors/effects/`.

- `decider`: what a decider is, and digests of its state. The runtime calls it.
- `tallies`: events that only count, and their sum. The runtime adds them up on their way into a journal.
- `selector`: which device may train, from which version, and until when.
- `selecting/`: what it knows and how an event changes that; who gets no lease, and why. `selector` alone uses it.
- `aggregator`: what the aggregator decides: admission, proposal, publication, halt.
- `admission`: whether an update is admitted, and what its admission says. `aggregator` and its effects use it.
- `aggregator_state`: the state of those decisions, folded from the journal. `aggregator` and its effects read it.
- `masking/`: helpers of masked tasks, and what an aggregator hears of them
- `epochs`: when leases need another key, and which may go. `aggregator`, `admission` and its effects use it.
- `outcomes`: what became of each update, in columns. The aggregator's state holds one of them a task.
- `scores`: what evaluators say of versions, and what is final of it. Whoever decides on scores uses it.
- `lifetime`: whether a task may begin, and which score ends it. `aggregator` alone uses it.
- `registrar`: who is enrolled, as which subject, and until when.
- `privacy_budget`: charges each round before it may be published.
- `populations/`: what devices may spend over all tasks of their population. The three actors around a round use it.
"""
