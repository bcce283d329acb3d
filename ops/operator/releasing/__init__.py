"""What an operator orders about versions after their training.

* `rollouts`: promote, roll back, halt, resume and approve; each waits until the rollout has decided.
"""
