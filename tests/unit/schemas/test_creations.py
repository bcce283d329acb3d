"""Which creation of a task counts: the first of its name, for every reader alike."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Any, NamedTuple

import msgspec
import pytest

from actors.keys import OperatorKey
from schemas.canonical import decode, encode
from schemas.certificates import Certified
from schemas.creations import (
    SERVE,
    STEWARD,
    certify_task_event,
    collect_creations,
    find_creation,
    find_deployment,
    find_faults,
    find_misplacement,
    find_successor,
    parse_creation,
    parse_task_event,
)
from schemas.events import DeploymentFounded, Subject, TaskClosed, TaskEvent, TaskSucceeded, TensorSpec
from schemas.policy import Policy
from tests.places import PARTITIONS, home_of
from tests.survey import measuring_policy
from tests.worlds.builders import (
    DEPLOYMENT,
    KEY,
    TASK,
    body_ref,
    policy,
    private_policy,
    spending,
    task_created,
    task_paused,
    written,
)
from tests.worlds.ops_journal import created


class Entry(NamedTuple):
    """A record, as far as these folds look at it."""

    value: bytes | None
    time_ms: int = 1


VALID = created("digits", spent_before=(spending(1),))
VALUES = [
    Entry(value)
    for value in (
        # A stranger is first, and creates nothing.
        encode(created("digits", spent_before=(spending(7),))),
        written(created("digits", spent_before=(spending(8),)), OperatorKey(bytes(32))),
        written(task_paused(task="digits")),
        b"junk",
        written(VALID),
        None,
        written(created("digits", spent_before=(spending(2),))),
        written(created("words", spent_before=(spending(3),))),
    )
]


def test_the_first_creation_of_a_name_counts() -> None:
    """A second creation, junk and tombstones change nothing."""
    found = collect_creations(VALUES, KEY.public_key, partitions=PARTITIONS)
    spent = {name: each.spent_before for name, each in found.items()}
    assert spent == {"digits": (spending(1),), "words": (spending(3),)}


def test_a_task_of_another_number_of_partitions_is_refused() -> None:
    """Whoever looked for it would look elsewhere: on a cluster whose topics were changed it does not exist."""
    elsewhere = [Entry(written(created("digits", partitions=PARTITIONS * 2))), *VALUES[6:]]
    found = collect_creations(elsewhere, KEY.public_key, partitions=PARTITIONS)
    assert found["digits"].spent_before == (spending(2),)
    assert find_creation(elsewhere[:1], "digits", operator=KEY.public_key, partitions=PARTITIONS) is None


def test_what_was_said_in_another_deployment_counts_for_nothing() -> None:
    """A copy of staging's records, placed first: neither its creation nor its claim is the first of ours."""
    staging = Entry(written(created("digits", deployment=bytes(16), spent_before=(spending(9),))))
    says = partial(TaskSucceeded, task="digits", successor="next")
    claims = [Entry(written(says(deployment=name))) for name in (bytes(16), DEPLOYMENT)]
    values, options = [staging, claims[0], *VALUES], {"partitions": PARTITIONS, "deployment": DEPLOYMENT}
    assert collect_creations(values, KEY.public_key, **options)["digits"] == VALID
    assert find_creation(values, "digits", operator=KEY.public_key, **options) == VALID
    assert find_successor(values, "digits", operator=KEY.public_key, deployment=DEPLOYMENT) is None
    assert find_successor(claims, "digits", operator=KEY.public_key, deployment=DEPLOYMENT) == "next"


def test_one_task_is_found_without_reading_on() -> None:
    """The search ends at the creation, and finds nothing for an unknown name."""
    values = iter(VALUES)
    assert find_creation(values, "digits", operator=KEY.public_key, partitions=PARTITIONS) == VALID
    assert next(values).value is None
    assert find_creation(VALUES, "nowhere", operator=KEY.public_key, partitions=PARTITIONS) is None


def test_other_events_are_no_creations() -> None:
    """A pause is an event of the task and creates nothing."""
    assert parse_task_event(VALUES[2], KEY.public_key) == task_paused(task="digits")
    assert parse_creation(VALUES[2], KEY.public_key) is None
    assert parse_task_event(Entry(b"junk"), KEY.public_key) is None


def _served(event: TaskEvent, role: str = "serve", *, until_ms: int = 10, deployment: bytes = DEPLOYMENT) -> bytes:
    key = KEY.issue(role, deployment, until_ms=until_ms)
    return certify_task_event(event, key.signer)


def test_a_server_says_what_its_certificate_is_for() -> None:
    """It pauses, resumes and closes; a steward creates too; neither founds, and both name who asked."""
    pause = msgspec.structs.replace(task_paused(task="digits"), asked_by="ada")
    close = TaskClosed(task="digits", deployment=DEPLOYMENT, asked_by="ada")
    claim = TaskSucceeded(task="digits", deployment=DEPLOYMENT, successor="next", asked_by="ada")
    for event in (pause, close):
        for role in (SERVE, STEWARD):
            assert parse_task_event(Entry(_served(event, role)), KEY.public_key) == event
    for event in (VALID, claim):
        assert parse_task_event(Entry(_served(event, STEWARD)), KEY.public_key) == event
        assert parse_task_event(Entry(_served(event, SERVE)), KEY.public_key) is None
    founded: Any = DeploymentFounded(deployment=DEPLOYMENT)
    assert parse_task_event(Entry(_served(founded, STEWARD)), KEY.public_key) is None


def test_another_key_says_nothing_about_tasks() -> None:
    """Of another role, of another operator, of another deployment, over, or of a message that it did not sign."""
    pause = task_paused(task="digits")
    assert parse_task_event(Entry(_served(pause), 10), KEY.public_key) == pause
    stranger = OperatorKey(bytes(32)).issue(SERVE, DEPLOYMENT, until_ms=10)
    stolen = decode(_served(pause), Certified)
    for value, at_ms in (
        (_served(pause, "selector"), 1),
        (_served(pause, "evaluator"), 1),
        (_served(pause), 11),
        (_served(pause, deployment=bytes(16)), 1),
        (certify_task_event(pause, stranger.signer), 1),
        (encode(msgspec.structs.replace(stolen, payload=encode(task_paused(task="words")))), 1),
    ):
        assert parse_task_event(Entry(value, at_ms), KEY.public_key) is None
    # Whoever has no key to check with sees what stands there, whoever wrote it.
    assert parse_task_event(Entry(_served(pause)), None) == pause


def test_a_deployment_is_named_once_by_the_operator() -> None:
    """The first name counts that the operator signed."""
    strange = Entry(written(DeploymentFounded(deployment=b"s" * 16), OperatorKey(bytes(32))))
    names = [Entry(written(DeploymentFounded(deployment=name * 16))) for name in (b"a", b"b")]
    assert find_deployment([strange, *VALUES, *names], KEY.public_key) == b"a" * 16
    assert find_deployment(VALUES, KEY.public_key) is None


SOUND = task_created(model=created().model)
OTHER_POLICY = policy(aggregation={"updates_per_round": 4})
LARGE = policy(stop={"versions_max": 100}, privacy={"noise_multiplier": 1.0, "rho_max": 9.0})
PRIVATE = private_policy()


def _rules(rules: Policy) -> dict[str, Any]:
    return {"policy": rules, "policy_sha256": hashlib.sha256(encode(rules)).digest(), "weights": rules.weights()}


def test_a_private_task_carries_what_its_parent_has_spent() -> None:
    """With the parent's share at its end a creation is sound; a task without privacy may have any parent."""
    parents = {"parent": "before", "spent_before": (spending(2, 0.5, task="first"), spending(3, 4.0))}
    assert not [*find_faults(msgspec.structs.replace(SOUND, **_rules(PRIVATE), **parents))]
    assert not [*find_faults(msgspec.structs.replace(SOUND, parent="before"))]


def test_the_first_claim_on_a_task_counts() -> None:
    """Of two that would carry on from it the log's order decides; a stranger's claim is none."""
    claims = [TaskSucceeded(task="digits", deployment=DEPLOYMENT, successor=name) for name in ("one", "two")]
    other = written(TaskSucceeded(task="words", deployment=DEPLOYMENT, successor="three"))
    strange = written(TaskSucceeded(task="digits", deployment=DEPLOYMENT, successor="x"), OperatorKey(bytes(32)))
    values = [*VALUES, Entry(strange), Entry(other), *(Entry(written(claim)) for claim in claims)]
    assert find_successor(values, "digits", operator=KEY.public_key) == "one"
    assert find_successor(VALUES, "digits", operator=KEY.public_key) is None


WIDE = policy(shards=16)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"policy": WIDE, "policy_sha256": hashlib.sha256(encode(WIDE)).digest()}, "16 shards"),
        ({"weights": (1 << 40,) * 21}, "weights"),
        ({"policy": OTHER_POLICY}, "policy_sha256"),
        ({"policy": LARGE, "policy_sha256": hashlib.sha256(encode(LARGE)).digest()}, "cannot be used"),
        ({"parameters": 5}, "size of the tensors"),
        ({"model": body_ref("initial", "bodies", partition=home_of(TASK))}, "models"),
        ({"model": body_ref("initial", "models", partition=home_of(TASK) ^ 1)}, "models"),
        ({"parent": "before", "spent_before": (spending(),)}, "spent before"),
        ({**_rules(PRIVATE), "parent": "before"}, "does not end with its parent 'before'"),
        ({**_rules(PRIVATE), "spent_before": (spending(),)}, "does not end with its parent None"),
        ({**_rules(PRIVATE), "parent": "before", "spent_before": (spending(1, 0.0),)}, "under no noise"),
    ],
)
def test_a_creation_that_contradicts_itself_is_found_out(changes: dict[str, Any], what: str) -> None:
    """Weights of 2^40 void the noise of a private task; the rest would stop actors or devices."""
    assert not [*find_faults(SOUND)]
    [fault] = find_faults(msgspec.structs.replace(SOUND, **changes))
    assert what in fault


def test_a_creation_that_stands_elsewhere_is_found_out() -> None:
    """A task lives in one partition of a cluster with its number of partitions, and nowhere else."""
    home = home_of(TASK)
    assert not [*find_misplacement(SOUND, home, partitions=PARTITIONS)]
    assert "no task of this name" in next(find_misplacement(SOUND, home ^ 1, partitions=PARTITIONS))
    assert "made for 8 partitions" in next(find_misplacement(SOUND, home, partitions=64))


QUESTION = task_created(measuring_policy(), parameters=2, model=SOUND.model)
OF_RINGS = task_created(
    measuring_policy(measure={"of": "rings", "version": 3}),
    parameters=2,
    model=SOUND.model,
    subject=Subject(task="rings", version=3, tensors=SOUND.tensors, model=SOUND.model),
)


def _of(**changes: Any) -> dict[str, Any]:
    return {"subject": msgspec.structs.replace(OF_RINGS.subject, **changes)}


@pytest.mark.parametrize(
    ("created", "changes", "what"),
    [
        (QUESTION, {"tensors": QUESTION.tensors[::-1]}, "statistics that the policy asks for"),
        (QUESTION, {"tensors": (TensorSpec(name="examples", shape=(2,)),)}, "statistics that the policy asks for"),
        (QUESTION, {"subject": OF_RINGS.subject}, "what is measured"),
        (OF_RINGS, {"subject": None}, "what is measured"),
        (OF_RINGS, _of(task="wings"), "what is measured"),
        (OF_RINGS, _of(version=4), "what is measured"),
        (OF_RINGS, _of(model=body_ref("copy", "bodies", partition=home_of(TASK))), "the subject"),
        (SOUND, {"subject": OF_RINGS.subject}, "what is measured"),
    ],
)
def test_a_question_that_contradicts_itself_is_found_out(created: Any, changes: dict[str, Any], what: str) -> None:
    """Devices and actors answer what the policy asks, about the version that it names, or not at all."""
    assert not [*find_faults(created)]
    assert what in next(find_faults(msgspec.structs.replace(created, **changes)))
