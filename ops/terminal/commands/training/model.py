"""`fedlog model`: the versions of a task, and one of them as files."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from ops.console import ConsoleError, note, number, say, say_json, table
from ops.history.projections import Follower, Projection, TaskView
from ops.opening import open_log
from schemas.canonical import plain
from schemas.events import ModelPublished, TaskCreated
from schemas.topics import LEDGER, partition_of
from streams.log import EventLog

app = typer.Typer(help="The versions of a task: list, export.", no_args_is_help=True)

Task = Annotated[str, typer.Option(help="The task's name.")]


@app.command("list")
def list_versions(
    ctx: typer.Context,
    task: Task,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a version.")] = False,
) -> None:
    """Show every version of a task, with what it scored."""
    with open_log(ctx.obj) as log:
        view = _view(log, task)
    if as_json:
        for version, model in sorted(view.published.items()):
            metrics = view.evaluations[version].metrics if version in view.evaluations else None
            say_json({**plain(model), "time_ms": view.published_ms[version], "metrics": metrics})
        return
    columns = ("version", "round", "published", "accuracy", "sha256", "stored in")
    table(columns, [_row(view, version) for version in sorted(view.published)])


@app.command()
def export(
    ctx: typer.Context,
    task: Task,
    out: Annotated[Path, typer.Option(help="A folder; it is made.")],
    version: Annotated[int | None, typer.Option(help="Default: the newest.", min=0)] = None,
) -> None:
    """Write weights.bin (flat little-endian float32), config.json and privacy.log."""
    with open_log(ctx.obj) as log:
        view = _view(log, task)
        chosen = view.version if version is None else version
        if chosen not in view.published or view.created is None:
            has = f"0 to {view.version}" if view.published else "none yet"
            raise ConsoleError(f"{task!r} has no version {'' if chosen is None else chosen}; it has {has}.")
        written = write(log, view, chosen, out=out)
    for path in written:
        say(str(path))
    note(f"version {chosen} of {task}: {view.created.parameters} parameters")


def write(log: EventLog, view: TaskView, version: int, *, out: Path) -> list[Path]:
    """Write the three files of a version; their paths."""
    from ops.operator import models as weights

    created, published = view.created, view.published[version]
    assert created is not None
    flat = weights.read(log, published.model, parameters=created.parameters)
    raw = flat.astype("<f4").tobytes()
    config = json.dumps(configuration(created, published, hashlib.sha256(raw).hexdigest()), indent=2) + "\n"
    out.mkdir(parents=True, exist_ok=True)
    contents = {"weights.bin": raw, "config.json": config.encode(), "privacy.log": privacy_text(view, version).encode()}
    for name, content in contents.items():
        (out / name).write_bytes(content)
    return [out / name for name in contents]


def configuration(created: TaskCreated, published: ModelPublished, sha256: str) -> dict[str, Any]:
    """What config.json says; `sha256` is that of weights.bin."""
    offset, tensors = 0, []
    for spec in created.tensors:
        size = 1
        for length in spec.shape:
            size *= length
        tensors.append({"name": spec.name, "shape": list(spec.shape), "offset": offset, "size": size})
        offset += size
    return {
        "task": created.task,
        "version": published.version,
        "round": published.round,
        "parameters": created.parameters,
        "dtype": "float32",
        "byte_order": "little",
        "sha256": sha256,
        "tensors": tensors,
        "policy": plain(created.policy),
        "policy_sha256": created.policy_sha256.hex(),
    }


def privacy_text(view: TaskView, version: int) -> str:
    """What privacy.log says: every charge of the ledger up to that version's round, and what holds after it."""
    assert view.created is not None
    privacy = view.created.policy.privacy
    title = f"# {view.task}, version {version}"
    if privacy is None:
        return f"{title}: trained without differential privacy; no guarantee is given.\n"
    head = [
        title,
        "# unit: one device; adjacency: its updates replaced by zero vectors; central model, zCDP",
        f"# budget: rho_max {privacy.rho_max:g}",
        f"# participations of the busiest device before this task: {view.created.participations_before}",
        f"# source: topic {LEDGER.name}, partition {partition_of(view.task)}",
    ]
    last = view.published[version].round
    charges = [] if last is None else [charge for charge in view.charges if charge.round <= last]
    lines = [
        f"round {c.round}: noise_multiplier {c.mechanism.noise_multiplier:g} sigma {c.mechanism.sigma} "
        f"clip_steps {c.mechanism.clip_steps} sampler {c.mechanism.sampler} participations_max {c.participations_max} "
        f"rho {c.rho_total:.6g} epsilon {c.epsilon:.6g} delta {c.delta:g}"
        for c in charges
    ]
    held = charges[-1] if charges else None
    total = (
        f"total: rho {held.rho_total:.6g} epsilon {held.epsilon:.6g} delta {held.delta:g}"
        if held
        else "total: nothing was charged; this version has seen no device's data in this task"
    )
    return "\n".join([*head, *lines, total]) + "\n"


def _view(log: EventLog, task: str) -> TaskView:
    with Follower(log, Projection(), partitions=[partition_of(task)]) as follower:
        view = follower.catch_up().tasks.get(task)
    if view is None:
        raise ConsoleError(f"There is no task {task!r}. `fedlog task list` shows those that exist.")
    return view


def _row(view: TaskView, version: int) -> tuple[object, ...]:
    model = view.published[version]
    when = datetime.fromtimestamp(view.published_ms[version] / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return (
        version,
        model.round,
        when,
        number(view.metric_of(version)),
        model.model.sha256.hex()[:16],
        str(model.model),
    )
