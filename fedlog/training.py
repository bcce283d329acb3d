"""`run`: a policy from nothing to its score, as `fedlog run` does it; progress is printed, also in a notebook."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict, Unpack

from client_agent.running.watch import LOAD_S
from fedlog.weights import Model
from ops.processes import running
from ops.processes.panel import View
from ops.processes.running import Run
from ops.processes.wording import Wording
from ops.settings import resolve
from ops.virtual.running import VirtualRun


@dataclass(frozen=True, slots=True)
class Result:
    """How a run has ended: the score of the newest version, the scores of all, its model, and what `--json` prints."""

    task: str
    version: int
    score: float | None
    curve: Sequence[float]
    model: Model
    summary: dict[str, Any] = field(repr=False)


class RunOptions(TypedDict, total=False):
    """What a run may be told by name.

    `changes` are such as `training.epochs=2`; `simulate` is a file of the devices' habits. `deterministic`: one process
    and virtual time, so that the same seed gives the same members, staleness and bits of every model; docs/python.md
    says what that gives up. `accelerator`: what torch computes with on this machine: cpu, cuda, cuda:1 or mps.
    `load_s`: how long the data of one device may take to load.
    """

    name: str
    devices: int
    seed: int
    changes: Sequence[str]
    simulate: str | Path
    deterministic: bool
    accelerator: str
    load_s: float


def run(policy: str | Path, **options: Unpack[RunOptions]) -> Result:
    """Train the policy in a file: start what is missing in the current folder's `.fedlog`, and end it afterwards.

    Options: those of `RunOptions`. Modules that the policy names lie beside it: devices run in processes of their own,
    which see no function of a notebook. Settings come from the environment, as for `fedlog`. Interrupted, it leaves
    nothing running. Raises FedlogError.
    """
    return _finish(_make_run(policy, options))


async def run_async(policy: str | Path, **options: Unpack[RunOptions]) -> Result:
    """The same beside other work of the event loop; whoever cancels it waits until all has ended."""
    begun = _make_run(policy, options)
    work = asyncio.create_task(asyncio.to_thread(_finish, begun))
    try:
        # A thread cannot be cancelled, so it is asked to stop and waited for.
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        begun.stop()
        await asyncio.wait([work])
        raise


def _make_run(policy: str | Path, given: RunOptions) -> Run | VirtualRun:
    # The same reading as the command's, so that a policy means one thing.
    file, seed = Path(policy), given.get("seed", 0)
    options = running.RunOptions(
        policy=running.read_policy(file, [*running.seed_all(seed), *given.get("changes", ())]),
        name=given.get("name") or running.name_after(file),
        devices=given.get("devices"),
        seed=seed,
        simulate=Path(given["simulate"]).absolute() if "simulate" in given else None,
        cwd=file.parent,
        # Whoever reads what goes wrong has parameters, and no options.
        wording=Wording.PYTHON,
        accelerator=given.get("accelerator", "cpu"),
        load_s=given.get("load_s", LOAD_S),
    )
    kind = VirtualRun if given.get("deterministic") else Run
    return kind(resolve({}), options, say=View(to_stderr=False).say)


def _finish(run: Run | VirtualRun) -> Result:
    view = View(to_stderr=False)
    with run, view.live():
        for state in run.follow():
            view.show(state)
        summary, version = run.summarize(state), state.version or 0
        # Before the broker ends: whoever wants the model need not start it again.
        model = Model(state.task, version, run.read_model(state))
    return Result(state.task, version, summary["score"], summary["curve"], model, summary)
