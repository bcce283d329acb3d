"""`fedlog archive`: every version as files in a folder or an object store, and whether they are what the log says."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.console import note, say, say_json
from ops.opening import open_log, require_operator
from ops.operator import deployments
from ops.terminal.completing import complete_task
from ops.terminal.errors import ConsoleError
from schemas.errors import EXIT_UNAVAILABLE, EXIT_USAGE
from schemas.identifiers import TaskId
from streams.log import EventLog

if TYPE_CHECKING:
    from ops.archive.archivist import Archivist, Step
    from ops.archive.reading import PublicTasks
    from ops.archive.stores import Store

POLL_S = 0.5
# A place that was away may be back by then; a console says so no more than once a minute.
TRIED_AGAIN_S, TOLD_AGAIN_S = 2.0, 60.0
TRIED_ONCE_S = 60.0

To = Annotated[
    str, typer.Option("--to", metavar="FOLDER|s3://BUCKET/PREFIX", help="Where the archive stands.", show_default=False)
]
TaskName = Annotated[str | None, typer.Option(autocompletion=complete_task, help="This task only.")]
Endpoint = Annotated[str | None, typer.Option(metavar="URL", help="Address of the S3 server, where it is not AWS's.")]


@dataclass(slots=True)
class _Tally:
    """What was done; each kind is told as it happens, and added up at the end."""

    as_json: bool
    counts: Counter[str] = field(default_factory=Counter)
    _told_s: float = -TOLD_AGAIN_S

    def note_step(self, step: Step) -> None:
        """Tell one."""
        from ops.archive.archivist import Archived, Removed

        kind = type(step).__name__.lower()
        self.counts[kind] += 1
        if self.as_json:
            say_json({"step": kind, **{name: getattr(step, name) for name in step.__slots__}})
            return
        match step:
            case Archived(is_new=False):
                say(f"{step.task} version {step.version}: brought up to date")
            case Archived(weights=True):
                say(f"{step.task} version {step.version}: archived")
            case Archived():
                say(f"{step.task} version {step.version}: archived without weights. {step.reason}")
            case Removed():
                say(f"{step.task} version {step.version}: weights removed, by the policy's [retention]")
            case _:
                self.note_wait(f"{step.task} version {step.version}: not yet. {step.reason}")

    def note_wait(self, reason: str) -> None:
        """Tell why it waits, and not at each try."""
        if time.monotonic() - self._told_s >= TOLD_AGAIN_S:
            self._told_s = time.monotonic()
            note(f"{reason} Trying again.")


def archive(
    ctx: typer.Context,
    to: To,
    action: Annotated[str, typer.Argument(metavar="[check]", help="Compare instead of writing.")] = "",
    task: TaskName = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep running and archive new versions.")] = False,
    endpoint: Endpoint = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
) -> None:
    """Write every version as TASK/VERSION/weights.bin, config.json and privacy.log, into a folder or an object store.

    What is there already is left as it is, so that it may be stopped, and started again, and twice. With `check` it
    writes nothing, and names each file that is not what the log says; exit code 1 where there is one.
    """
    if action not in ("", "check"):
        raise _make_misuse(f"fedlog archive {action}: only `check` may stand there.")
    store, tally = _open_store(to, endpoint), _Tally(as_json)
    with (
        open_log(ctx.obj) as log,
        closing(_open(ctx, log, store=store, task=task)) as archivist,
        suppress(KeyboardInterrupt),
    ):
        archivist.catch_up()
        if action:
            _check(log, store, public=archivist.public, task=task, as_json=as_json)
            return
        _run(archivist, tally, follow=follow)
    counts = tally.counts
    note(f"{store.address}: {counts['archived']} versions written, weights of {counts['removed']} removed.")


def _check(log: EventLog, store: Store, *, public: PublicTasks, task: TaskId | None, as_json: bool) -> None:
    from ops.archive.checking import check_archive

    found = check_archive(log, store, public=public, task=task)
    for finding in found.findings:
        if as_json:
            say_json({"file": finding.file, "finding": finding.kind, "detail": finding.detail})
        else:
            say(f"{finding.file}: {finding.kind}. {finding.detail}")
    faults = sum(finding.is_fault for finding in found.findings)
    note(f"{store.address}: {found.versions} versions, {found.proven} models compared with the log, {faults} faults.")
    if faults:
        raise ConsoleError(f"{faults} files are not what the log says; see above.")


def _run(archivist: Archivist, tally: _Tally, *, follow: bool) -> None:
    from ops.archive.stores import StoreAway, StoreError, StoreTaken

    give_up_s = time.monotonic() + TRIED_ONCE_S
    while True:
        waiting = tally.counts["waiting"]
        try:
            for step in archivist.step():
                tally.note_step(step)
                give_up_s = time.monotonic() + TRIED_ONCE_S
        except StoreError as error:
            # Another's archive stays another's; what is refused may be allowed by whoever is told of it.
            if isinstance(error, StoreTaken) or not (follow or isinstance(error, StoreAway)):
                raise
            if not follow and time.monotonic() > give_up_s:
                raise
            tally.note_wait(str(error))
            time.sleep(TRIED_AGAIN_S)
            continue
        # What waits for its charge, or for a model, comes with the next step.
        if follow:
            archivist.wait(POLL_S)
        elif tally.counts["waiting"] == waiting:
            return
        elif time.monotonic() > give_up_s:
            raise ConsoleError(
                "The log does not give all models now; what it gave is archived.", exit_code=EXIT_UNAVAILABLE
            )
        else:
            time.sleep(TRIED_AGAIN_S)


def _make_misuse(what: str) -> ConsoleError:
    return ConsoleError(what, exit_code=EXIT_USAGE)


def _open(ctx: typer.Context, log: EventLog, *, store: Store, task: TaskId | None) -> Archivist:
    from ops.archive.archivist import Archivist
    from ops.operator.tasks import check_name

    if task is not None:
        check_name(task)
    # What is archived under the operator's name has to be the operator's.
    operator = require_operator(ctx.obj)
    return Archivist(log, store, operator=operator, deployment=deployments.find(log, operator), task=task)


def _open_store(to: str, endpoint: str | None) -> Store:
    scheme, separator, rest = to.partition("://")
    if not separator:
        from ops.archive.folder import Folder

        if endpoint is not None:
            raise _make_misuse("--endpoint is the address of an S3 server: --to s3://BUCKET/PREFIX.")
        return Folder(Path(to))
    if scheme != "s3" or not rest.strip("/"):
        raise _make_misuse(f"--to {to}: a folder, or s3://BUCKET/PREFIX.")
    try:
        from ops.archive.s3 import open_bucket
    except ModuleNotFoundError as error:
        raise _make_misuse("An archive in an object store needs obstore: pip install 'fedlog[s3]'.") from error
    return open_bucket(to, endpoint=endpoint)
