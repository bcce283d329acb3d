"""A computation, recorded once and played again for other numbers: vmap itself takes half of a small step.

Half of what is left is Python between the operations, which torch's own interpreter spares where it takes the tape.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from client_agent.learning.foreign import LearnerError, describe

# What such an operation gives depends on more than shapes, and would stand on the tape as it was when it was recorded.
_CHANGING = (
    torch.Tag.nondeterministic_seeded,
    torch.Tag.data_dependent_output,
    torch.Tag.dynamic_output_shape,
)
# Here vmap puts the tables of all lanes into one: an index beyond its own would read, and train, another device's.
_SHARING = ("embedding", "embedding_renorm_", "_embedding_bag", "_embedding_bag_forward_only")

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Call:
    """One operation: where its arguments come from, where its results go, and what nobody needs after it."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    named: dict[str, Any]
    fills: tuple[tuple[int, int], ...]
    lists: tuple[tuple[int, tuple[int, ...]], ...]
    results: tuple[int, ...]
    is_single: bool


@dataclass(frozen=True, slots=True)
class Tape:
    """The recorded operations; `play` takes tensors of the same shapes and types as those it was recorded with."""

    calls: tuple[_Call, ...]
    start: tuple[Tensor | None, ...]
    results: tuple[int, ...]

    @torch.no_grad()
    def play(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """What the recorded function gives for these."""
        slots: list[Any] = list(self.start)
        slots[: len(inputs)] = inputs
        for call in self.calls:
            arguments = list(call.arguments)
            for place, slot in call.fills:
                arguments[place] = slots[slot]
            for place, listed in call.lists:
                arguments[place] = [slots[slot] for slot in listed]
            given = call.function(*arguments, **call.named)
            if call.is_single:
                slots[call.results[0]] = given
            else:
                for slot, tensor in zip(call.results, given, strict=True):
                    slots[slot] = tensor
        return tuple(slots[slot] for slot in self.results)


def record(function: Callable[..., tuple[Tensor, ...]], *inputs: Tensor) -> tuple[Tape, tuple[Tensor, ...]]:
    """The operations of `function`, and what it gave. Raises LearnerError for one that no tape can hold."""
    recorder = _Recorder()
    with recorder:
        given = function(*inputs)
    return recorder.write(inputs, given), given


def play_faster(tape: Tape, inputs: Sequence[Tensor]) -> Callable[..., tuple[Tensor, ...]]:
    """What plays a tape to the same bits, in torch's interpreter where that takes it; `inputs` are of its shapes."""
    try:
        with warnings.catch_warnings():
            # Its successors need a compiler on the machine, and change bits.
            warnings.simplefilter("ignore", FutureWarning)
            traced: Callable[..., tuple[Tensor, ...]] = torch.jit.trace(  # type: ignore[no-untyped-call]
                tape.play, tuple(inputs), check_trace=False
            )
    # Torch says in any kind of error that it cannot trace something, and may have forgotten how to some day.
    except Exception as error:  # noqa: BLE001
        logger.debug("played_by_python", reason=describe(error))
        return tape.play

    def play(*given: Tensor) -> tuple[Tensor, ...]:
        # Unoptimized: whatever is put together or left out is a chance to compute another last bit.
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            return traced(*given)

    return play


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation below vmap and autograd, where tensors are plain."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # What would skip it is torch's compiler, whose import takes seconds, and which nothing here uses.
        return False

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._seen: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        if found := [tag for tag in _CHANGING if tag in func.tags]:
            raise LearnerError(f"{func} in the model is {found[0].name.replace('_', ' ')}")
        if func.overloadpacket.__name__ in _SHARING:
            raise LearnerError(f"{func} in the model does not keep devices apart")
        given = func(*args, **(kwargs or {}))
        # Kept, so that no other tensor can have the same id before the tape is written.
        self._seen.append((func, args, kwargs or {}, given))
        return given

    def write(self, inputs: Sequence[Tensor], given: Sequence[Tensor]) -> Tape:
        """The tape of what was seen."""
        pool = _Pool(inputs)
        calls = [pool.write_call(func, args, named=named, given=out) for func, args, named, out in self._seen]
        results = tuple(pool.find(tensor) for tensor in given)
        return Tape(tuple(calls), tuple(pool.start), results)


class _Pool:
    """The slots of a tape: inputs first, then whatever the operations give, or hold from outside."""

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        self._slots = {id(tensor): slot for slot, tensor in enumerate(inputs)}
        self.start: list[Tensor | None] = [None] * len(inputs)

    def find(self, tensor: Tensor) -> int:
        """Where a tensor lies; one that no operation gave is the model's own, and always the same."""
        if id(tensor) not in self._slots:
            self._slots[id(tensor)] = len(self.start)
            self.start.append(tensor)
        return self._slots[id(tensor)]

    def write_call(self, function: Any, arguments: Any, *, named: Any, given: Any) -> _Call:
        """An operation by the slots of its tensors. Raises LearnerError for a form that no tape can hold."""
        fills, lists = [], []
        for place, value in enumerate(arguments):
            if isinstance(value, Tensor):
                fills.append((place, self.find(value)))
            elif isinstance(value, tuple | list) and any(isinstance(part, Tensor) for part in value):
                if not all(isinstance(part, Tensor) for part in value):
                    raise LearnerError(f"{function} in the model takes tensors that may be missing")
                lists.append((place, tuple(map(self.find, value))))
        if any(isinstance(value, Tensor) for value in named.values()):
            raise LearnerError(f"{function} in the model takes tensors by name")
        is_single = isinstance(given, Tensor)
        results = tuple(self._add(tensor) for tensor in ([given] if is_single else given))
        held = tuple(None if place in {p for p, _ in (*fills, *lists)} else v for place, v in enumerate(arguments))
        return _Call(function, held, dict(named), tuple(fills), tuple(lists), results, is_single)

    def _add(self, tensor: Any) -> int:
        # Such as the gradient of what asks for none.
        if tensor is None:
            self.start.append(None)
            return len(self.start) - 1
        if not isinstance(tensor, Tensor):
            raise LearnerError("an operation in the model gives something else than tensors")
        # An operation that works in place gives its own argument again.
        slot = self._slots.get(id(tensor), len(self.start))
        if slot == len(self.start):
            self._slots[id(tensor)] = slot
            self.start.append(None)
        return slot
