"""Services that follow the log and add to it, or carry it elsewhere. May import operator, audit and history.

`evaluator`: scores each version on held-out data; run by `fedlog evaluate`.
`said`: what this evaluator has said already, by its key. `scoring`: one task's learner and held-out data, opened once.
`cohorts`: which examples belong to which cohort. `evaluator` calls all three.
`mlflow/`: versions as those of registered models, for `fedlog mlflow`.
`subscriber`: follows what is published, for `fedlog subscribe` and `fedlog.subscribe`; `standing` keeps its position.
"""
