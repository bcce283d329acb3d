"""The trainings of a torch learner that fit into one computation, and that computation. `TorchLearner` asks it first.

A training that does not fit, or comes to anything but finite numbers, has no answer here: the loop gives it, or says
in its own words what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import structlog
import torch
from torch import Tensor

from client_agent.learning.foreign import describe
from client_agent.learning.learner import Array, Arrays, Context, Metrics, Role
from client_agent.learning.pytorch.batches import Examples, widen
from client_agent.learning.pytorch.copying import ModuleCopy
from client_agent.learning.pytorch.lockstep.lanes import Lane, form_groups, join, make_lane, stack
from client_agent.learning.pytorch.lockstep.padded_losses import has_wrong_label
from client_agent.learning.pytorch.lockstep.rehearsal import find_difference, find_refusal, look_at_model
from client_agent.learning.pytorch.lockstep.steps import Batch, Rules, Slot
from client_agent.learning.pytorch.lockstep.tape import play_faster, record
from client_agent.learning.pytorch.losses import Loss
from schemas.policy import Policy

# A group has one of these numbers of lanes, empty ones among them. All are multiples of two registers full of numbers:
# no element is ever computed in the odd rest of an array, for which there are other instructions.
LANES = (32, 64, 128)
# Devices that are tried before a model is judged: one with unusable examples says nothing about it.
REHEARSALS_MAX = 5

Answer = tuple[Arrays, Metrics]
Member = tuple[Examples, Context]
Alone = Callable[..., Answer]  # of examples, and a context by name
logger = structlog.get_logger(__name__)


class Lockstep:
    """A policy's local training for many devices at once. `refusal`: why it is left to the loop; empty if it is not.

    `copied` is a copy of the module that nothing else uses, filled with what is frozen.
    """

    def __init__(self, policy: Policy, copied: ModuleCopy, *, roles: Mapping[str, Role], loss: Loss | None) -> None:
        self.refusal = find_refusal(policy, copied, roles=roles, loss=loss)
        named = copied.tensors.items()
        slots = tuple(Slot(name, tuple(tensor.shape)) for name, tensor in named if roles[name] == "trained")
        self._rules = None if loss is None else Rules(copied.module, slots, policy.training, loss)
        self._classes: int | None = None
        self._rehearsals = 0
        self._tapes: dict[tuple[Any, ...], Callable[..., tuple[Tensor, ...]]] = {}
        self._judged: dict[int, tuple[Examples, bool]] = {}

    def train(self, start: Arrays, members: Sequence[Member], *, rate: float, alone: Alone) -> list[Answer | None]:
        """For each member what `alone` would give; None for one that has to be trained so."""
        answers: list[Answer | None] = [None] * len(members)
        if self._rules is None or self.refusal:
            return answers
        if self._classes is None and not self._rehearse(start, members, rate=rate, alone=alone):
            return answers
        lanes = {
            number: self._make_lane(self._rules, member)
            for number, member in enumerate(members)
            if self._fits(self._rules, member[0])
        }
        for group in form_groups(lanes, most=LANES[-1]):
            found = self._run_or_split(self._rules, [lane for _, lane in group], start=start, rate=rate)
            for (number, _), answer in zip(group, found, strict=True):
                answers[number] = answer
        return answers

    def _make_lane(self, rules: Rules, member: Member) -> Lane:
        examples, context = member
        assert examples.columns is not None
        return make_lane(examples.columns, rules.training, seed=context.seed)

    def _fits(self, rules: Rules, examples: Examples) -> bool:
        """Whether a device's examples lie in columns, and the loop would stop at none of their labels."""
        if id(examples) not in self._judged:
            columns = examples.columns
            fits = columns is not None and len(columns) > 0
            if fits and columns is not None:
                fits = not has_wrong_label(rules.loss, columns.tensors[-1], classes=self._classes or 0)
            # With the examples, so that no others can have their id.
            self._judged[id(examples)] = (examples, fits)
        return self._judged[id(examples)][1]

    def _rehearse(self, start: Arrays, members: Sequence[Member], *, rate: float, alone: Alone) -> bool:
        """Whether the model may be trained so, as one device has shown; perhaps none of these can show it."""
        assert self._rules is not None
        for member in [each for each in members if each[0].columns is not None and len(each[0]) > 0]:
            if self._rehearsals == REHEARSALS_MAX:
                self.refusal = f"{REHEARSALS_MAX} devices could not train, so that nothing is known of the model"
            if self.refusal or self._try_one(self._rules, start, member=member, rate=rate, alone=alone):
                break
        if self.refusal:
            logger.info("trained_one_by_one", reason=self.refusal)
        return self._classes is not None and not self.refusal

    def _try_one(self, rules: Rules, start: Arrays, *, member: Member, rate: float, alone: Alone) -> bool:
        """Train one device both ways; whether that says anything about the model."""
        self._rehearsals += 1
        try:
            expected = alone(member[0], context=member[1])
        # What is wrong with this device it says itself, when it is its turn.
        except Exception:  # noqa: BLE001
            return False
        try:
            lane = self._make_lane(rules, member)
            classes = look_at_model(rules, lane.columns)
            [found] = self._run(rules, [lane], start=start, rate=rate)
        # Torch says in any kind of error that vmap cannot do something.
        except Exception as error:  # noqa: BLE001
            self.refusal = describe(error)
            return True
        if found is None:
            return False
        self._classes, self.refusal = classes, find_difference(start, expected=expected[0], found=found[0])
        return True

    def _run_or_split(self, rules: Rules, lanes: list[Lane], *, start: Arrays, rate: float) -> list[Answer | None]:
        """What the lanes come to; one that raises is found by halves, and has no answer."""
        try:
            return self._run(rules, lanes, start=start, rate=rate)
        # Such as an index that a model's table does not have; the loop says it better.
        except Exception as error:  # noqa: BLE001
            if len(lanes) == 1:
                logger.debug("left_to_the_loop", reason=describe(error))
                return [None]
        half = len(lanes) // 2
        first, second = (
            self._run_or_split(rules, part, start=start, rate=rate) for part in (lanes[:half], lanes[half:])
        )
        return [*first, *second]

    @torch.no_grad()
    def _run(self, rules: Rules, lanes: list[Lane], *, start: Arrays, rate: float) -> list[Answer | None]:
        run = _Run(rules, lanes, start=start)
        for step in range(lanes[0].steps):
            run.shrink(step)
            inputs = run.list_inputs(step, rate=rate)
            key = (run.size, lanes[0].shapes)
            if key in self._tapes:
                given = self._tapes[key](*inputs)
            else:
                tape, given = record(run.step, *inputs)
                self._tapes[key] = play_faster(tape, inputs)
            run.take(step, given)
        return run.read_answers()


class _Run:
    """One group on its way: the matrix of its parameters, what is over already, and the losses."""

    def __init__(self, rules: Rules, lanes: Sequence[Lane], *, start: Arrays) -> None:
        self.size = _choose_size(len(lanes))
        self._rules, self._lanes = rules, lanes
        self._start = torch.from_numpy(np.concatenate([start[slot.name].reshape(-1) for slot in rules.slots]))
        flat = self._start.expand(self.size, -1).clone()
        self._state = [flat, *(torch.zeros_like(flat) for _ in range(rules.moments))]
        places, mask = stack(lanes, size=self.size)
        self._places, self._mask, self._columns = torch.from_numpy(places), torch.from_numpy(mask), join(lanes)
        ends = np.array([lane.steps for lane in lanes] + [0] * (self.size - len(lanes)))
        self._active = torch.from_numpy(np.arange(len(places))[:, None] < ends)
        self._over: list[Tensor] = []
        self._losses = np.zeros((len(places), self.size), np.float32)

    def shrink(self, step: int) -> None:
        """Go on without lanes that have taken all their steps, as far as there is a smaller size."""
        size = _choose_size(int(self._active[step].sum()))
        if size < self.size:
            self._over.insert(0, self._state[0][size:])
            self._state = [tensor[:size] for tensor in self._state]
            self.size = size

    def list_inputs(self, step: int, *, rate: float) -> list[Tensor]:
        """What `step` takes; all that is not in here is the same at each step of each group of these shapes."""
        index = self._places[step, : self.size].reshape(-1)
        taken = [
            widen(column.index_select(0, index)).reshape(self.size, -1, *column.shape[1:]) for column in self._columns
        ]
        numbers = self._rules.make_numbers(rate, step=step + 1)
        return [
            *self._state,
            *taken,
            self._mask[step, : self.size],
            self._active[step, : self.size],
            self._start,
            numbers,
        ]

    def step(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """One step of all lanes."""
        count = 1 + self._rules.moments
        *columns, mask, active, start, numbers = inputs[count:]
        batch = Batch(tuple(columns), mask, self._lanes[0].columns.names)
        return self._rules.step(inputs[:count], batch, start=start, active=active, numbers=numbers)

    def take(self, step: int, given: Sequence[Tensor]) -> None:
        """Go on from what a step has given."""
        *self._state, losses = given
        self._losses[step, : self.size] = losses.numpy()

    def read_answers(self) -> list[Answer | None]:
        """What each lane has learned; None where a loss was no finite number."""
        matrix = torch.cat([self._state[0], *self._over]).numpy()
        return [
            self._read_answer(matrix[number], self._losses[: lane.steps, number])
            for number, lane in enumerate(self._lanes)
        ]

    def _read_answer(self, row: Array, losses: Array) -> Answer | None:
        if not np.isfinite(losses).all():
            return None
        return self._rules.read_row(row), {"loss": float(losses.astype(np.float64).mean())}


def _choose_size(lanes: int) -> int:
    """How many lanes a group has of which so many are in use."""
    return next(size for size in LANES if size >= lanes)
