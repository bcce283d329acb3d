"""`fedlog rollout`: which version is tried, promoted or rolled back, and the operator's word in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.console import note, say, say_json, table
from ops.opening import find_operator, open_log, open_log_or_export, require_key
from ops.terminal.options import FromFiles

if TYPE_CHECKING:
    from schemas.events import RolloutAction

app = typer.Typer(help="Rollouts: which version is tried, by whom, and which one counts.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="TASK", help="Name of the task.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Wait = Annotated[float, typer.Option(help="Seconds to wait until the rollout has decided.")]
SHOWN = 12


@app.command()
def show(ctx: typer.Context, name: Name, from_files: FromFiles = None, as_json: Json = False) -> None:
    """Where the rollout of a task stands, and its last steps with their reasons."""
    from ops.operator.releasing import rollouts

    with open_log_or_export(ctx.obj, from_files) as log:
        found = rollouts.show(log, name, operator=find_operator(ctx.obj)).describe()
    if as_json:
        say_json(found)
        return
    if not found["is_known"]:
        note("Nobody rolls it out yet: start `fedlog worker rollout`.")
    say(f"promoted   {_name(found['promoted'])}, before it {_name(found['previous'])}")
    say(f"candidate  {_name(found['candidate'])}{_describe_stage(found)}")
    # The remedy beside it: a halt ends by nothing else.
    if found["is_halted"]:
        say(f"halted     until `fedlog rollout resume {name}`")
    # The newest of them: whoever wants all asks SQL, or `fedlog events`.
    rows = [(step["step"], step["text"]) for step in found["steps"][-SHOWN:]]
    if rows:
        table(("step", "what and why"), rows)


@app.command()
def promote(
    ctx: typer.Context,
    name: Name,
    version: Annotated[int, typer.Argument(metavar="VERSION", min=0, help="The version that everybody is to use.")],
    wait_s: Wait = 30.0,
    as_json: Json = False,
) -> None:
    """Promote a version at once, whatever its scores; a candidate that is passed over is rolled back."""
    _order(ctx, name, wish=("promote", version), wait_s=wait_s, as_json=as_json)


@app.command()
def rollback(ctx: typer.Context, name: Name, wait_s: Wait = 30.0, as_json: Json = False) -> None:
    """Take the candidate back; without one, what is promoted, for the version before it."""
    _order(ctx, name, wish=("rollback", None), wait_s=wait_s, as_json=as_json)


@app.command()
def halt(ctx: typer.Context, name: Name, wait_s: Wait = 30.0, as_json: Json = False) -> None:
    """Let nothing be staged, grown, promoted or rolled back until it is resumed."""
    _order(ctx, name, wish=("halt", None), wait_s=wait_s, as_json=as_json)


@app.command()
def resume(ctx: typer.Context, name: Name, wait_s: Wait = 30.0, as_json: Json = False) -> None:
    """Let a halted rollout go on."""
    _order(ctx, name, wish=("resume", None), wait_s=wait_s, as_json=as_json)


@app.command()
def approve(ctx: typer.Context, name: Name, wait_s: Wait = 30.0, as_json: Json = False) -> None:
    """Approve the candidate, where the policy asks for it."""
    _order(ctx, name, wish=("approve", None), wait_s=wait_s, as_json=as_json)


def _order(
    ctx: typer.Context, name: str, *, wish: tuple[RolloutAction, int | None], wait_s: float, as_json: bool
) -> None:
    from ops.operator.releasing import rollouts

    # The operator's own key: no server may release in the operator's name.
    key = require_key(ctx.obj)
    with open_log(ctx.obj) as log:
        steps = rollouts.order(log, name, wish=rollouts.Wish(*wish), key=key, wait_s=wait_s)
    if as_json:
        say_json([step.describe() for step in steps])
        return
    # Each in the order of the journal: a candidate that is passed over is rolled back before the promotion.
    for step in steps:
        say(f"{type(step.event).__name__}: {step.text}")
    if not steps:
        note("It is decided: nothing had to change for it.")


def _name(version: int | None) -> str:
    return "nothing" if version is None else f"version {version}"


def _describe_stage(found: dict[str, Any]) -> str:
    if found["candidate"] is None:
        return ""
    # Until the aggregator says that it keeps the model, which takes as long as it is away.
    if found["stage"] is None:
        return ", waiting for its first stage"
    cohorts = ", ".join(found["cohorts"]) or "all cohorts"
    return f", stage {found['stage'] + 1} of {found['stages']}: {found['share']:.0%} of {cohorts}"
