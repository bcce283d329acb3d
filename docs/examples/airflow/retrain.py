"""Start a retraining when what devices have has drifted, or for a commit, and wait until its model is promoted.

A DAG for Airflow 3. It asks `fedlog serve` and imports no fedlog: the connection `fedlog` names the server, with an
admin's token as its password.
"""

from datetime import UTC, datetime, timedelta

import requests
from airflow.sdk import BaseHook, Param, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException


def ask(path, body=None, *, may_exist=False):
    """An answer of the API; of a POST where there is a body. `may_exist`: the name may be taken, by this DAG before."""
    server = BaseHook.get_connection("fedlog")
    answer = requests.request(
        "GET" if body is None else "POST",
        f"{server.schema or 'https'}://{server.host}:{server.port}/api/v1/{path}",
        json=body,
        headers={"Authorization": f"Bearer {server.password}"},
        timeout=60,
    )
    told = answer.json()
    if answer.ok or (may_exist and told["code"] == "task_exists"):
        return told
    raise RuntimeError(f"{path}: {answer.status_code} {told['detail']}")


def list_steps(name):
    """All steps of a task's rollout, the oldest first, page by page."""
    page = ask(f"tasks/{name}/rollout?limit=500")
    steps = page["rows"]
    while page["next"]:
        page = ask(f"tasks/{name}/rollout?limit=500&after={page['next']}")
        steps += page["rows"]
    return steps


@task
def find_reason():
    """A commit, or drift; without either there is nothing to do."""
    asked = get_current_context()["params"]
    if asked["commit"]:
        return f"commit-{asked['commit'][:12].lower()}"
    drift = ask(f"tasks/{asked['measured_by']}/drift")
    if not drift["is_drift"]:
        raise AirflowSkipException(f"No drift: {drift['versions']}")
    return f"drift-{drift['versions'][-1]['version']}"


@task(retries=3, retry_delay=timedelta(seconds=10))
def start(reason):
    """Create the task; asked again because an answer was lost, it creates none twice."""
    asked = get_current_context()["params"]
    name = f"{asked['task']}-{reason}"
    if asked["policy"]:
        ask("training/start", {"name": name, "policy": asked["policy"]}, may_exist=True)
        return name
    promoted = [step["version"] for step in list_steps(asked["task"]) if step["step"] == "promoted"]
    if not promoted:
        raise AirflowFailException(f"Nothing of {asked['task']} was ever promoted.")
    ask(f"tasks/{asked['task']}/fork", {"name": name, "version": promoted[-1]}, may_exist=True)
    return name


@task.sensor(poke_interval=10, timeout=2 * 86_400, mode="reschedule")
def is_promoted(name):
    """Whether a version of it is in production; fails where none can be any more, and says why."""
    found, steps = ask(f"tasks/{name}")["task"], list_steps(name)
    if any(step["step"] == "promoted" for step in steps):
        return True
    last = steps[-1] if steps else {"version": None, "step": "waits for a first score"}
    # Behind the last version of a task that is over no other comes that could be better.
    is_last = found["status"].startswith("halted") and last["version"] == found["version"]
    if last["step"] == "halted" or (is_last and last["step"] == "rolled back"):
        raise AirflowFailException(f"{name}: version {last['version']} {last['step']}, {last['reason']}")
    return False


@dag(
    schedule=timedelta(days=1),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    # Two retrainings at once would wait for the same devices.
    max_active_runs=1,
    params={
        "task": Param("sites", description="The task whose promoted version a retraining starts from."),
        "measured_by": Param("sites.answers", description="The measure task whose histograms may drift."),
        "commit": Param("", description="Train anew for this commit, whatever has drifted."),
        "policy": Param("", description="The policy at that commit, TOML; without one that of the task."),
    },
)
def retrain():
    is_promoted(start(find_reason()))


retrain()
