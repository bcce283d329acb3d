"""`fedlog evaluate`: score versions on held-out data."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import UNSET

from ops.console import note, say, say_json
from ops.opening import open_log
from ops.operator.deployments import open_role_key
from ops.terminal.completing import complete_task
from ops.terminal.errors import ConsoleError
from ops.terminal.options import WORDS, Accelerator, DataPlugin, make_allow_list
from schemas.errors import EXIT_USAGE
from schemas.events import VersionEvaluated
from streams.log import EventLog

if TYPE_CHECKING:
    from ops.services.evaluator import Evaluator, Missed
    from ops.services.scoring import Patience

_RESUMED = "--resumed"


@dataclass(slots=True)
class _Tally:
    """What was done: by the process that a hanging task has ended as well, whose reasons `aside` are."""

    as_json: bool
    scored: int = 0
    aside: dict[str, str] = field(default_factory=dict)
    missed: Counter[tuple[str, str]] = field(default_factory=Counter)

    def note_score(self, result: VersionEvaluated) -> None:
        """Print a score; that of a cohort, or of a measurement, says so."""
        self.scored += 1
        if self.as_json:
            part = {"cohort": result.cohort} if result.cohort else {}
            part |= {} if result.source is UNSET else {"source": result.source}
            say_json({"task": result.task, "version": result.version, **part, **result.metrics})
            return
        metrics = " ".join(f"{name} {value:.4f}" for name, value in result.metrics.items())
        part_of = f", cohort {result.cohort}" if result.cohort else ""
        by = "" if result.source is UNSET else f", by {result.source}"
        say(f"{result.task} version {result.version}{part_of}{by}: {metrics} ({result.samples} examples)")

    def note_miss(self, result: Missed) -> None:
        """Tell why, beside the results; of versions that are missed alike the first."""
        self.missed[result.task, result.reason] += 1
        if self.missed[result.task, result.reason] == 1:
            note(f"{result.task} version {result.version}: not scored. {result.reason}")

    def end(self) -> None:
        """Raises ConsoleError where nothing could be scored."""
        for (task, _), count in self.missed.items():
            if count > 1:
                note(f"{task}: {count} versions not scored for the same reason.")
        if self.missed and not self.scored:
            raise ConsoleError(f"None of {self.missed.total()} versions could be scored; the reasons are above.")

    def start_again(self, task: str, reason: str) -> None:
        """Become a new process without the threads of this one, which puts the task aside."""
        if sys.__stdout__ is not None:
            sys.__stdout__.flush()
        told = json.dumps({"scored": self.scored, "aside": {**self.aside, task: reason}})
        # With the interpreter's own options, and under the same process id, which is what its owner knows.
        os.execv(sys.executable, [sys.executable, *_forget_resumed(sys.orig_argv[1:]), _RESUMED, told])  # noqa: S606


def _forget_resumed(words: Sequence[str]) -> list[str]:
    """A command line as a person gave it."""
    words = list(words)
    return words[: words.index(_RESUMED)] if _RESUMED in words else words


def evaluate(
    ctx: typer.Context,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep running and score new versions.")] = False,
    task: Annotated[str | None, typer.Option(autocompletion=complete_task, help="Score this task only.")] = None,
    data: DataPlugin = "",
    accelerator: Accelerator = "cpu",
    limit_s: Annotated[
        float,
        typer.Option(help="How long scoring one version, or loading a task's data, may take, in seconds.", min=1),
    ] = 600.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per version and cohort.")] = False,
    resumed: Annotated[str, typer.Option(_RESUMED, hidden=True)] = "{}",
) -> None:
    """Score every version that this evaluator has not scored yet, on the held-out data that its policy names.

    Exit code 1 where none of them could be scored.
    """
    from client_agent.learning.opening import choose_accelerator
    from client_agent.running.watch import Watch
    from ops.operator.tasks import check_name
    from ops.services.scoring import Patience

    choose_accelerator(accelerator)
    if task is not None:
        check_name(task)
    elif data:
        # A score is a fact for good, and other tasks have other data.
        raise ConsoleError("--data names the data of one task: say which, with --task.", exit_code=EXIT_USAGE)
    tally = _Tally(as_json, **json.loads(resumed))
    patience = Patience(Watch(None, end_process=tally.start_again), limit_s, tally.aside)
    with (
        open_log(ctx.obj) as log,
        closing(_open(ctx, log, data=data, task=task, patience=patience)) as evaluator,
        suppress(KeyboardInterrupt),
    ):
        if task is not None and not evaluator.knows(task):
            _tell_unknown(task, may_come=follow)
        _score(evaluator, tally, follow=follow)
    tally.end()
    if not tally.scored and not tally.missed:
        note("There was nothing to score: no version, or none without a score.")


def _tell_unknown(task: str, *, may_come: bool) -> None:
    """Raises TaskUnknown where nothing is waited for."""
    from ops.operator.errors import TaskUnknown

    if not may_come:
        raise TaskUnknown(f"There is no task {task!r}.")
    # An evaluator that runs for long may be there first.
    note(f"There is no task {task!r} yet; waiting for it. `fedlog task list` shows those that exist.")


def _score(evaluator: Evaluator, tally: _Tally, *, follow: bool) -> None:
    from ops.services.evaluator import Missed

    while True:
        for result in evaluator.step():
            if isinstance(result, Missed):
                tally.note_miss(result)
            else:
                tally.note_score(result)
        if not follow:
            return
        evaluator.wait(0.5)


def _open(ctx: typer.Context, log: EventLog, *, data: str, task: str | None, patience: Patience) -> Evaluator:
    from ops.services.evaluator import Evaluator

    key = open_role_key(ctx.obj, log, role="evaluator")
    ctx.meta[WORDS] = _forget_resumed(ctx.meta.get(WORDS, [ctx.info_name]))
    allowed = make_allow_list(ctx)
    return Evaluator(log, key=key, data=data, task=task, allowed=allowed, patience=patience)
