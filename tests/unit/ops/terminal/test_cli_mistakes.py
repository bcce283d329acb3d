"""What people get wrong on a command line or in a policy: a message that says what, where and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.ops.terminal.conftest import Run
from tests.worlds.ops_journal import TASK

FAILING: dict[str, tuple[list[str], int, str]] = {
    "unknown task": (["task", "show", "nope"], 1, "no task 'nope'"),
    "unknown topic": (["events", "--topic", "nope"], 2, "no topic 'nope'; there are tasks"),
    "bad name": (["task", "create", "p.toml", "--name", "Not Good"], 2, "lower-case"),
    "no policy file": (["task", "create", "nowhere.toml", "--name", "x"], 2, "nowhere.toml: No such file"),
    "warm without from": (["task", "create", "p.toml", "--name", "x", "--warm-start"], 2, "--from"),
    "no version": (["model", "export", "--task", TASK, "--out", "o", "--version", "9"], 1, "it has 0 to 0"),
    "bad setting": (["task", "list", "--sasl-mechanism", "X"], 2, "--sasl-mechanism"),
    "no broker": (["broker", "status"], 1, "fedlog broker start"),
    "scores of no task": (["evaluate", "--task", "nope"], 1, "no task 'nope'"),
    "events of no task": (["events", "--task", "nope"], 1, "`fedlog task list`"),
    "versions of no task": (["model", "list", "--task", "nope"], 1, "no task 'nope'"),
    "model of no task": (["model", "export", "--task", "nope", "--out", "o"], 1, "no task 'nope'"),
    "end of no task": (["task", "close", "nope"], 1, "no task 'nope'"),
    "a name that is taken": (["task", "create", "own.toml", "--name", TASK], 1, "choose another name"),
    "a field that is misspelt": (["task", "create", "misspelt.toml", "--name", "x"], 2, "did you mean learning_rate?"),
    "a field twice": (["task", "create", "twice.toml", "--name", "x"], 2, "line 2"),
    "a model that is nowhere": (["task", "create", "nowhere_model.toml", "--name", "x"], 2, "nowhere_model"),
    "an argument that is unknown": (["task", "create", "argument.toml", "--name", "x"], 2, "depth"),
    "an argument of the user's own": (
        ["task", "create", "arguments.toml", "--name", "x"],
        2,
        "'mine:argued': TypeError",
    ),
    "an argument of fedlog's own name": (
        ["task", "create", "function.toml", "--name", "x"],
        2,
        "argued() got an unexp",
    ),
    "a model without sizes": (
        ["task", "create", "lazy.toml", "--name", "x"],
        2,
        "model 'mine:lazy': weight",
    ),
    "an end that there is none of": (["task", "delete", TASK], 2, f"fedlog task archive {TASK}"),
    "no such worker": (["worker", "agregator"], 2, "Did you mean 'aggregator'?"),
}
END = """[selection]
devices_expected = 9
concurrency = 9
[aggregation]
updates_per_round = 3
[stop]
versions_max = 1
"""
SOFTMAX = 'model = "client_agent.learning.models:softmax_regression"\n'
POLICIES = {
    "own": SOFTMAX,
    "misspelt": SOFTMAX + "[training]\nlearing_rate = 0.1\n",
    "twice": SOFTMAX + SOFTMAX,
    "nowhere_model": 'model = "nowhere_model:build"\n',
    "argument": SOFTMAX + "model_arguments = { depth = 2 }\n",
    "arguments": 'model = "mine:argued"\nmodel_arguments = { hiden = 2 }\n',
    "function": 'model = "mine:argued"\nmodel_arguments = { function = "relu" }\n',
    "lazy": 'model = "mine:lazy"\n',
}
MINE = """from torch import nn
def argued(hidden): return nn.Linear(2, hidden)
def lazy(): return nn.LazyLinear(2)
"""


@pytest.mark.parametrize("case", FAILING)
def test_an_error_is_a_message_and_an_exit_code(run: Run, case: str) -> None:
    """What happened and what to do, on stderr, without a traceback."""
    words, code, message = FAILING[case]
    for name, text in POLICIES.items():
        Path(f"{name}.toml").write_text(text + END)
    Path("mine.py").write_text(MINE)
    result = run(*words)
    assert result.exit_code == code
    assert message in result.stderr
    assert "Traceback" not in result.output
