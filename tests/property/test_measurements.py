"""What a measure task publishes is what its bodies say, by a reader that shares no code with the aggregator."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction
from math import isqrt
from typing import Any

import numpy as np
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.events import ModelPublished, UpdateAdmitted
from schemas.policy import Policy
from schemas.tensors import BLOCK
from schemas.topics import ROUNDS, UPDATES
from schemas.updates import parse_update
from streams.bodies import BodyReader
from streams.log import TopicPartition, scan
from tests.survey import measuring_policy
from tests.worlds.federation import Federation

BOUNDS = st.floats(1e-6, 1e9)
SHARES = st.floats(-1.0, 1.0, width=32, allow_subnormal=False)
# What one rounding to float32 may change, beside what float64 loses.
ROUNDED = Fraction(1001, 1000 << 24)
SMALLEST = Fraction(2, 10**45)
SHAPES = st.sampled_from([(), (1,), (3,), (2, 2)])


@st.composite
def _questions(draw: st.DrawFn) -> tuple[Policy, dict[str, list[float]]]:
    """A policy and an answer for each of its devices."""
    names = draw(st.lists(st.sampled_from("abc"), min_size=1, unique=True))
    statistics = {name: {"bound": draw(BOUNDS), "shape": draw(SHAPES)} for name in names}
    rules = measuring_policy(
        measure={"statistics": statistics, "release": draw(st.sampled_from(("mean", "sum")))},
        compression={"codec": draw(st.sampled_from(("float32", "float16", "int8")))},
        # Down to a clip that cuts most answers, which then is part of what has to be recomputed.
        clipping={"norm": draw(st.sampled_from((0.5, 1.0, 4.0))), "steps": draw(st.sampled_from((16, 999, 1 << 20)))},
        aggregation={"updates_per_round": draw(st.integers(1, 4))},
    )
    size = sum(int(np.prod(one["shape"])) for one in statistics.values())
    # A device sends nothing longer than the clip, or its elements would be beyond the grid.
    answers = {}
    for number in range(rules.aggregation.updates_per_round):
        answer = np.array(draw(st.lists(SHARES, min_size=size, max_size=size)))
        answers[f"d{number}"] = (answer / max(1.0, np.abs(answer).max() / rules.clipping.norm)).tolist()
    return rules, answers


@settings(max_examples=30, deadline=None)
@given(_questions())
def test_the_published_statistics_are_those_of_the_bodies(question: tuple[Policy, dict[str, list[float]]]) -> None:
    """The mean or sum over the members, element by element in exact fractions, within the one rounding of a release."""
    rules, answers = question
    size = len(next(iter(answers.values())))
    world = Federation(rules, parameters=size)
    world.round_of({name: np.array(answer, np.float32) for name, answer in answers.items()})
    [_, published] = world.events(ROUNDS.name, ModelPublished)
    found = _floats(_fetch(world, published.model), size)
    for value, exact in zip(found, _recompute(world, size), strict=True):
        assert abs(Fraction(value) - exact) <= abs(exact) * ROUNDED + SMALLEST


def _recompute(world: Federation, size: int) -> list[Fraction]:
    """From the records of the updates that were admitted."""
    measure, clipping = world.rules.measure, world.rules.clipping
    assert measure is not None
    admitted = {event.body.offsets[0] for event in world.events(ROUNDS.name, UpdateAdmitted)}
    sums = [0] * size
    for record in scan(world.log, TopicPartition(UPDATES.name, world.partition)):
        if record.offset in admitted:
            body = parse_update(record.value or b"").submitted.inline or b""
            grid = _clip(_read_grid(body, world.rules, size=size), world.rules)
            sums = [total + quantum for total, quantum in zip(sums, grid, strict=True)]
    members = len(admitted) if measure.release == "mean" else 1
    bounds = [Fraction(one.bound) for one in measure.statistics.values() for _ in range(int(np.prod(one.shape)))]
    # The policy's step is a float itself: norm divided by steps, rounded.
    step = Fraction(clipping.norm / clipping.steps)
    return [total * step * bound / members for total, bound in zip(sums, bounds, strict=True)]


def _read_grid(body: bytes, rules: Policy, *, size: int) -> Iterator[int]:
    """Whole multiples of the step."""
    data, steps = zstandard.ZstdDecompressor().decompress(body, max_output_size=1 << 20), rules.clipping.steps
    match rules.compression.codec:
        case "float32":
            step = rules.clipping.norm / steps
            yield from (round(value / step) for value in struct.unpack(f"<{size}f", data))
        case "float16":
            yield from (round(value / (1.0 / steps)) for value in struct.unpack(f"<{size}e", data))
        case _:
            blocks = -(-size // BLOCK)
            multipliers = struct.unpack_from(f"<{blocks}I", data)
            values = struct.unpack_from(f"<{size}b", data, 4 * blocks)
            yield from (value * multipliers[place // BLOCK] for place, value in enumerate(values))


def _clip(grid: Iterator[int], rules: Policy) -> list[int]:
    """Law 6: c = min(2^16, isqrt(floor(2^32 C^2 / |q|^2)))."""
    values, steps = list(grid), rules.clipping.steps
    norm2 = sum(value * value for value in values)
    scale = min(1 << 16, isqrt((steps * steps << 32) // norm2)) if norm2 else 1 << 16
    if scale == 1 << 16:
        return values
    return [(abs(value) * scale >> 16) * (1 if value > 0 else -1) for value in values]


def _fetch(world: Federation, ref: Any) -> bytes:
    data = BodyReader(world.log, ref.topic, ref.partition).fetch(ref)
    assert isinstance(data, bytes)
    return data


def _floats(body: bytes, size: int) -> tuple[float, ...]:
    return struct.unpack(f"<{size}f", zstandard.ZstdDecompressor().decompress(body, max_output_size=1 << 20))
