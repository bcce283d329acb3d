"""The embedded broker behind doors: who gets in, what each may do, and that `fedlog acl` sees every change of it."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner

from ops.broker_state import CLIENTS, find_running
from ops.doors.authority import CertificateAuthority
from ops.doors.rights import RIGHTS
from ops.processes import broker
from ops.settings import Settings, resolve
from ops.terminal.cli import app
from schemas.topics import CHECKINS, ROUNDS
from streams.kafka import access
from streams.kafka.access import Grant
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from streams.log import Draft, LogRefused
from tests.worlds.stage import reaching


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a deployment whose broker was started by `fedlog broker start --secure`, and again without."""
    folder = tmp_path_factory.mktemp("secured") / "Größe b"
    try:
        for words in (["--secure"], []):
            started = CliRunner().invoke(app, ["--folder", str(folder), "broker", "start", *words])
            assert started.exit_code == 0, started.stderr
            assert "selector.env" in started.stderr
            if words:
                broker.stop(folder / "broker")
        yield folder
    finally:
        broker.stop(folder / "broker")


def told(folder: Path, *words: str, code: int = 0) -> str:
    ran = CliRunner().invoke(app, ["--folder", str(folder), *words])
    assert ran.exit_code == code, ran.stderr
    return ran.stdout + ran.stderr


def differences(folder: Path) -> list[tuple[str, str]]:
    """What `fedlog acl check --json` finds."""
    ran = CliRunner().invoke(app, ["--folder", str(folder), "acl", "check", "--json"])
    said: dict[str, Any] = json.loads(ran.stdout)
    assert said["ok"] == (not said["findings"]) == (ran.exit_code == 0)
    assert all(finding["remedy"] for finding in said["findings"])
    return [(finding["kind"], finding["principal"]) for finding in said["findings"]]


def come_as(folder: Path, principal: str) -> KafkaSettings:
    settings: Settings = resolve({"folder": folder, "sasl_username": principal}, {})
    return settings.kafka()


def test_nobody_else_reads_a_password(folder: Path) -> None:
    """Guarantee: a file for each principal, its owner's alone; no argument of a process shows a password."""
    files = {path.name for path in (folder / "broker" / CLIENTS).iterdir()}
    assert files == {f"{name}.{ending}" for name in ("fedlog", *RIGHTS) for ending in ("env", "properties")}
    paths = [folder, *folder.rglob("*")]
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in paths if path.exists()}
    assert [path for path, mode in modes.items() if mode & 0o077] == []
    handle = find_running(folder / "broker")
    assert handle is not None
    arguments = " ".join(psutil.Process(handle.pid).cmdline())
    assert not [name for name in ("fedlog", *RIGHTS) if (come_as(folder, name).sasl_password or "?") in arguments]


def test_each_comes_as_itself_and_does_its_own(folder: Path) -> None:
    """Guarantee: a principal writes what the table says, and what is another's is refused."""
    with closing(KafkaLog(come_as(folder, "devices"))) as log:
        log.append([Draft(topic=CHECKINS.name, partition=0, value=b"a check-in")])
        with pytest.raises(LogRefused):
            log.append([Draft(topic=ROUNDS.name, partition=0, value=b"a round")])
    assert "knows aggregator, analysts" in told(folder, "--sasl-username", "stranger", "topics", "list", code=2)


def test_every_change_is_seen_and_put_right(folder: Path) -> None:
    """Guarantee: a rule that is lost, one too many, a denial, and quotas: `check` names each, `apply` mends it."""
    assert differences(folder) == []
    admin, mine = come_as(folder, "fedlog"), Grant("gateway", "TOPIC", "fedlog.updates", "WRITE")
    wide = Grant("devices", "TOPIC", "fedlog.", "READ", is_prefix=True)
    access.revoke(admin, [mine])
    access.grant(admin, [wide])
    access.set_quotas(admin, {"devices": {"producer_byte_rate": None}, "aggregator": {"consumer_byte_rate": 1000}})
    assert sorted(differences(folder)) == [
        ("excess", "devices"),
        ("missing", "gateway"),
        ("quota_excess", "aggregator"),
        ("quota_missing", "devices"),
    ]
    assert "1 revoked" in told(folder, "acl", "apply", "--revoke", "--population", "hospitals")
    assert differences(folder) == []
    denial = Grant("shard", "TOPIC", "fedlog.shards", "READ", is_denial=True)
    access.grant(admin, [denial])
    assert differences(folder) == [("denied", "shard")]
    access.revoke(admin, [denial])
    told(folder, "acl", "apply", "--quota", "devices:produce_bytes_s=5_000_000")
    quotas = access.read_quotas(admin)
    assert quotas["devices"]["producer_byte_rate"] == 5e6
    assert quotas["devices.hospitals"]["producer_byte_rate"] == 2e7
    assert "aggregator" not in quotas


def test_whoever_may_not_ask_is_told_what_to_do(folder: Path, tmp_path: Path) -> None:
    """No right to ask, a wrong password, an authority that did not sign: each says what to check, and exits 1."""
    assert "as a super user" in told(folder, "--sasl-username", "devices", "acl", "check", code=1)
    known = come_as(folder, "fedlog")
    stranger = CertificateAuthority.create(tmp_path / "stranger")
    for kafka, remedy in (
        (replace(known, sasl_password="guessed"), "the name and the password"),
        (replace(known, ssl_cafile=str(stranger.certificate)), "--ssl-cafile"),
    ):
        refused = CliRunner().invoke(app, [*reaching(kafka), "acl", "check"])
        assert refused.exit_code == 1
        assert remedy in refused.stderr


def test_a_broker_that_asks_nobody_says_so(kafka_settings: KafkaSettings) -> None:
    """Guarantee: on brokers without an authorizer nothing is granted, and nothing is called right."""
    for word in ("apply", "check"):
        refused = CliRunner().invoke(app, [*reaching(kafka_settings), "acl", word])
        assert refused.exit_code == 1
        assert "authorizer.class.name" in refused.stderr


def test_a_folder_without_doors_gets_none_later(tmp_path: Path) -> None:
    """A broker that was made without users is not started as if it had some."""
    made = tmp_path / "broker" / "data" / "meta.properties"
    made.parent.mkdir(parents=True)
    made.touch()
    assert "made without --secure" in told(tmp_path, "broker", "start", "--secure", code=3)
