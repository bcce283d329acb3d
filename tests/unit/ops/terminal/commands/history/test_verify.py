"""`fedlog verify` leaves a note of how far it came, for the pages of the folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ops.history.verified import find
from ops.settings import ENVIRONMENT, Settings
from ops.terminal.cli import app
from schemas.journal import JournalPosition
from tests.unit.ops.history.test_projections import ROUND
from tests.worlds.builders import batch
from tests.worlds.masking.federation import MaskedFederation, masked_policy
from tests.worlds.ops_journal import PLACE, Journal, append, created, journalled, memory_log, write_key


def test_the_note_says_how_far_each_chain_was_followed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whole up to its end; broken from the record on that does not continue it, and with what was found."""
    log = memory_log()
    append(log, "tasks", created())
    Journal(log, "rounds").batch(*ROUND)
    monkeypatch.setattr(Settings, "log", lambda self, client_id="": log)
    monkeypatch.chdir(tmp_path)
    write_key(tmp_path / ".fedlog" / "operator.key")
    for variable in ENVIRONMENT:
        monkeypatch.delenv(variable, raising=False)
    assert CliRunner().invoke(app, ["verify"]).exit_code == 0
    note = find(tmp_path / ".fedlog")
    assert note is not None
    assert (note.findings, note.knew_operator) == (0, True)
    (whole,) = note.journals
    assert (whole.topic, whole.partition, whole.is_whole) == ("rounds", PLACE, True)
    broken = append(log, "rounds", journalled(batch(JournalPosition(claim=9_999)), "rounds", PLACE))
    assert whole.end <= broken
    assert CliRunner().invoke(app, ["verify"]).exit_code == 1
    note = find(tmp_path / ".fedlog")
    assert note is not None
    assert note.findings >= 1
    assert [(one.end, one.is_whole) for one in note.journals] == [(broken, False)]


def test_helpers_are_asked_what_they_were_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A helper's key makes its words evidence; one that has said nothing here proves nothing, and that is an error."""
    world = MaskedFederation(masked_policy(tmp_path / "helpers"), tmp_path / "helpers")
    world.round_of(dict.fromkeys("abc", np.ones(4, np.float32)))
    monkeypatch.setattr(Settings, "log", lambda self, client_id="": world.log)
    monkeypatch.chdir(tmp_path)
    write_key(tmp_path / ".fedlog" / "operator.key")
    for variable in ENVIRONMENT:
        monkeypatch.delenv(variable, raising=False)
    words = [word for store in world.stores.values() for word in ("--helper-public-key", store.public_key.hex())]
    ran = CliRunner().invoke(app, ["verify", *words])
    assert (ran.exit_code, "2 helpers were shown these very journals, at 6 heads" in ran.stderr) == (0, True)
    silent = CliRunner().invoke(app, ["verify", *words, "--helper-public-key", "ab" * 32])
    assert (silent.exit_code, "was signed by helper abab" in silent.stderr) == (1, True)
    assert CliRunner().invoke(app, ["verify", "--helper-public-key", "short"]).exit_code == 2
