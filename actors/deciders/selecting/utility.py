"""Which devices a synchronous round calls first where the policy asks for useful ones: Oort's rule on what a log holds.

Oort (Lai et al., OSDI 2021, section 4, eq. 2) prefers devices with many examples and a high loss, makes slow ones count
less, and leaves a share of each round for devices that it does not know. Its utility is n sqrt(mean loss^2) (T / t)^2;
devices report the mean of the loss, so that stands in the root's place. What a device reports is its own claim: it can
come first by it, but never twice in a round, and `participations_max` bounds how often.

All of it is a function of leases that the selector has closed, in whole numbers. A device costs one byte: its utility
on a scale of quarter octaves. How many have each is enough to tell how far ahead of the others a device is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from actors.deciders.selecting.devices import Device
from schemas.policy import Selection

SCORE_MAX = 255
UNKNOWN = 0


def compute_score(loss: int, samples: int, *, took_ms: int, fast_ms: int) -> int:
    """From 1 to SCORE_MAX: four steps for each doubling of loss * samples * (fast / took)^2, in which fast is the most.

    `loss` is a multiple of 2^-16; `fast_ms` of 0 leaves time out.
    """
    useful = max(0, loss) * samples
    if 0 < fast_ms < took_ms:
        useful = useful * fast_ms * fast_ms // (took_ms * took_ms)
    length = useful.bit_length()
    quarter = (useful << 2 >> length - 1) & 3 if useful else 0
    return min(SCORE_MAX, 1 + 4 * length + quarter)


@dataclass(slots=True)
class Utilities:
    """Scores of devices, by the place that `Devices` gives each; `counts` says how many have each score."""

    scores: bytearray = field(default_factory=bytearray)
    counts: list[int] = field(default_factory=list)

    def note(self, place: int, score: int) -> None:
        """The device at this place was worth so much, the last time."""
        # Made with the first score, so that other tasks hold nothing.
        self.counts = self.counts or [0] * (SCORE_MAX + 1)
        self.scores.extend(bytes(max(0, place + 1 - len(self.scores))))
        if self.scores[place] != UNKNOWN:
            self.counts[self.scores[place]] -= 1
        self.scores[place] = score
        self.counts[score] += 1

    def find(self, place: int | None) -> int:
        """The score of a device; UNKNOWN where it has none."""
        return self.scores[place] if place is not None and place < len(self.scores) else UNKNOWN

    def find_group(self, place: int | None, *, wanted: Selection) -> tuple[int, int]:
        """Slots and size of the group that a device draws in: those with a score, or those to be explored."""
        known = sum(self.counts)
        fresh = max(0, wanted.devices_expected - known)
        explored = min(fresh, math.ceil(wanted.exploration * wanted.concurrency))
        best = min(known, wanted.concurrency - explored)
        if self.find(place) != UNKNOWN:
            return best, known
        return wanted.concurrency - best, max(1, fresh)

    def rank(self, place: int | None, ticket: int, *, device: Device | None, round_id: int) -> int:
        """The ticket by which a device is called: of one with a score the share of those that are worth more.

        Who was long in no round may come further forward, a step for each doubling of the rounds since (Oort's
        uncertainty): its ticket says how far.
        """
        score = self.find(place)
        if score == UNKNOWN:
            return ticket
        since = 0 if device is None else max(0, round_id - device.round)
        above = sum(self.counts[score + since.bit_length() + 1 :])
        span = sum(self.counts[score:]) - above
        return ((above << 64) + ticket * span) // sum(self.counts)
