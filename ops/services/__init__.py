"""Services that follow the log and add to it, or carry it elsewhere. May import operator, audit and history.

`evaluator`: scores each version on held-out data; run by `fedlog evaluate`.
`scoring`: one task's learner and held-out data, opened once; called by `evaluator`.
"""
