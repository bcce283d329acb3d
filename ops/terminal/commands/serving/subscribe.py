"""`fedlog subscribe`: each new version, promotion and rollback, on a line or to a command, at least once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Annotated

import typer

from ops.console import note, say, say_json
from ops.opening import open_log, require_operator
from ops.terminal.completing import complete_task
from ops.terminal.errors import ConsoleError
from schemas.errors import EXIT_USAGE

if TYPE_CHECKING:
    from ops.services.subscriber import Published, Subscriber
    from ops.settings import Settings
    from ops.terminal.handing import Command

POLL_S = 0.5
RETRY_S, RETRY_MAX_S = 1.0, 60.0


TaskName = Annotated[
    str, typer.Argument(metavar="[TASK]", autocompletion=complete_task, help="Only this task (default: all).")
]
CommandLine = Annotated[
    str, typer.Option("--exec", metavar="COMMAND", help="Run this for each, with the event as JSON on its stdin.")
]
Begin = Annotated[
    str, typer.Option("--from", metavar="beginning|now", help="Where to begin without a position in --state.")
]
State = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Keeps the position, so that a restart misses nothing.")
]
Models = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Download the model of each first; FEDLOG_MODEL names it.")
]


def subscribe(
    ctx: typer.Context,
    task: TaskName = "",
    command: CommandLine = "",
    promoted: Annotated[bool, typer.Option("--promoted", help="Promotions and rollbacks alone.")] = False,
    begin: Begin = "now",
    state: State = None,
    models: Models = None,
    limit_s: Annotated[float, typer.Option(help="How long the command may take, in seconds.", min=0.1)] = 600.0,
    count: Annotated[int, typer.Option(help="End after so many (default: never).", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per announcement.")] = False,
) -> None:
    """Follow what is published, signatures checked; at least once, where --state keeps the position.

    The command finds FEDLOG_TASK, FEDLOG_VERSION (to be used from now on), FEDLOG_TYPE, FEDLOG_SHA256 and, after a
    rollback, FEDLOG_WITHDRAWN. One that does not end with 0 in time is run again, later and later.
    """
    from ops.operator.tasks import check_name
    from ops.services.subscriber import PROMOTIONS, Subscriber, Wanted
    from ops.terminal.handing import Command

    if begin not in ("beginning", "now"):
        raise ConsoleError(f"--from {begin}: beginning or now.", exit_code=EXIT_USAGE)
    if task:
        check_name(task)
    # Whom to believe is asked first: a broker that is away must not hide that nobody was named.
    operator = require_operator(ctx.obj)
    wanted = Wanted(task=task, begin=begin, **({"kinds": PROMOTIONS} if promoted else {}))  # type: ignore[arg-type]
    with (
        open_log(ctx.obj) as log,
        closing(Subscriber(log, operator, wanted=wanted, state=state)) as subscriber,
        suppress(KeyboardInterrupt),
    ):
        handle = _Handler(ctx.obj, Command(line=command, limit_s=limit_s) if command else None, models)
        for number, found in enumerate(_follow(subscriber), start=1):
            handle.handle(found)
            say_json(found.statement) if as_json else say(_format(found))
            # Only now: what is interrupted before is told again.
            subscriber.confirm()
            if number == count:
                break
    if subscriber.skipped:
        note(f"{subscriber.skipped} records were passed over: forged, copied, or another deployment's.")


def _follow(subscriber: Subscriber) -> Iterator[Published]:
    while True:
        if (found := subscriber.next(POLL_S)) is not None:
            yield found


class _Handler:
    """Gives an announcement to the command until the command is content."""

    def __init__(self, settings: Settings, command: Command | None, models: Path | None) -> None:
        self._settings, self._command, self._models = settings, command, models
        if models is not None:
            models.mkdir(parents=True, exist_ok=True)

    def handle(self, found: Published) -> None:
        """Returns when the model is here and the command has ended with 0."""
        wait_s = RETRY_S
        while why := self._try(found):
            note(f"{found.id}: {why}; again in {wait_s:g} s.")
            sleep(wait_s)
            wait_s = min(2 * wait_s, RETRY_MAX_S)

    def _try(self, found: Published) -> str:
        from streams.log import LogUnavailable

        try:
            told = {**_describe(found), **self._download(found)}
        except LogUnavailable as error:
            return f"its model cannot be fetched ({error})"
        if self._command is None:
            return ""
        # Signed or not is no question any more: what a command gets was believed.
        event = json.dumps(found.statement).encode()
        return self._command.run(event, self._settings.make_environment(**told))

    def _download(self, found: Published) -> dict[str, str]:
        from ops.operator.errors import ModelGone

        if self._models is None or found.version is None:
            return {}
        file = self._models / f"{found.task}-{found.version}.bin"
        try:
            return {"FEDLOG_MODEL": str(found.download(file).absolute())}
        except ModelGone as error:
            # It will not come back, and those after it must not wait for it.
            note(f"{found.id}: told without its model. {error}")
            return {}


def _describe(found: Published) -> dict[str, str]:
    # The version to use and not the one that the event is about: a script deploys whatever stands here.
    told: dict[str, int | str | None] = {
        "FEDLOG_TASK": found.task,
        "FEDLOG_VERSION": found.version,
        "FEDLOG_TYPE": found.type,
        "FEDLOG_SHA256": found.sha256,
        "FEDLOG_WITHDRAWN": found.withdrawn,
    }
    return {name: str(value) for name, value in told.items() if value is not None}


# Two spaces between the cells, as in the tables of other commands.
def _format(found: Published) -> str:
    when = found.time.strftime("%Y-%m-%d %H:%M:%S")
    what = found.kind if found.version is None else f"{found.kind} version {found.version}"
    if "by_chance" in found.data:
        where = f" of {found.data['cohort']}" if found.data["cohort"] else ""
        how = f"{found.data['measure']} {found.data['value']:.3g} of at most {found.data['bound']:g}"
        what = f"{found.kind}{where} with version {found.data['version']}, {found.data['kind']} by {how}"
    if found.withdrawn is not None:
        now = "none" if found.version is None else f"version {found.version}"
        what = f"rolled back version {found.withdrawn}, now {now}"
    why, digest = found.data.get("reason", ""), (found.sha256 or "")[:16]
    return f"{when}  {found.task}  {what}{f' ({why})' if why else ''}  {digest}".rstrip()
