"""Vectors of what is in production: what a gateway passes on, what of it a device believes, and what it then runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from schemas.canonical import MalformedError
from schemas.certificates import Signer, Trust
from schemas.events import CanaryGrown, CanaryStarted, Promoted, RolledBack
from schemas.identifiers import BodyRef
from schemas.published import Head, Step, describe_step, sign_statement
from schemas.rollouts import Standing, choose, read_production
from schemas.rollouts.standing import draw_place
from schemas.topics import ROLLOUTS
from tests.trials.typescript.speakers import (
    AGGREGATOR,
    DEADLINE_MS,
    DEPLOYMENT,
    OPERATOR,
    ROLLOUT,
    TASK,
    UNTIL_MS,
    make_signer,
)

DEVICES = [f"{number:032x}" for number in range(8)]
COHORTS = ("", "north")
OTHER = "wards.other"


def describe_production() -> Iterator[dict[str, Any]]:
    """A gateway's answers, each with the devices that ask, and the version that each of them gets."""
    signer = make_signer("rollout", ROLLOUT)
    for steps in (
        [_promoted(5)],
        [_promoted(5), _canary(7, share=0.5)],
        [_promoted(5), _canary(7, share=1.0, cohorts=("north", "south"))],
        [_canary(7, share=0.25)],
        [_promoted(5), RolledBack(task=TASK, version=7, to=5, reason="drop", evidence=(), model=_model(5))],
        [RolledBack(task=TASK, version=5, to=None, reason="ordered", evidence=(), model=None)],
        [],
    ):
        yield _describe([_write(step, signer, seq=4 + number) for number, step in enumerate(steps)])
    good, by_operator = _write(_promoted(5), signer), _write(_promoted(5), Signer(OPERATOR, b""))
    yield _describe([by_operator])
    foreign = make_signer("rollout", ROLLOUT, operator=AGGREGATOR)
    stranger = Signer(AGGREGATOR, signer.certificate)
    for why, record in (
        ("an aggregator promotes nothing", _write(_promoted(5), make_signer("aggregator", AGGREGATOR))),
        ("a certificate of another operator", _write(_promoted(5), foreign)),
        (
            "somebody else's signature beside the certificate",
            _write(_promoted(5), stranger),
        ),
        ("the certificate is over", _write(_promoted(5), signer, at_ms=UNTIL_MS + 1)),
        ("another task", _write(_promoted(5, task=OTHER), signer)),
        ("a version that was changed", good.replace('"version":5', '"version":6')),
        ("no signature", good.replace('"signature"', '"signatur"')),
        ("no record", "{}"),
        ("no JSON", "x"),
    ):
        yield _describe([record], why)


def _describe(records: Sequence[str], why: str = "") -> dict[str, Any]:
    told = json.dumps({"task": TASK, "records": list(records)})
    trust = Trust(operator=OPERATOR.public_key().public_bytes_raw(), deployment=DEPLOYMENT)
    try:
        standing = read_production(told.encode(), trust, task=TASK)
        assert not why, why
    except MalformedError:
        assert why
        standing = Standing()
    asked = [(device, cohort) for device in DEVICES for cohort in COHORTS]
    return {
        "operator": trust.operator.hex(),
        "deployment": DEPLOYMENT.hex(),
        "task": TASK,
        "told": told,
        "refused_because": why,
        "seq": standing.seq,
        "models": {version: ref.sha256.hex() for version, ref in standing.models},
        "devices": [_ask(standing, device, cohort) for device, cohort in ([] if why else asked)],
    }


def _ask(standing: Standing, device: str, cohort: str) -> dict[str, Any]:
    return {
        "device": device,
        "cohort": cohort,
        "version": choose(TASK, device, cohort=cohort, standing=standing),
        # In JSON a number has as many digits as it needs to be exact.
        "place_of_7": draw_place(TASK, 7, device=device),
    }


def _promoted(version: int, *, task: str = TASK) -> Promoted:
    return Promoted(task=task, version=version, previous=None, evidence=(), model=_model(version))


def _canary(version: int, *, share: float, cohorts: tuple[str, ...] = ()) -> CanaryStarted | CanaryGrown:
    kind = CanaryGrown if cohorts else CanaryStarted
    return kind(task=TASK, version=version, stage=0, cohorts=cohorts, share=share, evidence=(), model=_model(version))


def _model(version: int) -> BodyRef:
    sha256 = hashlib.sha256(f"model {version}".encode()).digest()
    return BodyRef(topic="models", partition=3, offsets=(version,), sha256=sha256, size=100, codec="float32")


def _write(step: Step, signer: Signer, *, seq: int = 4, at_ms: int = DEADLINE_MS) -> str:
    head = Head(topic=ROLLOUTS.name, partition=3, seq=seq, head="ab" * 32)
    statement = describe_step(step, at_ms, head=head)
    return sign_statement(statement, signer.key, certificate=signer.certificate).decode()
