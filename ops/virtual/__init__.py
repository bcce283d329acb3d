"""A run in one process by virtual time, the same from the same seeds; `fedlog run --deterministic` calls it.

The actors, the devices' code, the learner and the evaluator are the real ones. What is missing is what differs from run
to run: processes, a broker, a clock. May import `ops.services`, `ops.processes` and all below.

`running`: the run, from its policy to its score and its exported log.
`stage`: the log and all that work on it, in turns.
`server`: the clock, and the actors of one partition; tests of federations feed theirs as it does.
`fleet`: the simulated devices, with keys from the policy's seed.
`comparing`: policies beside each other on one split; `fedlog compare` calls it.
`trace`: what a run decided, and a digest of it by which two runs are compared.
"""
