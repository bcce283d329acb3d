"""A whole run in one process by virtual time; `fedlog run --deterministic` and `fedlog.run(deterministic=True)`.

From the same policy, name of the task and number of devices it has the same members, staleness and bits of every model
as before, on the same machine with the same releases of its libraries. The operator's key is the folder's and secret as
ever; what is drawn from the seed is told at the start.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from actors import keys
from actors.keys import OperatorKey
from client_agent.running.scratch import scratch_folder
from ops.audit.export import select_topics, write_export
from ops.history.prospects import begin_sentence
from ops.history.task_view import TaskView
from ops.operator.models import read_arrays
from ops.processes.running import RunFailed, RunOptions, require_enough_devices, require_open_identity, summarize_end
from ops.settings import Settings
from ops.virtual.server import START_MS
from ops.virtual.stage import Book, Stage
from schemas.errors import EXIT_USAGE, FedlogError
from schemas.policy import FLOWER_LEARNER

if TYPE_CHECKING:
    from schemas.tensors import Floats

FOLDER = "deterministic"
GIVEN_UP = (
    "Deterministic: one process, and virtual time from 2000-01-01 on. Given up: processes that die, real latency and "
    "training times, and the secrecy of the devices' keys, which are drawn from the seed."
)


class NotRepeatable(FedlogError):
    """A run that is asked to be deterministic could not be, or would mislead; the message says why."""

    exit_code = EXIT_USAGE
    code = "not_repeatable"


class VirtualRun:
    """One run, a context: at its end the whole log stands in a folder, however it ended. `follow` gives its states."""

    def __init__(
        self,
        settings: Settings,
        options: RunOptions,
        *,
        say: Callable[[str], None] = lambda text: None,
        draws_noise: bool = False,
    ) -> None:
        """`draws_noise`: a private task may be run, whose noise is drawn with the folder's key as ever."""
        self._options, self._settings, self._say, self._draws_noise = options, settings, say, draws_noise
        self._book = Book.open()
        self._stage: Stage | None = None
        self._is_stopped = threading.Event()
        self._began_s = time.monotonic()
        self._stack = contextlib.ExitStack()
        self.log_folder: Path | None = None  # of the exported log, once it is written

    def __enter__(self) -> Self:
        require_repeatable(self._options, self._settings, draws_noise=self._draws_noise)
        require_enough_devices(self._options)
        require_open_identity(self._options.policy)
        self._say(GIVEN_UP)
        # Absolute, because the run works in another folder.
        folder = self._settings.open_folder().absolute()
        if not self._settings.operator_key_file.exists():
            keys.create(self._settings.operator_key_file)
        key = keys.load(self._settings.operator_key_file)
        with contextlib.ExitStack() as stack:
            # Where processes of a run would work: data that are opened by a relative path lie there.
            stack.enter_context(contextlib.chdir(self._options.cwd))
            scratch = stack.enter_context(scratch_folder(Path(tempfile.gettempdir())))
            self._stage = Stage(self._book, self._options, key=key, folder=scratch, say=self._say)
            stack.callback(self._stage.close)
            # Also of a run that fails or is interrupted: its log says why.
            stack.callback(self._export, folder / FOLDER, key=key)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def follow(self) -> Iterator[TaskView]:
        """The task whenever something in it has changed, until it is over and scored. Raises RunFailed.

        It is one value, which changes in place.
        """
        stage = self._stage
        assert stage is not None
        while not stage.view.is_over:
            if self._is_stopped.is_set():
                raise RunFailed(f"The run of {self._options.name!r} was stopped.")
            if stage.step():
                yield stage.view
            if reason := stage.judge():
                raise RunFailed(f"{begin_sentence(reason, self._options.name)}.")

    def stop(self) -> None:
        """Have `follow` raise RunFailed soon; another thread may call it."""
        self._is_stopped.set()

    def read_model(self, view: TaskView) -> dict[str, Floats]:
        """The arrays of the newest version, by name."""
        return read_arrays(self._book.log, view)

    def summarize(self, view: TaskView) -> dict[str, Any]:
        """What `--json` prints at the end; an equal `run_sha256` means the same members, staleness and models."""
        return {
            **summarize_end(view, since_s=self._began_s),
            "folder": str(self._settings.folder),
            "virtual_seconds": (self._book.clock.now_ms - START_MS) / 1_000,
            "run_sha256": self._book.trace.compute_sha256(),
        }

    def read_fleet_counts(self) -> dict[str, Any]:
        """What the devices did, and why some could not."""
        return {} if self._stage is None else asdict(self._stage.count())

    def _export(self, folder: Path, *, key: OperatorKey) -> None:
        self.log_folder = _make_folder(folder, self._options.name)
        # With all bodies, so that every version can be recomputed.
        topics, log = select_topics(bodies=True, inputs=True), self._book.log
        write_export(log, range(log.partitions), topics=topics, folder=self.log_folder, key=key)


def require_repeatable(options: RunOptions, settings: Settings, *, draws_noise: bool = False) -> None:
    """Nothing where the run would be the same again, and mislead nobody. Raises NotRepeatable.

    `draws_noise`: all but the noise of a private task would.
    """
    policy, name = options.policy, options.wording.name_option
    given = {
        "resume": options.resume,
        "keep": options.keep,
        "start": options.start is not None,
        "bootstrap-servers": bool(settings.bootstrap_servers),
        # Such a one may add in another order each time.
        "accelerator": options.accelerator != "cpu",
    }
    asked = name("deterministic")
    if named := [name(option) for option, is_given in given.items() if is_given]:
        raise NotRepeatable(
            f"{asked} is one process with a log of its own, and takes no {', '.join(named)}: leave one out."
        )
    if policy.privacy is not None and not draws_noise:
        raise NotRepeatable(
            f"{asked} with [privacy]: noise that comes out the same again protects nobody, and the ledger would "
            f"say that it did. Leave [privacy] out to repeat a run, or {asked} to release anything."
        )
    if policy.has_epochs:
        raise NotRepeatable(
            f"{asked} with tier = {policy.tier!r}: encryption draws randomness that no seed gives. Take --set "
            f"tier=plain to repeat a run, or leave {asked} out."
        )
    if policy.learner == FLOWER_LEARNER:
        raise NotRepeatable(
            f"{asked} with a Flower app: it runs in processes of its own and draws as it likes. Run it without."
        )


def _make_folder(parent: Path, name: str) -> Path:
    """A new folder for the log of a run, numbered, because the same run again is what this is for."""
    parent.mkdir(exist_ok=True)
    number = 1
    while True:
        try:
            (folder := parent / f"{name}-{number}").mkdir(mode=0o700)
        except FileExistsError:
            number += 1
        else:
            return folder
