"""What each device of a group takes at each step: the batches of the loop, filled up to a width of the device's own.

A row that fills up repeats the last one of its batch and counts nothing: whatever it holds, the batch holds already.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from client_agent.learning.pytorch.batches import Columns
from schemas.policy import Training

# Narrower batches are filled up to this, or to the policy's batch: fewer widths make larger groups.
WIDTH_MIN = 16
# Bytes of examples that one group may join.
JOINED_BYTES_MAX = 64 << 20

Places = npt.NDArray[np.int64]
Mask = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Lane:
    """One device in a group: its examples, and which of them it takes at each step, both of shape (steps, width)."""

    columns: Columns
    places: Places
    mask: Mask

    @property
    def steps(self) -> int:
        """How many steps it takes."""
        return len(self.places)

    @property
    def shapes(self) -> tuple[object, ...]:
        """What lanes of one group have in common: the width of a batch, and what an example is made of."""
        kinds = tuple((str(tensor.dtype), tuple(tensor.shape[1:])) for tensor in self.columns.tensors)
        return (self.places.shape[1], self.columns.names, kinds)


def make_lane(columns: Columns, training: Training, *, seed: int) -> Lane:
    """The lane of a device, shuffled by the same draws as in the loop."""
    spread, mask = _spread_batches(len(columns), training.batch_size)
    # Torch's own generator, because a seed of it gives the draws that the loop has after the same one.
    torch.default_generator.manual_seed(seed)
    epochs = training.epochs if training.steps == 0 else -(-training.steps // len(spread))
    places = np.concatenate([torch.randperm(len(columns)).numpy()[spread] for _ in range(epochs)])
    steps = training.steps or len(places)
    return Lane(columns, places[:steps], np.concatenate([mask] * epochs)[:steps])


def find_width(total: int, batch_size: int) -> int:
    """How wide the batches of a device with so many examples are: of nothing but these two numbers."""
    if total >= batch_size:
        return batch_size
    return min(batch_size, max(WIDTH_MIN, next(1 << power for power in count() if 1 << power >= total)))


@lru_cache(maxsize=4096)
def _spread_batches(total: int, batch_size: int) -> tuple[Places, Mask]:
    """Places in the order of an epoch, and 1 where they count, both of shape (batches, width)."""
    size, inside = min(batch_size, total), np.arange(find_width(total, batch_size))[None]
    starts = np.arange(0, total, size)[:, None]
    # Only the last batch may be short, so the last row of all is the last one of its own batch.
    places = np.minimum(starts + inside, total - 1)
    return places, ((inside < size) & (starts + inside < total)).astype(np.float32)


def form_groups(lanes: Mapping[int, Lane], *, most: int) -> Iterator[list[tuple[int, Lane]]]:
    """The lanes in groups of equal shapes with at most so many, in each the one with the most steps first."""
    alike: dict[object, list[tuple[int, Lane]]] = {}
    for number, lane in lanes.items():
        alike.setdefault(lane.shapes, []).append((number, lane))
    for found in alike.values():
        found.sort(key=lambda pair: -pair[1].steps)
        group, joined = list[tuple[int, Lane]](), 0
        for pair in found:
            size = pair[1].columns.count_bytes()
            if group and (len(group) == most or joined + size > JOINED_BYTES_MAX):
                yield group
                group, joined = [], 0
            group, joined = [*group, pair], joined + size
        yield group


def stack(lanes: Sequence[Lane], *, size: int) -> tuple[Places, Mask]:
    """Places among the examples of all, one lane's after the other's, and what counts: (steps, size, width)."""
    shape = (lanes[0].steps, size, lanes[0].places.shape[1])
    places, mask, begin = np.zeros(shape, np.int64), np.zeros(shape, np.float32), 0
    for number, lane in enumerate(lanes):
        np.add(lane.places, begin, out=places[: lane.steps, number])
        mask[: lane.steps, number] = lane.mask
        begin += len(lane.columns)
    return places, mask


def join(lanes: Sequence[Lane]) -> list[Tensor]:
    """The examples of all, column by column, labels last."""
    return [torch.cat(parts) for parts in zip(*(lane.columns.tensors for lane in lanes), strict=True)]
