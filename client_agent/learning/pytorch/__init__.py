"""The learner that serves where a policy names none: a torch module, and a loop of local SGD or the user's own.

- `learner`: the four methods of a learner for a module; opened by `client_agent.learning.opening`.
- `modules`: a module's tensors as named arrays with roles; called by `learner`.
- `batches`: what a data plugin gives, as tensors by batch; called by `learner`.
- `training`: the local loop: optimizers, schedule, FedProx; called by `learner`.
- `losses`: losses by name; called by `learner` for training and scoring.
- `scoring`: the metrics of a module on held-out data; called by `learner`.
"""
