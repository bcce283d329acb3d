"""The attacks of a hostile fleet, and the word that asks for one: `sign_flip:0.2` is a fifth of the devices."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import Literal

from schemas.errors import EXIT_USAGE, FedlogError

STRENGTH_MAX = 1e6

# update: of one's own honest one. ring: of what the attackers know together. data: before training. time: when it is
# sent, as an update with its sign flipped.
Kind = Literal["update", "ring", "data", "time"]


class AttackError(FedlogError):
    """An attack cannot be carried out as it was asked for; the message says what fits."""

    exit_code = EXIT_USAGE
    code = "attack_invalid"


@dataclass(frozen=True, slots=True)
class Known:
    """An attack: what its number means, the usual one, and where it is from."""

    kind: Kind
    strength: float
    meaning: str
    source: str


ATTACKS = {
    "sign_flip": Known("update", 1.0, "times its own update, negated", "Li et al., RSA, AAAI 2019"),
    "scaling": Known("update", 10.0, "times its own update", "Bagdasaryan et al., AISTATS 2020"),
    "gaussian": Known("update", 200.0, "standard deviation of noise in its place", "Blanchard et al., NeurIPS 2017"),
    "free_rider": Known("update", 0.0, "standard deviation of noise around nothing", "Fraboni et al., AISTATS 2021"),
    "alie": Known("ring", 1.5, "standard deviations from the mean", "Baruch et al., NeurIPS 2019"),
    "ipm": Known("ring", 0.5, "times the mean, negated", "Xie et al., UAI 2019"),
    "label_flip": Known("data", 1.0, "times an update on mirrored labels", "Tolpegin et al., ESORICS 2020"),
    "backdoor": Known("data", 1.0, "times an update that learns a trigger", "Gu et al., BadNets, 2017"),
    "fast": Known("time", 1.0, "times its own update, negated, without the time to train", "of asynchronous rounds"),
    "stale_burst": Known("time", 0.5, "share of a lease at whose multiples all strike", "of asynchronous rounds"),
}


@dataclass(frozen=True, slots=True)
class Attack:
    """An attack by `share` of a fleet's devices; what `strength` means is the attack's own."""

    name: str
    share: float
    strength: float

    def __str__(self) -> str:
        return f"{self.name}:{self.share:g}:{self.strength:g}"

    @property
    def known(self) -> Known:
        """What it is."""
        return ATTACKS[self.name]

    def describe(self, hostile: int) -> str:
        """For people: that this is a test, of what, and by how many devices."""
        return f"TEST UNDER ATTACK: {hostile} devices are hostile ({self.name}, {self.strength:g})"


def read_option(text: str) -> Attack | None:
    """The attack that an option names; None where it was not given. Raises AttackError."""
    return parse_attack(text) if text else None


def parse_attack(text: str) -> Attack:
    """The attack in `NAME:SHARE` or `NAME:SHARE:STRENGTH`. Raises AttackError."""
    name, *numbers = text.split(":")
    if name not in ATTACKS:
        close = difflib.get_close_matches(name, ATTACKS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(ATTACKS)}"
        raise AttackError(f"{name!r} is no attack: {hint}")
    if len(numbers) not in (1, 2):
        raise AttackError(f"{text!r}: expected NAME:SHARE or NAME:SHARE:STRENGTH, such as {name}:0.2")
    share = _read(text, numbers[0], what="the share of hostile devices", most=1.0)
    if len(numbers) == 1:
        return Attack(name, share, ATTACKS[name].strength)
    # A burst past the end of its leases would never arrive.
    most = 0.9 if name == "stale_burst" else STRENGTH_MAX
    strength = _read(text, numbers[1], what=f"the strength ({ATTACKS[name].meaning})", most=most)
    if name == "stale_burst" and strength < 0.01:
        raise AttackError(f"{text!r}: bursts need a share of a lease from 0.01 to {most}")
    return Attack(name, share, strength)


def _read(text: str, number: str, *, what: str, most: float) -> float:
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    # NaN is in no order, and so is refused here too.
    if not 0 <= value <= most:
        raise AttackError(f"{text!r}: {what} must be a number from 0 to {most:g}, not {number!r}")
    return value
