"""fedlog for people's own code and notebooks: the only package of fedlog that they import.

Importing it loads nothing heavy, because data callables import it in every device's process; each name below is
imported when it is first used.

- `rehearsal`: a policy trained on this machine alone, in seconds, without a broker; the templates' tests use it.
- `data`: data sets without downloads, and how they are split over devices.
- `training`: `run` trains a policy from nothing to its score; `run_async` does so beside other work.
- `deployment`: `connect` gives the tasks of a log: create, list, follow, score them, and read their models.
- `subscribing`: `subscribe` gives new versions, promotions and rollbacks as they come, at least once.
- `weights`: a version of a model, in numpy or in a torch module.

    >>> import fedlog
    >>> result = fedlog.run("rings.toml", changes=["stop.versions_max=2"])  # doctest: +SKIP
    >>> with fedlog.connect() as log:  # doctest: +SKIP
    ...     model = log.find_task("rings").read_model()
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedlog.deployment import Deployment, Task, Version, connect
    from fedlog.subscribing import Published, subscribe
    from fedlog.training import Result, run, run_async
    from fedlog.weights import Model

__all__ = ["Deployment", "Model", "Published", "Result", "Task", "Version", "connect", "run", "run_async", "subscribe"]

_HOMES = {
    **dict.fromkeys(("Deployment", "Task", "Version", "connect"), "fedlog.deployment"),
    **dict.fromkeys(("Published", "subscribe"), "fedlog.subscribing"),
    **dict.fromkeys(("Result", "run", "run_async"), "fedlog.training"),
    "Model": "fedlog.weights",
}


# Python asks here only for names that are not there yet.
def __getattr__(name: str) -> Any:
    """A name of the package, imported when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'fedlog' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """What a notebook offers after a dot."""
    return [*__all__, "data"]
