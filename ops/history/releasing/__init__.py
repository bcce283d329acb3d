"""What became of versions after their training.

* `scoring`: how a version is scored where a quorum decides, in words.
* `standing`: where the rollout of a task stands, folded from its journal, for console, API and page alike.
"""
