"""What a gateway passes on: enough for a program, and signed for whoever believes no gateway."""

from __future__ import annotations

import json

import pytest

from schemas.canonical import MalformedError
from schemas.rollouts import read_production, write_production
from tests.unit.schemas.rollouts.test_standing import canary, follow, model, promoted
from tests.worlds.builders import TASK, trust
from tests.worlds.releasing.public_log import announced


def test_a_reader_stands_where_the_gateway_stands() -> None:
    """Every word of it that a device acts on comes from a signed record."""
    standing = follow(promoted(1, seq=1), canary(3, seq=2, share=0.25, cohorts=["a"]))
    data = write_production(TASK, standing, chosen=3)
    read = read_production(data, trust(), task=TASK)
    assert (read.promoted, read.candidate, read.share, read.cohorts) == (1, 3, 0.25, {"a"})
    told = json.loads(data)
    assert told["promoted"]["model"]["sha256"] == model(1).sha256.hex()
    assert (told["candidate"]["version"], told["candidate"]["share"], told["candidate"]["cohorts"]) == (3, 0.25, ["a"])
    assert (told["chosen"]["version"], told["chosen"]["model"]["sha256"]) == (3, model(3).sha256.hex())


def test_what_stands_beside_the_records_is_not_believed() -> None:
    """A gateway that was taken over can name any version, and no device runs it."""
    told = json.loads(write_production(TASK, follow(promoted(1, seq=1))))
    told["promoted"]["version"] = 9
    assert read_production(json.dumps(told).encode(), trust(), task=TASK).promoted == 1


@pytest.mark.parametrize(
    "records",
    [
        [announced("promoted", 9, seq=1, role="aggregator").decode()],
        [announced("promoted", 9, seq=1, task="other").decode()],
        ["{}"],
        [7],
        "x",
    ],
    ids=["role", "task", "empty", "number", "text"],
)
def test_what_no_rollout_of_the_task_has_signed_is_malformed(records: object) -> None:
    """Also a rollout's own word about another task."""
    with pytest.raises(MalformedError):
        read_production(json.dumps({"records": records}).encode(), trust(), task=TASK)


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"[" * 100_000, b'{"promoted": null}'], ids=range(5))
def test_junk_is_malformed(data: bytes) -> None:
    """Whatever comes from a server that is none of ours."""
    with pytest.raises(MalformedError):
        read_production(data, trust(), task=TASK)
