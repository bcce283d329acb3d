"""The deployment names only what exists: commands, options, settings, ports, services, files."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from actors.keys import ROLE_SECRETS
from actors.wiring import ROLES
from ops import settings
from ops.doors.rights import RIGHTS
from ops.gateway.access.limits import ALIVE
from schemas.topics import TRANSACTION_TIMEOUT_MAX_MS
from tests.root import ROOT
from tests.trials.helm.commands import parsed

COMPOSE_TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE = yaml.safe_load(COMPOSE_TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()

OURS = {name for name, service in SERVICES.items() if service.get("image") in ("fedlog", "fedlog-devices")}
BROKERS = {name for name, service in SERVICES.items() if service["image"].startswith("apache/kafka:")}
WORKERS = {name: service["command"][1] for name, service in SERVICES.items() if "worker" in service.get("command", ())}
SCRIPT = SERVICES["keys"]["command"][0]


def defaults_filled(text: str) -> str:
    """`text` with every ${NAME:-default} as compose fills it where nobody set NAME, and a key where one is a must."""
    return re.sub(r"\$\{\w+:\?[^}]*\}", "00" * 32, re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(text)))


def fedlog_commands() -> Iterator[tuple[str, ...]]:
    """Every invocation of fedlog in the services, their health checks, and the comments of both files."""
    for service in OURS:
        # A shell runs the script of `keys`, and `operator` waits for a person's command.
        if "entrypoint" not in SERVICES[service] and "command" in SERVICES[service]:
            yield tuple(SERVICES[service]["command"])
        check = SERVICES[service]["healthcheck"].get("test", [])
        if "fedlog" in check:
            yield tuple(check[check.index("fedlog") + 1 :])
    scripts = [*SCRIPT.splitlines(), *SERVICES["topics"]["command"][0].split(" && ")]
    scripts += SERVICES["doctor"]["command"][0].replace("do ", "").split("; ")
    yield from (tuple(shlex.split(line)[1:]) for line in scripts if line.split()[0] == "fedlog")
    for line in COMPOSE_TEXT.splitlines():
        if match := re.match(r"#\s+(?:fedlog|docker compose run .*? operator) (.*)", line):
            yield tuple(shlex.split(match[1], comments=True))


@pytest.mark.parametrize("words", sorted(set(fedlog_commands())), ids=" ".join)
def test_every_command_exists_with_its_options(words: tuple[str, ...]) -> None:
    """The console accepts each command line of the deployment, options and arguments included."""
    assert parsed(words).callback is not None


@pytest.mark.parametrize("words", [("worker", "chief"), ("evaluate", "--folow"), ("topics", "create", "now"), ("go",)])
def test_a_misspelt_command_would_be_seen(words: tuple[str, ...]) -> None:
    """The check above fails for a command, option or argument that does not exist."""
    with pytest.raises(Exception, match=r"(?i)no such|unexpected|invalid|not one of"):
        parsed(words)


def test_every_setting_exists() -> None:
    """Each FEDLOG_ variable in the compose file and the Dockerfile is one that the console reads."""
    named = set(re.findall(r"\bFEDLOG_\w+", COMPOSE_TEXT + DOCKERFILE))
    assert named
    assert named <= set(settings.ENVIRONMENT)


@pytest.mark.parametrize("service", sorted(OURS))
def test_the_settings_of_each_service_hold(service: str) -> None:
    """With nothing set outside, the console accepts the values that a service gets."""
    environment = {name: defaults_filled(value) for name, value in SERVICES[service]["environment"].items()}
    resolved = settings.resolve({}, environment)
    assert {server.split(":")[0] for server in resolved.bootstrap_servers.split(",")} == BROKERS
    assert resolved.replication == len(BROKERS)


def test_prometheus_scrapes_each_worker() -> None:
    """Prometheus asks every worker, gateway and server, and nobody else, at the port where each serves its metrics."""
    scrapes = yaml.safe_load((ROOT / "ops/prometheus.yml").read_text())["scrape_configs"]
    targets = {
        job["job_name"]: {target for static in job["static_configs"] for target in static["targets"]} for job in scrapes
    }
    serving = [*WORKERS, "gateway", "serve"]
    served = {f"{name}:{SERVICES[name]['environment']['FEDLOG_METRICS_PORT']}" for name in serving}
    # The job's name is what an alert asks for: `up{job="fedlog"}`.
    assert targets == {"fedlog": served, "fedlog-doctor": {"findings:9100"}}
    assert all(SERVICES[name]["environment"]["FEDLOG_METRICS_HOST"] == "0.0.0.0" for name in serving)
    ports = {name: str(SERVICES[name]["environment"]["FEDLOG_METRICS_PORT"]) for name in WORKERS}
    assert all(port in str(SERVICES[name]["healthcheck"]) for name, port in ports.items())
    assert set(SERVICES["prometheus"]["depends_on"]) == {
        target.split(":")[0] for each in targets.values() for target in each
    }


def test_what_the_doctor_writes_is_served() -> None:
    """It writes into the folder that the exporter of the same volume reads, under the ending that it looks for."""
    script = SERVICES["doctor"]["command"][0]
    place = Path(re.search(r"--prometheus (\S+);", script)[1])  # type: ignore[index]
    assert place.suffix == ".prom"
    assert SERVICES["doctor"]["volumes"] == [f"doctor:{place.parent}"]
    assert SERVICES["findings"]["volumes"] == ["doctor:/doctor:ro"]
    assert "--collector.textfile.directory=/doctor" in SERVICES["findings"]["command"]


def test_grafana_shows_our_boards_over_what_is_there() -> None:
    """Each source names a service that runs with it, and the folder of the boards is the one that is mounted."""
    sources = yaml.safe_load((ROOT / "ops/compose/grafana-sources.yml").read_text())["datasources"]
    found = {each["type"]: re.fullmatch(r"http://(\w+):(\d+)", each["url"]) for each in sources}
    assert {kind: match and match[1] for kind, match in found.items()} == {"prometheus": "prometheus", "tempo": "tempo"}
    tempo = yaml.safe_load((ROOT / "ops/compose/tempo.yml").read_text())
    assert found["tempo"][2] == str(tempo["server"]["http_listen_port"])  # type: ignore[index]
    collector = tempo["distributor"]["receivers"]["otlp"]["protocols"]["http"]["endpoint"].rsplit(":", 1)[1]
    assert f"http://tempo:{collector}" in SERVICES["traces"]["command"]
    boards = yaml.safe_load((ROOT / "ops/compose/grafana-boards.yml").read_text())["providers"]
    assert f"./ops/dashboards:{boards[0]['options']['path']}:ro" in SERVICES["grafana"]["volumes"]


def test_a_profile_brings_what_it_needs_and_the_small_case_is_small() -> None:
    """Without a profile brokers, workers and gateway alone; whoever is waited for comes with each profile."""
    profiles = {name: set(service.get("profiles", ())) for name, service in SERVICES.items()}
    small = {name for name, wanted in profiles.items() if not wanted}
    assert small == {*BROKERS, *WORKERS, "topics", "keys", "gateway"}
    assert {name for name in small if SERVICES[name].get("image") == "fedlog-devices"} == set()
    for name, wanted in profiles.items():
        for other in SERVICES[name].get("depends_on", []):
            assert not profiles[other] or wanted <= profiles[other], (name, other)
    assert {name for name, wanted in profiles.items() if "all" not in wanted} - small == {"operator"}
    told = set(re.findall(r"^#   (\w+)  +\S", COMPOSE_TEXT, re.MULTILINE))
    assert told == {each for wanted in profiles.values() for each in wanted} - {"by-hand"}


def test_what_learns_has_the_image_with_torch() -> None:
    """First models, scores and devices; everybody else is small."""
    learning = {name for name, service in SERVICES.items() if service.get("image") == "fedlog-devices"}
    assert learning == {"operator", "evaluator", "fleet"}
    assert all(SERVICES[name]["build"] == {"context": ".", "args": {"IMAGE": "devices"}} for name in learning)
    assert all(SERVICES[name]["build"] == "." for name in OURS - learning)


def test_gateways_count_in_redis_where_somebody_says_so() -> None:
    """Empty, each alone; the address that the head of the file names is the service's."""
    words = SERVICES["gateway"]["command"]
    assert defaults_filled(words[words.index("--redis") + 1]) == ""
    assert "GATEWAY_REDIS=redis://redis:6379" in COMPOSE_TEXT
    assert "redis" in SERVICES


def test_the_gateway_is_reached_through_a_proxy_on_this_machine() -> None:
    """It listens where its port and its health check say, speaks no TLS itself, and is open to nobody outside."""
    gateway = SERVICES["gateway"]
    words = gateway["command"]
    port = words[words.index("--port") + 1]
    assert "--behind-proxy" in words
    assert gateway["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert f"localhost:{port}{ALIVE}" in str(gateway["healthcheck"]["test"])
    # It needs the operator's public key, and no other.
    assert "FEDLOG_OPERATOR_PUBLIC_KEY" in gateway["environment"]
    assert not [name for name in gateway["environment"] if name.endswith("KEY_FILE")]


def test_every_worker_runs() -> None:
    """One service for each actor and for shards."""
    assert sorted(WORKERS.values()) == sorted([*ROLES, "shard"])


def test_each_role_sees_its_own_key_alone() -> None:
    """`keys` issues a key for each role into a volume of its own, which nobody else mounts; none is the operator's."""
    holders = {**WORKERS, "evaluator": "evaluator"}
    # An enroller is a person's role, and runs nothing.
    issued = set(re.search(r"for role in ([\w ]+);", SCRIPT)[1].split())  # type: ignore[index]
    assert issued == set(ROLE_SECRETS) - {"enroller"} == set(holders.values())
    issued = dict(volume.split(":") for volume in SERVICES["keys"]["volumes"])
    for name, role in holders.items():
        folder = Path(SERVICES[name]["environment"]["FEDLOG_ROLE_KEY_FILE"]).parent
        assert SERVICES[name]["volumes"] == [f"{role}-key:{folder}:ro"]
        assert issued[f"{role}-key"] == f"{folder}/{role}"
        assert "keys" in SERVICES[name]["depends_on"]
    assert {name for name, service in SERVICES.items() if "secrets" in service} == {"keys", "operator"}
    for name in ("keys", "operator"):
        secret = Path(SERVICES[name]["environment"]["FEDLOG_OPERATOR_KEY_FILE"])
        assert secret.parent == Path("/run/secrets")
        assert secret.name in SERVICES[name]["secrets"]


def test_each_role_comes_as_its_own_principal() -> None:
    """The rights of docs/operations.md are granted to the names under which the services come, each with a password."""
    roles = {**WORKERS, "evaluator": "evaluator", "fleet": "devices", "gateway": "gateway"}
    roles |= {"keys": "operator", "operator": "operator", "doctor": "operator", "serve": "serve", "traces": "serve"}
    roles |= {"archive": "archive"}
    # Whoever comes from elsewhere has a password, and no service: readers, and helpers, which hide nothing here.
    assert {*roles.values(), "helper", "mlflow", "analysts", "subscribers"} == set(RIGHTS)
    assert {*roles, "topics"} == OURS
    for name, role in {**roles, "topics": "admin"}.items():
        environment = SERVICES[name]["environment"]
        assert environment["FEDLOG_SASL_USERNAME"] == role, name
        assert f"${{{role.upper()}_PASSWORD:?" in environment["FEDLOG_SASL_PASSWORD"], name
    told = dict(line.split("=", 1) for line in COMPOSE["configs"]["passwords"]["content"].split("\n") if line)
    assert set(told) == set(RIGHTS)
    assert all(f"${{{role.upper()}_PASSWORD:?" in value for role, value in told.items())
    assert "acl apply --passwords /run/passwords" in SERVICES["topics"]["command"][0]


def test_every_password_is_made_at_the_beginning() -> None:
    """The loop at the top of the file, and the one in the docs, make a password for each principal and for no other."""
    for text in (COMPOSE_TEXT.replace("#", ""), (ROOT / "docs" / "operations.md").read_text()):
        made = re.search(r"for role in ([A-Z\s\\]+); do", text)
        assert made is not None
        assert set(made[1].replace("\\", "").split()) == {"ADMIN", "GRAFANA", *(role.upper() for role in RIGHTS)}


def test_the_page_changes_nothing_and_is_reached_through_a_proxy() -> None:
    """It has no key, listens where its port and its health check say, and is open to nobody outside."""
    serve = SERVICES["serve"]
    port = serve["command"][serve["command"].index("--port") + 1]
    assert "--behind-proxy" in serve["command"]
    assert serve["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert f"localhost:{port}/" in str(serve["healthcheck"]["test"])
    assert not [name for name in serve["environment"] if name.endswith("KEY_FILE")]
    # Whoever else looks into its folder asks it: two writers would keep each other out.
    sharing = {name for name, service in SERVICES.items() if "serve:/var/lib/fedlog" in service.get("volumes", [])}
    assert sharing == {"serve", "traces"}
    assert "serve" in SERVICES["traces"]["depends_on"]


def test_the_brokers_refuse_what_no_right_allows() -> None:
    """Nobody comes without a password, nobody but the brokers themselves is a super user."""
    for name in BROKERS:
        environment = SERVICES[name]["environment"]
        assert environment["KAFKA_AUTHORIZER_CLASS_NAME"].endswith(".StandardAuthorizer")
        assert environment["KAFKA_ALLOW_EVERYONE_IF_NO_ACL_FOUND"] == "false"
        assert environment["KAFKA_SUPER_USERS"] == "User:admin"
        protocols = dict(each.split(":") for each in environment["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(","))
        assert protocols == {"CLIENTS": "SASL_PLAINTEXT", "CONTROLLER": "SASL_PLAINTEXT"}
        logins = [value for key, value in environment.items() if key.endswith("PLAIN_SASL_JAAS_CONFIG")]
        assert len(logins) == 2
        assert all(re.findall(r"user_(\w+)=", login) == ["admin"] for login in logins)


def test_a_record_survives_a_broker() -> None:
    """Three brokers, each record on three of them and acknowledged by two, topics created on purpose only."""
    assert len(BROKERS) == 3
    nodes = {SERVICES[name]["environment"]["KAFKA_NODE_ID"] for name in BROKERS}
    assert len(nodes) == 3
    for name in BROKERS:
        environment = SERVICES[name]["environment"]
        copies = {value for key, value in environment.items() if key.endswith("REPLICATION_FACTOR")}
        acknowledging = {value for key, value in environment.items() if key.endswith(("MIN_ISR", "INSYNC_REPLICAS"))}
        assert (copies, acknowledging) == ({3}, {2})
        assert environment["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
        assert f"//{name}:9092" in environment["KAFKA_ADVERTISED_LISTENERS"]
        assert f"{environment['KAFKA_NODE_ID']}@{name}:9093" in environment["KAFKA_CONTROLLER_QUORUM_VOTERS"]


def test_no_transaction_hangs_for_long() -> None:
    """A worker would not start on brokers that allow more: see `streams.topics`."""
    timeouts = {SERVICES[name]["environment"]["KAFKA_TRANSACTION_MAX_TIMEOUT_MS"] for name in BROKERS}
    assert timeouts == {TRANSACTION_TIMEOUT_MAX_MS}


def test_every_name_that_a_service_uses_is_declared() -> None:
    """Services, volumes, secrets, configs and networks that a service names exist, and so do the files it mounts."""
    for name, service in SERVICES.items():
        assert set(service.get("depends_on", [])) <= set(SERVICES), name
        for kind in ("secrets", "configs", "networks"):
            used = {one["source"] if isinstance(one, dict) else one for one in service.get(kind, [])}
            assert used <= set(COMPOSE.get(kind) or {}), (name, kind)
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"], (name, volume)


def test_every_service_is_watched() -> None:
    """Whatever keeps running has a health check, and what others wait for to be healthy can become so."""
    lasting = {name for name, service in SERVICES.items() if service.get("restart") != "no"}
    checked = {name for name, service in SERVICES.items() if "test" in service.get("healthcheck", {})}
    # Its image has nothing to ask with.
    assert lasting - {"tempo"} <= checked
    for name, service in SERVICES.items():
        waits = service.get("depends_on", {})
        conditions = {} if isinstance(waits, list) else waits
        healthy = {other for other, how in conditions.items() if how["condition"] == "service_healthy"}
        assert healthy <= checked, name


def test_the_image_holds_the_application() -> None:
    """The Dockerfile copies every package and what it installs from, and runs fedlog."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    copied = {match[1] for match in re.finditer(r"^COPY (\S+)", DOCKERFILE, re.MULTILINE)}
    packages = {pattern.rstrip("*") for pattern in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    locks = {"ops/images/server.lock", "ops/images/devices.lock"}
    assert packages | locks | {"pyproject.toml"} == copied
    assert all((ROOT / path).exists() for path in copied)
    assert "fedlog" in project["project"]["scripts"]


def test_devices_reach_brokers_and_nobody_else() -> None:
    """Metrics say how many updates of a private task count as zero, which law 9 hides from whoever sent them."""
    theirs = set(SERVICES["fleet"]["networks"])
    assert {name for name, service in SERVICES.items() if theirs & set(service["networks"])} == {"fleet", *BROKERS}
