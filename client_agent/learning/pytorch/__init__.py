"""The learner that serves where a policy names none: a torch module, and a loop of local SGD or the user's own.

- `learner`: the four methods of a learner for a module; opened by `client_agent.learning.opening`.
- `modules`: a module's tensors by name, and the role of each; called by `learner`.
- `copying`: copies of a module for one training each; called by `learner`.
- `accelerators`: where tensors are while they are computed with; called by `learner`.
- `batches`: what a data plugin gives, as tensors by batch; called by `learner`.
- `forwarding`: a module called with a batch; called by `training` and `scoring`.
- `training`: the local loop: optimizers, schedule, clipped gradients; called by `learner`.
- `lockstep/`: many devices' small trainings as one computation; called by `learner`.
- `losses`: losses by name; called by `training` and `scoring`.
- `scoring`: metrics of a module, taken batch by batch; called by `learner` and `training`.
- `files`: a file of torch as arrays by name, and back; called by `ops.operator.weight_files`.
- `scores`: the metrics that come with fedlog; called by `scoring`.
"""
