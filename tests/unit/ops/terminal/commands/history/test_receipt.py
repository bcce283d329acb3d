"""`fedlog receipt` on a device's machine: a proof from what the device has kept, without any log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from client_agent.outbox.outcomes import KeptOutcomes
from ops.terminal.cli import app
from schemas.events import Outcome
from tests.worlds.builders import KEY, device_id, lease_id, told

TASK = "digits"


def run(folder: Path, *words: str) -> Result:
    """The command, as somebody types it who has the operator's public key and no Kafka."""
    options = ["--folder", str(folder / "deployment"), "--operator-public-key", KEY.public_key.hex()]
    return CliRunner().invoke(app, [*options, "receipt", *words])


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A device's folder with an exclusion, an admission, and a forgery."""
    kept = KeptOutcomes(tmp_path / "device", TASK)
    for name, said in (("a", "stale"), ("b", "admitted"), ("c", "closed")):
        outcome = Outcome(
            device=device_id("a"), task=TASK, update=lease_id(name), record_sha256=bytes(32), outcome=said
        )
        stranger = {"key": type(KEY)(bytes(31) + b"\x07")} if name == "c" else {}
        kept.keep(outcome, told(outcome, **stranger))
    return tmp_path / "device"


def test_an_exclusion_is_proven_without_a_log(tmp_path: Path, state: Path) -> None:
    """Long after the log has dropped its answer; and it is one that everybody can check."""
    file = tmp_path / "receipt.json"
    made = run(tmp_path, "--task", TASK, "--update", lease_id("a"), "--state", str(state), "--to", str(file))
    assert made.exit_code == 0, made.output
    checked = run(tmp_path, "--check", str(file), "--json")
    assert json.loads(checked.stdout)["outcome"] == "stale"


def test_an_admission_or_a_forgery_is_not(tmp_path: Path, state: Path) -> None:
    """An admission says nothing about a version, which only the log proves; what nobody certified is nothing."""
    for name, why in (("b", "No Kafka"), ("c", "not signed"), ("d", "No Kafka")):
        made = run(tmp_path, "--task", TASK, "--update", lease_id(name), "--state", str(state))
        assert made.exit_code != 0
        assert why in made.output


def test_a_device_lists_what_became_of_its_updates(tmp_path: Path, state: Path) -> None:
    """So that somebody finds the id of the update that a receipt is wanted of."""
    listed = run(tmp_path, "--task", TASK, "--state", str(state), "--json")
    told = [json.loads(line) for line in listed.stdout.splitlines()]
    assert [(each["update"], each["outcome"]) for each in told] == [
        (lease_id("a"), "stale"),
        (lease_id("b"), "admitted"),
        (lease_id("c"), "closed"),
    ]
    assert lease_id("b") in run(tmp_path, "--task", TASK, "--state", str(state)).stdout
