"""What an operator orders about versions after their training.

* `drifting`: how far a measure task's answers have moved, as `fedlog drift` asks the log.
* `references`: what a measure task's answers are compared with, copied when it is created.
* `rollouts`: promote, roll back, halt, resume and approve; each waits until the rollout has decided.
"""
