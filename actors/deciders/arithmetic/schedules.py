"""The server's learning rate over the versions, to the last bit the same on every machine (law 6).

A platform's own `cos` and `pow` differ in their last digits from one to the next. Here a power is repeated
multiplication, which IEEE 754 fixes, and a cosine is a series in whole numbers.
"""

from __future__ import annotations

from msgspec.structs import replace

from schemas.policy import Optimizer, Policy, Schedule

_BITS = 64
_ONE = 1 << _BITS
_PI = 0x3243F6A8885A308D3  # pi in units of 2^-64, rounded down


def schedule_optimizer(policy: Policy, version: int) -> Optimizer:
    """The optimizer that makes of this version the next one: its learning rate times the schedule's factor."""
    factor = compute_factor(policy.server_schedule, version)
    return replace(policy.optimizer, learning_rate=policy.optimizer.learning_rate * factor)


def compute_factor(schedule: Schedule, version: int) -> float:
    """The factor of the step from `version` on; cosine as in SGDR (Loshchilov and Hutter 2017, eq. 5)."""
    warm = min(1.0, (version + 1) / (schedule.warmup_versions + 1))
    match schedule.rule:
        case "step":
            return warm * power(schedule.decay, version // schedule.step_versions)
        case "exponential":
            return warm * power(schedule.decay, version)
        case "cosine":
            done = min(version, schedule.cosine_versions)
            fallen = (1 + cosine(done, schedule.cosine_versions)) / 2
            return warm * (schedule.floor + (1 - schedule.floor) * fallen)
        case _:
            return warm


def power(base: float, exponent: int) -> float:
    """`base` to a whole number from 0 on, by squaring."""
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


def cosine(numerator: int, denominator: int) -> float:
    """cos(pi * numerator / denominator), for a fraction from 0 to 1."""
    if 2 * numerator > denominator:
        return -cosine(denominator - numerator, denominator)
    angle = _PI * numerator // denominator
    square, total, term, count = angle * angle >> _BITS, 0, _ONE, 0
    # x^2 / 2!, x^4 / 4! and so on, with changing signs, until nothing is left of a term.
    while term:
        total += -term if count & 2 else term
        count += 2
        term = (term * square >> _BITS) // (count * (count - 1))
    return total / _ONE
