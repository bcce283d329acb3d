"""A selector that knows very many devices: `python -m tests.bench.measures.selection [devices]`, into selection.jsonl.

The decider alone: decide and evolve of check-ins and admissions, no log, no signature. An Ed25519 check is timed beside
it, so that one sees what a check-in costs in all.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import psutil
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from actors.deciders.decider import digest
from actors.deciders.selecting.state import Selections
from actors.deciders.selector import SELECTOR
from schemas.canonical import decode_state, encode_state
from schemas.devices import is_checkin_signed, tag_public_key
from schemas.events import JournalEvent, Noticed, UpdateAdmitted
from schemas.signing import parse_signed
from tests.bench.measures.trusting import TASK, check_in, task_of
from tests.trials.results import add_row
from tests.worlds.builders import (
    DEPLOYMENT,
    body_ref,
    device_checked_in,
    model_published,
    policy,
    signed,
    update_admitted,
)

AT_ONCE = 10_000
NOW_MS = 1_700_000_000_000
Inputs = Iterable[object]


def rules(devices: int) -> Any:
    """So many devices, ten thousand of them at work."""
    return policy(
        selection={"devices_expected": devices, "concurrency": AT_ONCE, "battery_min_percent": 20},
        aggregation={"updates_per_round": 1_000},
    )


def decided(state: Selections, facts: Inputs) -> list[JournalEvent]:
    """Decide and fold each fact."""
    events: list[JournalEvent] = []
    for fact in facts:
        caused = SELECTOR.decide(state, fact, NOW_MS)
        for event in caused:
            SELECTOR.evolve(state, event, NOW_MS)
        events += caused
    return events


def admissions(state: Selections, round_id: int) -> Iterator[UpdateAdmitted]:
    """The aggregator's answer to every lease in flight."""
    for lease in [*state.tasks[TASK].leases.values()]:
        yield update_admitted(
            lease.granted.device,
            round=round_id,
            update=lease.granted.lease,
            body=lease.model,
            version=lease.granted.version,
            weight=1,
            clip_scale=1,
            deadline_ms=lease.granted.deadline_ms,
        )


def registered(devices: int) -> Selections:
    """A state in which so many devices have taken part once."""
    state = SELECTOR.initial()
    created = Noticed(fact=task_of(rules(devices)))
    decided(state, [created, model_published(model=body_ref("initial", "models"))])
    for start in range(0, devices, AT_ONCE):
        decided(state, [check_in(number, now_ms=NOW_MS) for number in range(start, min(devices, start + AT_ONCE))])
        decided(state, admissions(state, 0))
    return state


def rows(devices: int = 1_000_000) -> list[dict[str, Any]]:
    """Memory, decisions, digest, snapshot and restart of a selector with so many devices."""
    gc.collect()
    before = psutil.Process().memory_info().rss
    state = registered(devices)
    gc.collect()
    row: dict[str, Any] = {"name": "selector at scale", "devices": devices}
    row["state_bytes_per_device"] = round((psutil.Process().memory_info().rss - before) / devices)
    row |= _rates(state, devices) | _snapshot(state, devices) | {"signature_us": _signature_us()}
    return [row]


def _rates(state: Selections, devices: int) -> dict[str, int]:
    state.tasks[TASK].round = 1
    numbers = range(0, devices, max(1, devices // AT_ONCE))
    known = [check_in(number, now_ms=NOW_MS + 1) for number in numbers][:AT_ONCE]
    strangers = [check_in(devices + number, now_ms=NOW_MS) for number in range(AT_ONCE)]
    kinds: dict[str, Callable[[], list[object]]] = {
        "grants_to_known": lambda: [*known],
        "repeats": lambda: [*known],
        "declines_for_want_of_a_slot": lambda: [*strangers],
        "admissions": lambda: [*admissions(state, 1)],
        "grants_to_new": lambda: [*strangers],
    }
    return {f"{kind}_per_s": _per_s(state, make()) for kind, make in kinds.items()}


def _per_s(state: Selections, facts: list[object]) -> int:
    began = time.process_time()
    decided(state, facts)
    return round(len(facts) / (time.process_time() - began))


def _snapshot(state: Selections, devices: int) -> dict[str, float]:
    seconds = {}
    began = time.process_time()
    stated = digest(state)
    seconds["digest_s"] = time.process_time() - began
    data = encode_state(state)
    began = time.process_time()
    restored = decode_state(data, Selections)
    seconds["restore_s"] = time.process_time() - began
    assert digest(restored) == stated
    return {
        "snapshot_bytes_per_device": round(len(data) / devices, 1),
        **{name: round(value, 2) for name, value in seconds.items()},
    }


def _signature_us() -> int:
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    checkin = device_checked_in("device-0", task=TASK, public_key=tag_public_key(key))
    message = parse_signed(signed(checkin, key))
    began = time.process_time()
    assert all(is_checkin_signed(message, checkin.public_key, deployment=DEPLOYMENT) for _ in range(1_000))
    return round((time.process_time() - began) * 1_000)


if __name__ == "__main__":
    for row in rows(*map(int, sys.argv[1:])):
        add_row("selection", row)
        sys.stdout.write(json.dumps(row) + "\n")
