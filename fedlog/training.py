"""`run`: a policy from nothing to its score, as `fedlog run` does it; progress is printed, also in a notebook."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedlog.weights import Model
from ops.processes.panel import View
from ops.processes.running import Run, RunOptions, name_after, read_policy, seed_all
from ops.settings import resolve


@dataclass(frozen=True, slots=True)
class Result:
    """How a run has ended: the score of the newest version, the scores of all, its model, and what `--json` prints."""

    task: str
    version: int
    score: float | None
    curve: Sequence[float]
    model: Model
    summary: dict[str, Any] = field(repr=False)


def run(
    policy: str | Path, *, name: str = "", devices: int | None = None, seed: int = 0, changes: Sequence[str] = ()
) -> Result:
    """Train the policy in a file: start what is missing in the current folder's `.fedlog`, and end it afterwards.

    `changes` are such as `training.epochs=2`. Modules that the policy names lie beside it: devices run in processes of
    their own, which see no function of a notebook. Settings come from the environment, as for `fedlog`.
    Interrupted, it leaves nothing running. Raises FedlogError.
    """
    return _finish(_make_run(policy, name, devices=devices, seed=seed, changes=changes))


async def run_async(
    policy: str | Path, *, name: str = "", devices: int | None = None, seed: int = 0, changes: Sequence[str] = ()
) -> Result:
    """The same beside other work of the event loop; whoever cancels it waits until all has ended."""
    running = _make_run(policy, name, devices=devices, seed=seed, changes=changes)
    work = asyncio.create_task(asyncio.to_thread(_finish, running))
    try:
        # A thread cannot be cancelled, so it is asked to stop and waited for.
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        running.stop()
        await asyncio.wait([work])
        raise


def _make_run(policy: str | Path, name: str, *, devices: int | None, seed: int, changes: Sequence[str]) -> Run:
    # The same reading as the command's, so that a policy means one thing.
    file = Path(policy)
    options = RunOptions(
        policy=read_policy(file, [*seed_all(seed), *changes]),
        name=name or name_after(file),
        devices=devices,
        seed=seed,
        cwd=file.parent,
    )
    return Run(resolve({}), options, say=View(to_stderr=False).say)


def _finish(run: Run) -> Result:
    # Plain lines where there is no terminal: they are kept in a notebook's cell.
    view = View(to_stderr=False)
    with run as running:
        for state in running.follow():
            view.show(state)
        summary, version = running.summarize(state), state.version or 0
        # Before the broker ends: whoever wants the model need not start it again.
        model = Model(state.task, version, running.read_model(state))
    return Result(state.task, version, summary["score"], summary["curve"], model, summary)
