"""The rights of each role are those of the catalogue's writers, and those that the docs name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from actors.wiring import ROLES
from ops.doors.comparing import Wanted
from ops.doors.rights import RIGHTS, list_grants
from ops.terminal.cli import app
from schemas.topics import CATALOGUE, ENROLMENTS, ROUNDS, Topic
from streams.kafka.access import Grant
from tests.root import ROOT

OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
# How the catalogue calls whom the brokers know by the name of a role.
NAMES = {
    "shard workers": ["shard"],
    "helpers": ["helper"],
    # A gateway writes what its devices have signed.
    "devices": ["devices", "gateway"],
    # A server writes what its own key signs, in the operator's topics of tasks and models.
    "operator": ["operator", "serve"],
    "privacy budget": ["privacy"],
    "actors": [*ROLES],
}


def writers_of(topic: Topic) -> set[str]:
    """The roles that the catalogue names as a topic's only writers."""
    words = re.sub(r" \([^)]*\)", "", topic.writer).split(", ")
    roles = {role for word in words for role in NAMES.get(word, [word])}
    # Nobody enrols by a page.
    return roles - {"serve"} if topic is ENROLMENTS else roles


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


def test_the_docs_name_every_quota() -> None:
    """The table of quotas in docs/operations.md is this one, row by row."""
    told: dict[str, list[str]] = {}
    for name, rights in RIGHTS.items():
        quota = rights.quota
        rates = [f"{rate / 1e6:g} MB" for rate in (quota.produce_bytes_s, quota.fetch_bytes_s) if rate]
        told.setdefault(" | ".join([*rates, f"{quota.request_percent:g} % of one"] if rates else "–––"), []).append(
            name
        )
    assert len(told.pop("– | – | –")) > 5
    names = {"devices": "`devices`, and each `devices.POPULATION`", "analysts": "`analysts`, `subscribers`"}
    for limits, principals in told.items():
        assert f"| {names[principals[0]]} | {limits} |" in OPERATIONS
        assert all(f"`{name}`" in names[principals[0]] for name in principals)


def _list(right: str, topic: Topic) -> str:
    return ", ".join(role for role, rights in RIGHTS.items() if topic in getattr(rights, right)) or "–"


def test_a_writer_s_name_is_its_actor_s_alone() -> None:
    """Whoever could start a writer of another's name would fence that one; a prefix ends with the actor's own dot."""
    names = {role: [g for g in list_grants(role, prefix="x") if g.kind == "TRANSACTIONAL_ID"] for role in RIGHTS}
    assert {role for role, grants in names.items() if grants} == {*ROLES}
    assert all(g.name == f"x.{role}." and g.is_prefix for role, grants in names.items() for g in grants)


def test_rights_carry_the_prefix_of_the_topics() -> None:
    """Two deployments on one cluster share no right; without a prefix the names are bare."""
    assert Grant("selector", "TOPIC", "x.checkins", "READ") in [*list_grants("selector", prefix="x")]
    assert Grant("selector", "TOPIC", "checkins", "READ") in [*list_grants("selector", prefix="")]
    assert all(grant.name != f"x.{ROUNDS.name}" for grant in list_grants("devices", prefix="x"))


BAD = {
    "no limit": (["apply", "--quota", "devices=5"], "PRINCIPAL:LIMIT=N"),
    "another limit": (["apply", "--quota", "devices:bytes=5"], "produce_bytes_s, fetch_bytes_s, request_percent"),
    "no number": (["apply", "--quota", "devices:produce_bytes_s=fast"], "a number from 1 on"),
    "nothing": (["apply", "--quota", "devices:produce_bytes_s=0"], "a number from 1 on"),
    "infinity": (["check", "--quota", "devices:produce_bytes_s=inf"], "a number from 1 on"),
    "a stranger": (["check", "--quota", "stranger:produce_bytes_s=5"], "no stranger among operator, selector"),
    "its population": (["check", "--quota", "devices.x:produce_bytes_s=5"], "--population x"),
    "a task": (["check", "--population", "hospitals.rings"], "first half of a task's name"),
    "a password of nobody": (["apply", "--passwords", "FILE"], "line 2: must be ROLE=PASSWORD"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_written_wrongly_is_explained(case: str, tmp_path: Path) -> None:
    """Before any broker is asked: exit code 2, what is wrong, and what to write instead; no password is repeated."""
    words, told = BAD[case]
    (tmp_path / "passwords").write_text("selector=a\nwriter=secret\n")
    given = [str(tmp_path / "passwords") if word == "FILE" else word for word in words]
    ran = CliRunner().invoke(app, ["--bootstrap-servers", "127.0.0.1:1", "acl", *given])
    assert ran.exit_code == 2, ran.stderr
    assert told in " ".join(ran.stderr.split())
    assert "secret" not in ran.stderr


def test_the_table_is_shown_without_a_broker() -> None:
    """`fedlog acl list`: every right once as JSON and as a command, and as a table with the quotas."""
    counts = []
    for form in ("--json", "--commands"):
        ran = CliRunner().invoke(app, ["--topic-prefix", "x", "acl", "list", "--population", "hospitals", form])
        lines = ran.stdout.splitlines()
        assert len(set(lines)) == len(lines)
        assert any("devices.hospitals" in line for line in lines)
        counts.append(len(lines))
    assert counts[0] == counts[1] == len(Wanted(prefix="x", populations=["hospitals"]).list_grants())
    shown = CliRunner().invoke(app, ["acl", "list"]).stdout
    assert all(name in shown for name in (*RIGHTS, "20,000,000"))
