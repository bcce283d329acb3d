"""The numbers behind decisions: pure functions that give the same bits on every machine.

Deciders and effects call them, and `ops.audit` recomputes with them. They may import `schemas`, numpy and the one
library that each names; no clock, no entropy, no I/O.

- `sums`: exact clipping, weighting and adding of updates in integers, and the digest that commits to a round's members.
- `robust`: median, trimmed mean, Krum and centered clipping over the members of a round.
- `comparing`: how far each member of a round stands apart from the others, for quarantine.
- `noise`: the discrete Gaussian of one release, drawn from a key and the proposal.
- `optimizers`: the server's step from a sum to the next model.
- `schedules`: the server's learning rate over the versions.
- `statistics`: the release of a measure task: from a sum to statistics in their own units.
- `reporting`: what devices report under privacy, out of the same noised sum.
- `drifting`: how far two histograms are apart, and how far chance and noise alone would have them.
- `accounting`: what releases cost: rho, and the epsilon that follows from it.
"""
