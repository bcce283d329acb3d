"""`fedlog mlflow`: every version as a version of a registered model in MLflow, with aliases that follow the rollout."""

from __future__ import annotations

import importlib.util
from contextlib import closing, suppress
from typing import Annotated

import typer

from ops.console import note, say, say_json
from ops.opening import open_log, require_operator
from ops.settings import calm_mlflow
from ops.terminal.completing import complete_task
from ops.terminal.errors import ConsoleError
from schemas.errors import EXIT_USAGE

TrackingUri = Annotated[
    str, typer.Option(metavar="URI", help="Address of the MLflow server, such as http://host:5000.")
]
TaskName = Annotated[str, typer.Option(autocompletion=complete_task, help="Only this task (default: all).")]
Experiment = Annotated[str, typer.Option(help="One experiment for the runs of all tasks (default: one a task).")]
Prefix = Annotated[str, typer.Option(help="Before the names of models and experiments: a server may have others'.")]


def mlflow(
    ctx: typer.Context,
    tracking_uri: TrackingUri,
    task: TaskName = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep running and register new versions.")] = False,
    experiment: Experiment = "",
    prefix: Prefix = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for each thing done.")] = False,
) -> None:
    """Register every version with its scores, policy, cost, origin and files; once, however often this is started.

    The aliases candidate and champion follow the rollout; what was rolled back is tagged with the reason.
    """
    require_mlflow()
    from ops.operator import deployments
    from ops.operator.tasks import check_name
    from ops.services.mlflow.entries import Courses
    from ops.services.mlflow.keeping import Keeper, Waiting
    from ops.services.mlflow.registering import Names
    from ops.services.mlflow.server import RealServer

    if task:
        check_name(task)
    operator = require_operator(ctx.obj)
    server, names = RealServer(tracking_uri), Names(prefix=prefix, experiment=experiment)
    with open_log(ctx.obj) as log, suppress(KeyboardInterrupt):
        deployment = deployments.find(log, operator)
        if deployment is None:
            raise ConsoleError("This log has no deployment of that operator yet: nothing was ever created in it.")
        courses = Courses(operator=operator, deployment=deployment, partitions=log.partitions)
        with closing(Keeper(log, server, courses=courses, names=names, task=task)) as keeper:
            for told in keeper.keep(follow=follow):
                if isinstance(told, Waiting):
                    note(f"MLflow does not answer; again in {told.again_s:g} s. {told.why}")
                elif as_json:
                    say_json({"task": told.task, "done": told.what})
                else:
                    say(f"{told.task}: {told.what}")


def require_mlflow() -> None:
    """Raise ConsoleError where MLflow's client is not installed."""
    # An extra, because nobody who trains needs it.
    if importlib.util.find_spec("mlflow") is None:
        raise ConsoleError(
            "fedlog mlflow needs MLflow's client, which is not here: pip install 'fedlog[mlflow]', or in a checkout "
            "`echo mlflow-skinny >> requirements-user.txt` and `make setup`.",
            exit_code=EXIT_USAGE,
        )
    calm_mlflow()
