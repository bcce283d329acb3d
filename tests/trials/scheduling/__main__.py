"""`make airflow`: the DAG of docs/examples in a real Airflow, which starts retrainings and waits for their promotion.

It asks a real `fedlog serve` for drift that devices have measured, forks what is promoted, creates a task for a commit,
goes on where a retraining is there already, and fails with the reason where a version is rolled back.
"""

from __future__ import annotations

import json
import socket
import sys
import tempfile
import time
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from ops.processes import broker
from streams.kafka.settings import KafkaSettings
from tests.trials.regression.story import LEARNER, UPDATE, Commands, write_learner
from tests.trials.results import add_row
from tests.trials.scheduling.airflow import VERSION, Airflow
from tests.trials.scheduling.policies import ANSWERS, write_measure, write_policy
from tests.worlds.stage import PLAIN_ACTORS, Stage, say, staged

TASK, MEASURED, DEVICES = "sites", "sites.answers", 8
SETTLED_S = 5.0
COMMITS = {"good": "0123456789abcdef0123", "bad": "fedcba9876543210fedc"}


def main() -> None:
    """Exit code 1 where a run ended otherwise than it has to."""
    began_s = time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fedlog-airflow-")))
        handle = stack.enter_context(broker.run_embedded(folder / "broker"))
        kafka = KafkaSettings(**handle.connection, topic_prefix=f"air-{uuid.uuid4().hex[:8]}")
        (folder / "stage").mkdir()
        stage = stack.enter_context(staged(kafka, folder / "stage"))
        trial = Trial(stage, stack.enter_context(Commands(stage)))
        row = trial.play(folder / "airflow")
    add_row("airflow", {"airflow": VERSION, **row, "seconds": round(time.monotonic() - began_s, 1)})
    say(json.dumps(row, indent=2))
    sys.exit(0 if not row["faults"] else 1)


class Trial:
    """A deployment with a task in production, a question to its devices, and somebody who schedules."""

    def __init__(self, stage: Stage, commands: Commands) -> None:
        self.stage, self._commands, self.faults = stage, commands, list[str]()
        (stage.folder / "sites.py").write_text(write_learner(99) + ANSWERS)
        # Labelled wrongly from the first version on, as a commit may have it.
        (stage.folder / "broken.py").write_text(write_learner(0))
        (stage.folder / UPDATE).touch()
        sys.path.insert(0, str(stage.folder))
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self._token = self._run("token", "create", "--role", "admin", "--subject", "airflow").strip()

    def play(self, folder: Path) -> dict[str, Any]:
        """Every run of the DAG, and how it ended."""
        self.stage.start("rollout", *PLAIN_ACTORS)
        allowed = [word for name in (LEARNER, "broken:Sites") for word in ("--allow", name)]
        self._commands.start("serve", ["serve", "--port", str(self._port), *allowed])
        self._commands.start("evaluator", ["evaluate", "--follow", *allowed])
        self._create(TASK, write_policy("sites"))
        self._create(MEASURED, write_measure(DEVICES))
        self._train(TASK)
        self._until_promoted(TASK)
        airflow = Airflow(folder, port=self._port, token=self._token)
        runs = {"no answer yet": airflow.run(), **self._drift(airflow), **self._commit(airflow)}
        expected = {
            "no answer yet": ("success", "skipped", "skipped"),
            "no drift": ("success", "skipped", "skipped"),
            "drift": ("success", "success", "success"),
            "drift again": ("success", "success", "success"),
            "commit": ("success", "success", "success"),
            "bad commit": ("failed", "success", "failed"),
        }
        found = {name: (run.state, run.tasks["start"], run.tasks["is_promoted"]) for name, run in runs.items()}
        self.faults += [f"{name}: {found[name]}, not {ends}" for name, ends in expected.items() if found[name] != ends]
        if "rolled back, gap" not in runs["bad commit"].said and "rolled back, at_least" not in runs["bad commit"].said:
            self.faults.append(f"bad commit: no reason in {runs['bad commit'].said[-800:]}")
        return {"runs": found, "tasks": self._list_tasks(), "faults": self.faults}

    def _drift(self, airflow: Airflow) -> dict[str, Any]:
        """Devices answer twice alike, and then otherwise."""
        self._measure("sites:answer")
        told = {"no drift": airflow.run()}
        newest = self._measure("sites:answer_otherwise")
        name = f"{TASK}-drift-{newest}"
        with airflow.running() as run:
            self._until(lambda: name in self._list_tasks(), f"the task {name}")
            self._train(name)
            told["drift"] = run.wait()
        origin = [(row["parent"], row["relation"]) for row in self._ask(f"ancestry?task={name}")["rows"]]
        if origin != [(TASK, "branches off")]:
            self.faults.append(f"{name} starts from {origin}")
        before = self._list_tasks()
        # As after a crash of whoever had started it.
        told["drift again"] = airflow.run()
        if self._list_tasks() != before:
            self.faults.append(f"a second task for the same drift: {self._list_tasks()}")
        return told

    def _commit(self, airflow: Airflow) -> dict[str, Any]:
        told: dict[str, Any] = {}
        for title, commit, module in (("commit", "good", "sites"), ("bad commit", "bad", "broken")):
            name = f"{TASK}-commit-{COMMITS[commit][:12]}"
            with airflow.running(commit=COMMITS[commit], policy=write_policy(module)) as run:
                self._until(lambda name=name: name in self._list_tasks(), f"the task {name}")
                self._train(name, module)
                told[title] = run.wait()
        return told

    # --- what the deployment does -------------------------------------------------------------------------------------

    def _create(self, name: str, policy: str) -> None:
        path = self.stage.folder / f"{name}.toml"
        path.write_text(policy)
        self._run("--allow", LEARNER, "task", "create", str(path), "--name", name)

    def _train(self, task: str, module: str = "sites") -> None:
        """Devices that work until the task is over."""
        words = ["fleet", "--task", task, "--devices", str(DEVICES), "--processes", "1", "--allow", f"{module}:Sites"]
        self._commands.start(f"fleet-{task}", words)

    def _measure(self, data: str) -> int:
        """Devices with these data answer more than once; how many answers there are then.

        The first may be of devices with other data too, which were answering when they were ended.
        """
        before = self._count_answers()
        words = ["fleet", "--task", MEASURED, "--devices", str(DEVICES), "--processes", "1", "--data", data]
        self._commands.start("fleet-answers", [*words, "--allow", data])
        self._until(lambda: self._count_answers() >= before + 2, f"answer {before + 2}")
        self._commands.end("fleet-answers")
        return self._settle()

    def _settle(self) -> int:
        """How many there are when no more come: what was sent before the end is still taken in."""
        counted = -1
        while (found := self._count_answers()) != counted:
            counted = found
            time.sleep(SETTLED_S)
        return counted

    def _count_answers(self) -> int:
        return int(self._ask(f"tasks/{MEASURED}")["task"]["version"] or 0)

    def _until_promoted(self, task: str) -> None:
        self._until(lambda: json.loads(self._run("rollout", "show", task, "--json"))["promoted"], f"{task} promoted")

    def _until(self, is_so: Any, what: str) -> None:
        self.stage.until(is_so, what, timeout_s=180.0)

    def _list_tasks(self) -> list[str]:
        return [row["task"] for row in self._ask("tasks?limit=100")["rows"]]

    def _ask(self, path: str) -> Any:
        request = Request(f"http://127.0.0.1:{self._port}/api/v1/{path}")
        request.add_header("Authorization", f"Bearer {self._token}")
        with urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def _run(self, *words: str) -> str:
        done = self.stage.fedlog(*words)
        assert done.exit_code == 0, f"{words}: {done.stdout}{done.stderr}"
        return str(done.stdout)


if __name__ == "__main__":
    main()
