"""Each case of `cases` through the real learner, on the CPU and on the device; and what cannot be trained there."""

from __future__ import annotations

import copy
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from client_agent.learning.foreign import LearnerError
from client_agent.learning.learner import Context
from client_agent.learning.opening import TaskLearner, choose_accelerator
from client_agent.learning.plugins import PluginError
from client_agent.learning.pytorch.batches import Loaded
from client_agent.learning.trainer import Trained
from tests import torch_zoo as zoo
from tests.root import ROOT
from tests.trials.accelerator import cases
from tests.trials.accelerator.cases import CASES, FULL, PRECISIONS, Case, X, Y

DEVICE = "privateuseone"
# As its package calls it, and errors say.
NAME = "apart"
PEEK = "import ctypes, torch; ctypes.string_at(torch.zeros(3, device='privateuseone').data_ptr(), 4)"
DEVICES_TOGETHER = 20
Found = dict[str, object]
HUGE = Case(model=zoo.linear, data=(X, Y), sections={"model_arguments": {"outputs": 5_000_000}})


def list_checks(*, has_float64: bool) -> dict[str, Callable[[], Found]]:
    """By name; each raises where something is wrong, and gives what is worth keeping."""
    precise = {
        f"in {dtype}": Case(
            model=zoo.in_precision, data=(X, Y), sections={"training": FULL, "model_arguments": {"dtype": dtype}}
        )
        for dtype in PRECISIONS
    }
    double = precise["in float64"]
    if not has_float64:
        del precise["in float64"]
        # As mps, which has none.
        return {
            **{name: partial(compare, case) for name, case in {**CASES, **precise}.items()},
            "a model in float64": partial(check_unfit, double, "float64"),
        }
    return {
        "memory that the host cannot read": check_protection,
        **{name: partial(compare, case) for name, case in {**CASES, **precise}.items()},
        "many devices at once": check_together,
        "too little memory for a batch": check_batch,
        "too little memory for the model": partial(check_unfit, HUGE, "out of memory"),
        "a module's tensor left behind": partial(
            check_refusal, Case(model=cases.Apart, data=(X, Y)), "register_buffer"
        ),
        "a loop that moves nothing": partial(check_refusal, _own(cases.train_unmoved), ".to(next(model.parameters())"),
        "a label too many": partial(check_refusal, Case(model=zoo.linear, data=(X, Y + 1)), "do yours begin at 1?"),
    }


def check_protection() -> Found:
    """Whoever reads the device's memory by its address is ended."""
    ended = subprocess.run([sys.executable, "-c", PEEK], cwd=ROOT, check=False).returncode
    _require(ended == -signal.SIGSEGV, f"it went on, and ended with {ended}")
    return {"signal": "SIGSEGV"}


def compare(case: Case) -> Found:
    """Two trainings and an evaluation: on the device to the bit what they are on the CPU, twice and on its second."""
    first, again, second = (_run(case, name) for name in (DEVICE, DEVICE, f"{DEVICE}:1"))
    _require(not _differ(first, again), f"the same again differs in {_differ(first, again)}")
    _require(not _differ(first, second), f"on the second device differs: {_differ(first, second)}")
    plain = _run(case, "cpu")
    match case.alike:
        case "bits":
            _require(not _differ(first, plain), f"differs from the CPU in {_differ(first, plain)}")
        case "rounding":
            np.testing.assert_allclose(first[1], plain[1], rtol=1e-4, atol=1e-5)
    return {"alike": case.alike, "values": len(first[0])}


def check_together() -> Found:
    """Many small trainings at one version: on an accelerator each is made alone, and is what it is on the CPU."""
    columns = [zoo.make_rows(5 + number, seed=number) for number in range(DEVICES_TOGETHER)]
    found = []
    for name in (DEVICE, "cpu"):
        learner = _open(CASES["sgd"], name)
        rules = learner.learner._policy  # type: ignore[attr-defined]
        members = [
            (zoo.read_rows(*both), Context(version=3, seed=number, policy=rules)) for number, both in enumerate(columns)
        ]
        start = zoo.find_start(learner)
        together = learner.train_together(start, members) if name == DEVICE else []
        _require(not any(together), "some were trained together")
        found.append([learner.train(start, data, context=context) for data, context in members])
    alike = all(np.array_equal(one.delta, other.delta) for one, other in zip(*found, strict=True))
    _require(alike, "what is learned differs from the CPU")
    return {"devices": DEVICES_TOGETHER, "together": 0}


def check_batch() -> Found:
    """A batch that finds no room gives the lease up with words, leaves nothing behind, and a smaller one trains."""
    wide = {"model_arguments": {"outputs": 100_000}}
    rows = zoo.make_rows(400)
    large, small = (
        Case(model=zoo.linear, data=rows, sections={**wide, "training": {"batch_size": size, "steps": 1}})
        for size in (400, 4)
    )
    learner = _open(large, DEVICE)
    before = torch.apart.count_bytes()[0]  # type: ignore[attr-defined]
    error = _fail(learner, large)
    # While somebody still looks at the error: what it held must be free for others by then.
    left = torch.apart.count_bytes()[0] - before  # type: ignore[attr-defined]
    for word in (f"too little memory on {NAME}", "training.batch_size", "--accelerator cpu"):
        _require(word in str(error), f"it says {error}")
    _require(left == 0, f"{left} bytes are left behind")
    _train(_open(small, DEVICE), small)
    return {"told": str(error)[:200], "left_bytes": left}


def check_unfit(case: Case, word: str) -> Found:
    """A model that cannot be there is refused when it is opened."""
    try:
        _open(case, DEVICE)
    except PluginError as error:
        told = str(error)
        for each in (f"cannot be moved to {NAME}", "--accelerator cpu", word):
            _require(each in told, f"it says {told}")
        return {"told": told[:200]}
    raise AssertionError("it was opened")


def check_refusal(case: Case, word: str) -> Found:
    """What goes wrong says what to do."""
    told = str(_fail(_open(case, DEVICE), case))
    _require(word in told, f"it says {told}")
    return {"told": told[:300]}


def _own(train: Any) -> Case:
    return Case(model=zoo.linear, data=(X, Y), sections={"training": {"train": zoo.name_plugin(train)}})


def _open(case: Case, device: str) -> TaskLearner:
    choose_accelerator(device)
    learner = zoo.open_torch(zoo.torch_policy(case.model, **case.sections))
    made: nn.Module = learner.learner._template._module  # type: ignore[attr-defined]
    places = {str(tensor.device) for tensor in made.parameters()}
    wanted = device.replace(DEVICE, NAME)
    _require(places <= {wanted, f"{wanted}:0"}, f"the model is on {places}")
    return learner


def _load(learner: TaskLearner, case: Case) -> Loaded:
    torch_learner: Any = learner.learner
    reading = partial(torch_learner._convert, where="the trial's data")
    return Loaded(case.data, reading, is_raw=bool(torch_learner._policy.training.train), is_kept=True)


def _train(learner: TaskLearner, case: Case, **given: Any) -> Trained:
    return zoo.train_once(learner, _load(learner, case), **given)


def _run(case: Case, device: str) -> list[Any]:
    """All that comes of it: vectors, metrics and states."""
    learner = _open(case, device)
    start = zoo.find_start(learner)
    first = _train(learner, case)
    moved = type(start)(start.vector + first.delta, start.frozen)
    # As a device reads it from its outbox: nothing of it is shared with what was kept.
    second = _train(learner, case, model=moved, state=copy.deepcopy(first.state), version=1)
    scores = learner.evaluate(moved, _load(learner, case))
    return [first.delta, second.delta, first.metrics, second.metrics, first.state, second.state, scores]


def _fail(learner: TaskLearner, case: Case) -> LearnerError:
    try:
        _train(learner, case)
    except LearnerError as error:
        return error
    raise AssertionError("it was trained")


def _differ(one: list[Any], other: list[Any]) -> list[str]:
    names = ("first update", "second update", "metrics", "metrics again", "state", "state again", "scores")
    pairs = zip(names, one, other, strict=True)
    return [name for name, mine, theirs in pairs if repr(_freeze(mine)) != repr(_freeze(theirs))]


def _freeze(value: Any) -> Any:
    """The same as bytes and plain numbers."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, dict):
        return {name: _freeze(part) for name, part in value.items()}
    return [_freeze(part) for part in value] if isinstance(value, list | tuple) else value


def _require(holds: object, what: str) -> None:
    if not holds:
        raise AssertionError(what)
