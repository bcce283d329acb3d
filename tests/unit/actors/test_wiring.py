"""An actor is a row of `actors.wiring`, and everything loops over the rows: shown with one that nothing else knows.

`tests.worlds.tally` has the toy. The tests add its row and its journal, and then look for it everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from typer.main import get_command

from actors.hosts.assembly import assemble
from actors.hosts.event_log import TurningPoints
from actors.hosts.metrics import ActorMetrics, PrometheusInstruments
from actors.runtime import actor as actor_module
from actors.wiring import ROLES
from ops.audit.export import select_topics, write_export
from ops.audit.findings import Findings
from ops.audit.replay import Audit
from ops.audit.verification import Verification
from ops.terminal.commands.cluster import worker
from schemas.events import JournalEvent, ModelPublished, Noticed, StateDigest
from schemas.journal import WRITERS
from schemas.topics import CATALOGUE, JOURNALS
from streams.exported import ExportedLog
from streams.log import TopicPartition
from tests.judges import logbook
from tests.worlds import federation
from tests.worlds.builders import ANCHOR, KEY, policy, role_key
from tests.worlds.federation import Federation
from tests.worlds.forging import forge_event
from tests.worlds.tally import TALLIES, TALLY_ROLE, Tally


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Federation:
    """Three versions, counted by a fourth actor that digests its state after every second decision."""
    monkeypatch.setitem(ROLES, TALLY_ROLE.name, TALLY_ROLE)
    monkeypatch.setitem(WRITERS, TALLIES.name, TALLY_ROLE.name)
    monkeypatch.setattr(federation, "CATALOGUE", (*CATALOGUE, TALLIES))
    monkeypatch.setattr(actor_module, "DIGEST_EVERY", 2)
    world = Federation(policy())
    for turn in range(2):
        world.round_of({f"{name}{turn}": np.ones(4, np.float32) for name in "abc"})
    return world


def audit(world: Federation) -> Findings:
    """The full replay of the partition."""
    return Audit(world.log, world.partition, anchor=ANCHOR, full=True, to=None).run()


# --- every row ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ROLES)
def test_each_row_names_modules_that_make_its_parts(name: str) -> None:
    """A row names modules as text, which no type checker follows."""
    role = ROLES[name]
    assert role.name == name
    assert callable(import_module(role.decider).make_decider)
    assert callable(import_module(role.effects).make_effects)
    assert callable(import_module(role.meter).make_meter)


def test_both_halves_of_an_actor_have_one_name() -> None:
    """Whoever knows one half finds the other."""
    for role in ROLES.values():
        name = role.decider.removeprefix("actors.deciders.")
        assert role.effects in (f"actors.effects.{name}", f"actors.effects.{name}.effects")


def test_the_rows_are_the_journals_of_the_catalogue() -> None:
    """Each journal has exactly one writer, and no row writes anything else; `schemas` must not know actors."""
    assert [role.journal for role in ROLES.values()] == [topic.name for topic in JOURNALS]


def test_the_judges_know_what_the_rows_say() -> None:
    """The law check has its own table, so that a wrong row cannot hide itself; a new row is a new line there."""
    assert {role.journal: role.inputs for role in ROLES.values()} == logbook.READS


# --- a row more -----------------------------------------------------------------------------------------------------


def test_a_new_actor_is_hosted(world: Federation) -> None:
    """It decides, and comes back from its journal with the same state."""
    noticed = world.events(TALLIES.name, Noticed)
    assert [event.fact.version for event in noticed] == [0, 1, 2]
    assert world.start("tally").state == Tally({world.task: 6})


def test_a_new_actor_has_a_worker_command(world: Federation) -> None:
    """`fedlog worker` offers it, with the help text of its row."""
    commands: Any = get_command(worker.make_app())
    assert commands.commands["tally"].help == TALLY_ROLE.summary


def test_a_new_actor_is_metered_and_logged(world: Federation) -> None:
    """Its gauge shows what it counted, beside what every actor has; its turning points are in its worker's log."""
    instruments = PrometheusInstruments()
    actor = assemble(
        "tally",
        world.partition,
        log=world.log,
        key=role_key("tally"),
        observers=[ActorMetrics(TALLY_ROLE, instruments)],
    )
    actor.open(whole=True)
    assert instruments.registry.get_sample_value("fedlog_tally_newest", {"task": world.task}) == 2
    assert Noticed in TurningPoints(TALLY_ROLE)._kinds


def test_a_new_journal_is_exported(world: Federation, tmp_path: Path) -> None:
    """All of it, and its chain is checked like the others."""
    topics = select_topics(bodies=True, inputs=True)
    export = write_export(world.log, [world.partition], topics=topics, folder=tmp_path, key=KEY)
    assert [report.place.topic for report in export.reports if report.positions] == [r.journal for r in ROLES.values()]
    there = Audit(ExportedLog(tmp_path), world.partition, anchor=ANCHOR, full=True, to=None).run()
    assert (there.verdict, there.decisions) == ("identical", audit(world).decisions)


def test_a_new_journal_is_folded(world: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    """The full replay counts its decisions; without the row there are that many less."""
    found, journal = audit(world), world.journal(TALLIES.name)
    assert (found.verdict, len(journal) >= 3) == ("identical", True)
    monkeypatch.delitem(ROLES, TALLY_ROLE.name)
    assert found.decisions - audit(world).decisions == len(journal)


def other_digest(event: StateDigest) -> StateDigest:
    """A digest of no state."""
    return msgspec.structs.replace(event, sha256=bytes(32))


def other_version(event: Noticed) -> Noticed:
    """A version that was never published."""
    assert isinstance(event.fact, ModelPublished)
    return Noticed(fact=msgspec.structs.replace(event.fact, version=7))


@pytest.mark.parametrize(("kind", "change"), [(StateDigest, other_digest), (Noticed, other_version)])
def test_a_forged_new_journal_is_not_identical(
    world: Federation, kind: type[JournalEvent], change: Callable[[Any], JournalEvent]
) -> None:
    """A digest or an event that its actor did not write, in a chain made anew: the verdict names the journal."""
    forge_event(world, TALLIES.name, kind, change=change)
    found = audit(world)
    assert found.verdict != "identical"
    assert {fault.place.topic for fault in found.differences} == {TALLIES.name}


def test_a_cut_new_journal_is_not_identical(world: Federation) -> None:
    """A record that is gone breaks its chain, which the verdict names too."""
    at = TopicPartition(TALLIES.name, world.partition)
    world.log.delete_records(at, 3)
    check = Verification(world.log, world.partition, operator=KEY.public_key)
    assert [fault.place for fault in check.check()] == [at]
    assert {fault.place for fault in audit(world).differences} == {at}
