"""What the devices of a process have to do: their task, once the log has it, and the learner of its policy.

`foreground` and `fleet` call it before their devices check in.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import structlog

from client_agent.answers import find_excess
from client_agent.learning.allow_list import AllowList
from client_agent.learning.data import Part
from client_agent.learning.layout import ModelError
from client_agent.learning.measuring.answers import TaskMeasurement, open_measurement
from client_agent.learning.opening import TaskLearner, open_task_learner
from client_agent.learning.sources import list_differences
from client_agent.learning.trainer import Trainer
from client_agent.link import Link, LinkUnavailable
from client_agent.setting import MODEL_BYTES_MAX
from schemas.errors import EXIT_USAGE, FedlogError
from schemas.events import TaskCreated
from schemas.policy import Policy, Seeds

# A task may be created after its devices have started; one that nobody knows for this long has another name.
TASK_WAIT_S = 15.0
ASK_EVERY_S = 0.25

logger = structlog.get_logger(__name__)


class TaskNotFound(FedlogError):
    """Nobody has created the task; the message says how to find out which there are."""

    code = "task_not_found"


class DataConflict(FedlogError):
    """The policy names its data, and an option names others."""

    exit_code = EXIT_USAGE
    code = "data_conflict"


@dataclass(frozen=True, slots=True)
class Work:
    """A task's learner or question, and its data plugin, for all devices of the process."""

    learner: TaskLearner | TaskMeasurement
    data: str
    # Plugins whose source here is not the operator's.
    differing: tuple[str, ...] = ()
    # A learner of the policy's own, which loads as it likes.
    own: str = ""
    seeds: Seeds = field(default_factory=Seeds)

    @property
    def loader(self) -> str:
        """Whose code reads the examples, as far as a policy tells."""
        return f"{self.own}.load" if self.own else self.data

    def make_trainer(self, part: Part) -> Trainer:
        """The learner or the question with the examples of one device. Raises DataError."""
        return self.learner.make_trainer(replace(part, plugin=self.data, seed=self.seeds.split))


def await_task(
    link: Link, task: str, *, is_stopping: Callable[[], bool] = lambda: False, wait_s: float = TASK_WAIT_S
) -> TaskCreated:
    """The creation of the task, as soon as the log has it. Raises TaskNotFound after `wait_s` without one."""
    give_up_s, told = time.monotonic() + wait_s, False
    while time.monotonic() < give_up_s and not is_stopping():
        try:
            if (created := link.find_task(task)) is not None:
                return created
        except LinkUnavailable as error:
            # A broker that is away is waited for, and the time begins when it is back.
            logger.warning("task_unreadable", task=task, error=str(error))
            give_up_s = time.monotonic() + wait_s
        if not told:
            logger.warning("waiting_for_task", task=task, waits_s=wait_s)
            told = True
        time.sleep(ASK_EVERY_S)
    raise TaskNotFound(f"There is no task {task!r}. `fedlog task list` shows those that exist.")


def open_work(created: TaskCreated, *, allowed: AllowList, data: str, fallback: str) -> Work:
    """The learner of a task. `data` is what an option names, `fallback` serves where neither it nor the policy does.

    Raises PluginError, ModelError, DataConflict.
    """
    # Before anything that the policy names is looked for: it may be anybody's code.
    allowed.check_policy(created.policy)
    check_size(created)
    opened = open_measurement(created) if created.policy.measure else open_task_learner(created)
    if differing := tuple(list_differences(created)):
        logger.warning("source_differs", task=created.task, plugins=differing)
    chosen = choose_data(created.policy.data, data)
    # With data named, it is these that its `load` reads.
    own = "" if chosen else created.policy.learner
    return Work(opened, chosen or fallback, differing, own, created.policy.drawn_by)


def list_heavy(policy: Policy) -> list[str]:
    """Modules that devices of this policy will need and that take seconds to import; never what it names itself."""
    return ["client_agent.learning.pytorch.learner"] if policy.model and not policy.learner else []


def check_size(created: TaskCreated) -> None:
    """Nothing where there is memory for the model of a task; asked before it is made. Raises ModelError."""
    # Arguments and tensors stand in the log, and may agree on any size.
    if (excess := find_excess(created, bytes_max=MODEL_BYTES_MAX)) is not None:
        raise ModelError(excess)


def choose_data(named: str, option: str) -> str:
    """The data plugin of the policy or of an option, which may repeat it. Raises DataConflict."""
    if named and option and named != option:
        raise DataConflict(
            f"the policy says data = {named!r}, and the option --data {option!r}: what trains is part of the record; "
            "leave the option out, or create a task with other data"
        )
    return named or option
