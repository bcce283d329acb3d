"""The rights of each role are those of the catalogue's writers, and those that the docs name."""

from __future__ import annotations

import re

import pytest

from ops.rights import RIGHTS, list_grants
from schemas.topics import CATALOGUE, ROUNDS, Topic
from streams.kafka.access import Grant
from tests.root import ROOT

OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
# How the catalogue calls whom the brokers know by the name of a role.
NAMES = {
    "shard workers": ["shard"],
    "helpers": ["helper"],
    # A gateway writes what its devices have signed.
    "devices": ["devices", "gateway"],
    "privacy budget": ["privacy"],
    "actors": ["selector", "aggregator", "privacy", "registrar"],
}


def writers_of(topic: Topic) -> set[str]:
    """The roles that the catalogue names as a topic's only writers."""
    words = re.sub(r" \([^)]*\)", "", topic.writer).split(", ")
    return {role for word in words for role in NAMES.get(word, [word])}


@pytest.mark.parametrize("topic", CATALOGUE, ids=lambda topic: topic.name)
def test_only_the_writers_of_the_catalogue_may_write(topic: Topic) -> None:
    """A right to write is the least that the catalogue asks for, and no less."""
    assert {role for role, rights in RIGHTS.items() if topic in rights.writes} == writers_of(topic)


def test_the_docs_name_every_right() -> None:
    """The table in docs/operations.md is this one, row by row."""
    rows = [
        f"| `{topic.name}` | {_list('writes', topic)} | {_list('reads', topic)} | {_list('deletes', topic)} |"
        for topic in CATALOGUE
    ]
    assert "\n".join(rows) in OPERATIONS


def _list(right: str, topic: Topic) -> str:
    return ", ".join(role for role, rights in RIGHTS.items() if topic in getattr(rights, right)) or "–"


def test_a_writer_s_name_is_its_actor_s_alone() -> None:
    """Whoever could start a writer of another's name would fence that one; a prefix ends with the actor's own dot."""
    names = {role: [g for g in list_grants(role, prefix="x") if g.kind == "TRANSACTIONAL_ID"] for role in RIGHTS}
    assert {role for role, grants in names.items() if grants} == {"selector", "aggregator", "privacy", "registrar"}
    assert all(g.name == f"x.{role}." and g.is_prefix for role, grants in names.items() for g in grants)


def test_rights_carry_the_prefix_of_the_topics() -> None:
    """Two deployments on one cluster share no right; without a prefix the names are bare."""
    assert Grant("selector", "TOPIC", "x.checkins", "READ") in [*list_grants("selector", prefix="x")]
    assert Grant("selector", "TOPIC", "checkins", "READ") in [*list_grants("selector", prefix="")]
    assert all(grant.name != f"x.{ROUNDS.name}" for grant in list_grants("devices", prefix="x"))
