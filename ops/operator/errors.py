"""What an operator can ask for in vain; a terminal and an API turn these into their own answers.

The messages name what happened and where. Which command helps is added by `ops.terminal.errors`.
"""

from __future__ import annotations

from schemas.errors import EXIT_LOST, EXIT_UNAVAILABLE, EXIT_USAGE, FedlogError


class OperatorError(FedlogError):
    """What an operator asked for cannot be done."""

    code = "operator_refused"


class TaskUnknown(OperatorError):
    """The log holds no task of that name."""

    code = "task_unknown"


class TaskExists(OperatorError):
    """The log holds a task of that name already."""

    code = "task_exists"


class TaskOver(OperatorError):
    """The task is closed or halted, and nothing starts it again."""

    code = "task_over"


class TaskNameInvalid(OperatorError):
    """A name cannot be that of a task."""

    exit_code = EXIT_USAGE
    code = "task_name_invalid"


class TaskTooLarge(OperatorError):
    """The description of a task does not fit into one record."""

    code = "task_too_large"


class SuccessorExists(OperatorError):
    """Another task carries on from that one already."""

    code = "successor_exists"


class ParentUnprotected(OperatorError):
    """A private task cannot carry on from one without privacy."""

    code = "parent_unprotected"


class BudgetRefused(OperatorError):
    """The devices of a population cannot be promised that."""

    code = "budget_refused"


class BudgetUnnoticed(OperatorError):
    """A budget was signed, and its aggregator has not taken it."""

    exit_code = EXIT_UNAVAILABLE
    code = "budget_unnoticed"


class OutsideBudget(OperatorError):
    """A task has no place beside the budget of a population."""

    code = "outside_budget"


class RolloutMissing(OperatorError):
    """The policy of a task has no rollout."""

    code = "rollout_missing"


class RolloutOrderRefused(OperatorError):
    """An order changes nothing in a rollout."""

    code = "rollout_order_refused"


class OrderUnnoticed(OperatorError):
    """An order was signed, and the rollout has not decided it."""

    exit_code = EXIT_UNAVAILABLE
    code = "order_unnoticed"


class BudgetSpent(OperatorError):
    """The tasks before have spent all that the policy allows."""

    code = "budget_spent"


class WriteHidden(OperatorError):
    """What was written cannot be read back yet, so that nobody knows whether it counts."""

    exit_code = EXIT_UNAVAILABLE
    code = "write_hidden"


class CloseUnnoticed(OperatorError):
    """The aggregator has not noticed in time that a task is closed."""

    code = "close_unnoticed"


class DeviceNotQuarantined(OperatorError):
    """No device of this name, or more than one, is quarantined in the task."""

    code = "device_not_quarantined"


class ModelMismatch(OperatorError):
    """The model of a task does not fit the policy of another."""

    code = "model_mismatch"


class MeasurementUnprotected(OperatorError):
    """A measurement of a private task has no privacy itself."""

    code = "measurement_unprotected"


class ProjectRefused(OperatorError):
    """A project cannot be made under this name, or of this template."""

    exit_code = EXIT_USAGE
    code = "project_refused"


class WeightsUnfit(OperatorError):
    """A file holds no weights that the policy's model can start from."""

    exit_code = EXIT_USAGE
    code = "weights_unfit"


class VersionUnknown(OperatorError):
    """A task has no version of that number."""

    code = "version_unknown"


class NothingPromoted(VersionUnknown):
    """No version of a task is in production."""

    code = "nothing_promoted"


class ModelGone(OperatorError):
    """Retention has deleted the body of a model."""

    exit_code = EXIT_LOST
    code = "model_gone"
