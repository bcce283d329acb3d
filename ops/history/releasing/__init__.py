"""What became of versions after their training.

* `standing`: where the rollout of a task stands, folded from its journal, for console, API and page alike.
"""
