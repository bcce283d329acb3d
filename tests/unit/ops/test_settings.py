"""Where the console connects to: what comes first, and what a person is told when it cannot be."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from ops import settings
from ops.broker_state import BrokerHandle, write_state
from ops.settings import ENVIRONMENT, NoBroker, Settings, SettingsError, resolve
from schemas.errors import EXIT_UNAVAILABLE
from tests.root import ROOT


def test_an_option_comes_before_the_environment_and_that_before_the_default() -> None:
    """Option > environment > default, field by field."""
    environment = {"FEDLOG_TOPIC_PREFIX": "from-environment", "FEDLOG_METRICS_PORT": "9000"}
    found = resolve({"topic_prefix": "from-option", "metrics_port": None}, environment)
    assert (found.topic_prefix, found.metrics_port, found.metrics_host) == ("from-option", 9000, "127.0.0.1")


def test_every_field_has_its_variable() -> None:
    """Nothing can be set that the environment cannot set, and each name says which field it is."""
    assert {f"FEDLOG_{name.upper()}": name for name in Settings.__dataclass_fields__} == ENVIRONMENT


@pytest.fixture
def embedded(tmp_path: Path) -> Path:
    """A folder in whose state file the process of the test stands as a broker on port 4711."""
    (tmp_path / "broker").mkdir()
    write_state(tmp_path / "broker", _handle(password="secret"))
    return tmp_path


def _handle(*, password: str) -> BrokerHandle:
    started_at = psutil.Process().create_time()
    return BrokerHandle(pid=os.getpid(), started_at=started_at, port=4711, controller_port=4712, password=password)


def test_the_embedded_broker_stands_in_only_when_no_server_is_named(embedded: Path) -> None:
    """A named cluster is never replaced by the broker of the folder, and never told its password."""
    for named in ("kafka:9092", "127.0.0.1:4710"):
        kafka = resolve({"bootstrap_servers": named, "folder": embedded}, {}).kafka()
        assert (kafka.bootstrap_servers, kafka.security_protocol, kafka.sasl_password) == (named, "PLAINTEXT", None)
    told = {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_username": "u", "sasl_password": "p"}
    kafka = resolve({**told, "bootstrap_servers": "127.0.0.1:4711", "folder": embedded}, {}).kafka()
    assert (kafka.security_protocol, kafka.sasl_password) == ("SASL_SSL", "p")


@pytest.mark.parametrize("options", [{}, {"bootstrap_servers": "127.0.0.1:4711"}])
def test_the_embedded_broker_s_password_is_found(embedded: Path, options: dict[str, str]) -> None:
    """Whoever may read the folder gets in, whether the address was found or named; nobody has to type a password."""
    kafka = resolve({**options, "folder": embedded}, {}).kafka()
    assert (kafka.bootstrap_servers, kafka.security_protocol) == ("127.0.0.1:4711", "SASL_PLAINTEXT")
    assert (kafka.sasl_mechanism, kafka.sasl_username, kafka.sasl_password) == ("PLAIN", "fedlog", "secret")


def test_a_broker_without_a_password_is_to_be_restarted(embedded: Path) -> None:
    """One that an earlier release left running is told apart, with the way out."""
    write_state(embedded / "broker", _handle(password=""))
    with pytest.raises(SettingsError, match=r"earlier release(.|\n)*fedlog broker stop"):
        resolve({"folder": embedded}, {}).kafka()


def test_the_folder_is_closed_to_others(tmp_path: Path) -> None:
    """Keys, the broker's password and raw updates lie in it."""
    folder = resolve({"folder": tmp_path / "a" / "b"}, {}).open_folder()
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder.parent)] == [0o700, 0o700]


def test_without_any_server_the_message_says_what_to_do(tmp_path: Path) -> None:
    """Nobody named a server and no broker runs: both ways out are in the message."""
    with pytest.raises(NoBroker, match=r"fedlog broker start(.|\n)*--bootstrap-servers") as refused:
        resolve({"folder": tmp_path}, {}).find_cluster()
    assert refused.value.exit_code == EXIT_UNAVAILABLE


def test_without_any_server_no_client_is_loaded(tmp_path: Path) -> None:
    """Guarantee: who asks a history where there is no cluster waits for no client of Kafka, which takes a while."""
    code = (
        "import sys; from pathlib import Path; from ops.settings import NoBroker, Settings\n"
        f"try: Settings(folder=Path({str(tmp_path)!r})).log()\n"
        "except NoBroker: sys.exit('kafka' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_key_lies_in_the_folder_unless_it_is_named() -> None:
    """Another folder is another deployment, with another key."""
    assert resolve({"folder": Path("x")}, {}).operator_key_file == Path("x/operator.key")
    assert resolve({"folder": Path("x")}, {"FEDLOG_OPERATOR_KEY_FILE": "k"}).operator_key_file == Path("k")


FAULTY = {
    "number": ({}, {"FEDLOG_METRICS_PORT": "many"}, "FEDLOG_METRICS_PORT = 'many'"),
    "port": ({"metrics_port": 70_000}, {}, "--metrics-port"),
    "protocol": ({"security_protocol": "TLS"}, {}, "--security-protocol .*SASL_SSL"),
    "mechanism": ({"sasl_mechanism": "GSSAPI", "sasl_username": "u", "sasl_password": "p"}, {}, "SCRAM-SHA-512"),
    "no password": ({"sasl_mechanism": "PLAIN", "sasl_username": "u"}, {}, "FEDLOG_SASL_PASSWORD"),
    "mechanism without protocol": (
        {"sasl_mechanism": "PLAIN", "security_protocol": "SSL"},
        {},
        "needs --security-protocol SASL_SSL",
    ),
    "no such file": ({"ssl_cafile": "nowhere.pem"}, {}, "nowhere.pem: there is no such file"),
}


@pytest.mark.parametrize("case", FAULTY)
def test_a_setting_that_cannot_hold_is_named(case: str) -> None:
    """The message names the option or the variable, and what would do."""
    options, environment, expected = FAULTY[case]
    with pytest.raises(SettingsError, match=expected):
        resolve(options, environment)


def test_a_password_never_travels_in_clear_text_by_default() -> None:
    """With SASL and no protocol named, TLS is on."""
    found = resolve({"sasl_mechanism": "PLAIN", "sasl_username": "u", "sasl_password": "secret"}, {})
    assert found.security_protocol == "SASL_SSL"
    assert "secret" not in repr(found)


def test_the_clients_get_what_was_set() -> None:
    """Every setting of the connection reaches the log's own."""
    options = {"bootstrap_servers": "a:1,b:2", "sasl_mechanism": "PLAIN", "sasl_username": "u", "sasl_password": "p"}
    kafka = settings.resolve({**options, "topic_prefix": "here"}, {}).kafka("me")
    assert (kafka.bootstrap_servers, kafka.topic_prefix, kafka.client_id) == ("a:1,b:2", "here", "me")
    assert (kafka.security_protocol, kafka.sasl_username, kafka.sasl_password) == ("SASL_SSL", "u", "p")
