"""Flower apps, unchanged: their ClientApp trains under fedlog's leases. May import the rest of `client_agent.learning`.

Flower itself lives in an environment of its own, because it pins libraries that fedlog has in other versions.

- `learner`: the `Learner`; a policy names it as `client_agent.learning.flower:ClientApp`.
- `questions`: an app's query as the question of a measure task.
- `process`: the process of Flower's environment that runs an app; called by the learner.
- `apps`: an app's folder, interpreter and digest by its name; also called by `allow_list` and `sources`.
- `fedlog_node`: what runs in that process. It imports flwr, and nothing of fedlog imports more of it than `frames`.
"""

from client_agent.learning.flower.learner import ClientApp
from client_agent.learning.flower.questions import part, query

__all__ = ["ClientApp", "part", "query"]
