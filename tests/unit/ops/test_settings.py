"""Where the console connects to: what comes first, and what a person is told when it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops import settings
from ops.broker_state import BrokerHandle
from ops.settings import ENVIRONMENT, Settings, SettingsError, resolve


def test_an_option_comes_before_the_environment_and_that_before_the_default() -> None:
    """Option > environment > default, field by field."""
    environment = {"FEDLOG_TOPIC_PREFIX": "from-environment", "FEDLOG_METRICS_PORT": "9000"}
    found = resolve({"topic_prefix": "from-option", "metrics_port": None}, environment)
    assert (found.topic_prefix, found.metrics_port, found.metrics_host) == ("from-option", 9000, "127.0.0.1")


def test_every_field_has_its_variable() -> None:
    """Nothing can be set that the environment cannot set, and each name says which field it is."""
    assert {f"FEDLOG_{name.upper()}": name for name in Settings.__dataclass_fields__} == ENVIRONMENT


def test_the_embedded_broker_stands_in_only_when_no_server_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A named cluster is never replaced by the broker that happens to run in the folder."""
    asked: list[Path] = []

    def find_running(folder: Path) -> BrokerHandle:
        asked.append(folder)
        return BrokerHandle(pid=1, started_at=0.0, port=4711, controller_port=4712)

    monkeypatch.setattr(settings, "find_running", find_running)
    assert resolve({"bootstrap_servers": "kafka:9092"}, {}).servers() == "kafka:9092"
    assert asked == []
    assert resolve({"folder": Path("there")}, {}).servers() == "127.0.0.1:4711"
    assert asked == [Path("there/broker")]


def test_without_any_server_the_message_says_what_to_do(tmp_path: Path) -> None:
    """Nobody named a server and no broker runs: both ways out are in the message."""
    with pytest.raises(SettingsError, match=r"fedlog broker start(.|\n)*--bootstrap-servers"):
        resolve({"folder": tmp_path}, {}).servers()


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
