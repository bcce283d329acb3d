"""The chart is what the code asks for: what helm made of it, held against actors, rights, topics, commands, metrics."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from actors.wiring import ROLES
from ops import settings
from ops.doors.rights import RIGHTS, list_grants
from ops.gateway.access.limits import ALIVE, READY
from ops.terminal.commands.serving.serve import LOOPBACK
from schemas.topics import CATALOGUE, PARTITIONS_DEFAULT, TRANSACTION_TIMEOUT_MAX_MS
from tests.root import ROOT
from tests.served import RULES, SERVED
from tests.trials.helm.catalogue import CASES, CHART, OPERATOR, RENDERED, compute_digest, make_files
from tests.trials.helm.commands import parsed

TEXTS = {case: (RENDERED / f"{case}.yaml").read_text() for case in CASES}
MANIFESTS: dict[str, list[dict[str, Any]]] = {
    case: [each for each in yaml.safe_load_all(text) if each] for case, text in TEXTS.items()
}
# Whose process comes as whom, where the names differ.
PRINCIPALS = {"doctor": "operator", "traces": "serve"}
WORKERS = {*ROLES, "shard"}
EVALUATORS = {case: {"evaluator"} for case in CASES} | {"three-zones": {f"evaluator-{number}" for number in (1, 2, 3)}}
OPERATIONS = {
    name.lower().replace("_", ""): name for name in ("READ", "WRITE", "DELETE", "DESCRIBE", "DESCRIBE_CONFIGS")
}
KINDS = {"topic": "TOPIC", "group": "GROUP", "transactionalId": "TRANSACTIONAL_ID", "cluster": "CLUSTER"}
cases = pytest.mark.parametrize("case", CASES)


def find(case: str, *kinds: str) -> list[dict[str, Any]]:
    """All objects of these kinds."""
    return [each for each in MANIFESTS[case] if each["kind"] in kinds]


def find_pods(case: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every template of a pod, with the name of what it is."""
    for each in find(case, "Deployment", "StatefulSet", "Job"):
        labels = each["spec"]["template"]["metadata"]["labels"]
        yield labels["app.kubernetes.io/name"], each["spec"]["template"]["spec"]


def find_containers(case: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every container of ours, those that come first too, with the name of its pod."""
    for name, pod in find_pods(case):
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            if container["image"].startswith("fedlog"):
                yield name, container


def find_commands(case: str) -> Iterator[tuple[str, ...]]:
    """Every invocation of fedlog, also those in scripts."""
    for _, container in find_containers(case):
        words = container.get("args", ())
        if "command" not in container:
            yield tuple(words)
        for script in words if "command" in container else ():
            yield from (tuple(shlex.split(found)) for found in re.findall(r"(?:^|\s)fedlog ([^;|&\n]+)", script))


def read_environment(container: dict[str, Any]) -> dict[str, str]:
    """What a container is told; a secret stands for itself."""
    return {each["name"]: str(each.get("value", "secret")) for each in container.get("env", ())}


def test_the_chart_has_what_follows_from_the_code() -> None:
    """Actors, topics, rights, quotas and rules in it are today's; `make helm` writes them anew."""
    assert {name: (CHART / name).read_text() for name in make_files()} == make_files()


@cases
def test_what_was_rendered_is_of_this_chart(case: str) -> None:
    """Whoever changes the chart or the code below it has to render it again: `make helm`."""
    assert f"# sha256 of the chart: {compute_digest(case)}\n" in TEXTS[case]


@cases
def test_every_actor_runs(case: str) -> None:
    """A role of `actors.wiring` has its StatefulSet, and so have shards; each hosts its own."""
    workers = {name: one for name, one in find_containers(case) if one.get("args", [""])[0] == "worker"}
    assert set(workers) == WORKERS
    assert {name: one["args"] for name, one in workers.items()} == {name: ["worker", name] for name in WORKERS}
    # A name that stays: the group knows a worker again that was away for a moment.
    assert {each["metadata"]["name"].removeprefix("fedlog-") for each in find(case, "StatefulSet")} >= WORKERS


@cases
def test_everything_else_runs(case: str) -> None:
    """Gateway, server, evaluators and the doctor; helpers where there are any, topics where nobody else makes them."""
    more = {"three-zones": {"helper-first", "helper-second"}, "existing-kafka": {"topics"}}.get(case, set())
    assert {name for name, _ in find_pods(case)} == {*WORKERS, *EVALUATORS[case], "gateway", "serve", "doctor", *more}
    (serve,) = (each for each in find(case, "StatefulSet") if each["metadata"]["name"] == "fedlog-serve")
    # Two writers would keep each other out of the history.
    assert serve["spec"]["replicas"] == 1
    assert not [each for each in find(case, "HorizontalPodAutoscaler") if "serve" in each["metadata"]["name"]]


@cases
def test_every_command_exists_with_its_options(case: str) -> None:
    """The console accepts each command line, those inside scripts too."""
    commands = set(find_commands(case))
    assert len(commands) >= len(WORKERS) + 4
    for words in commands:
        assert parsed(words).callback is not None, words


@cases
def test_every_setting_exists_and_holds(case: str, tmp_path: Path) -> None:
    """Each variable is one that the console reads, and with all of a container together it can begin."""
    (tmp_path / "ca.crt").touch()
    for name, container in find_containers(case):
        told = read_environment(container)
        assert set(told) <= set(settings.ENVIRONMENT), name
        if told:
            trusted = {key: str(tmp_path / "ca.crt") for key in told if key == "FEDLOG_SSL_CAFILE"}
            found = settings.resolve({}, told | trusted)
            assert (found.operator_public_key, found.partitions) == (OPERATOR, PARTITIONS_DEFAULT)
            assert found.security_protocol == "SASL_SSL"


@cases
def test_each_comes_as_its_own_principal(case: str) -> None:
    """With the password of that principal, and of no other."""
    for name, container in find_containers(case):
        told = {each["name"]: each for each in container.get("env", ())}
        if "FEDLOG_SASL_USERNAME" not in told or name == "topics":
            continue
        wanted = PRINCIPALS.get(container["name"]) or PRINCIPALS.get(name) or name.split("-")[0]
        assert told["FEDLOG_SASL_USERNAME"]["value"] == wanted
        assert wanted in RIGHTS
        secret = told["FEDLOG_SASL_PASSWORD"]["valueFrom"]["secretKeyRef"]
        ours = {"name": wanted, "key": "password"}
        assert secret == ({"name": "fedlog-passwords", "key": wanted} if case == "existing-kafka" else ours)


@cases
def test_each_role_sees_its_own_key_alone_and_nobody_else_may_read_it(case: str) -> None:
    """fedlog refuses a key that others may read, which a mounted Secret always is: a copy of mode 0400 is used."""
    holders = {}
    for name, pod in find_pods(case):
        secrets = [each["secret"] for each in pod["volumes"] if "key-" in each.get("secret", {}).get("secretName", "")]
        if not secrets:
            continue
        (holders[name],) = (each["secretName"] for each in secrets)
        (copy,) = (each for each in pod["initContainers"] if each["name"] == "key")
        program, flag, mode, source, target = copy["command"]
        assert (program, flag, int(mode, 8) & 0o077) == ("install", "-m", 0)
        mounts = {each["name"]: each["mountPath"] for each in copy["volumeMounts"]}
        assert (str(Path(source).parent), str(Path(target).parent)) == (mounts["issued-key"], mounts["key"])
        user = pod["containers"][0]
        assert read_environment(user)["FEDLOG_ROLE_KEY_FILE"] == target
        assert {"name": "key", "mountPath": mounts["key"], "readOnly": True} in user["volumeMounts"]
        assert "issued-key" not in [each["name"] for each in user["volumeMounts"]]
        assert {"name": "key", "emptyDir": {"medium": "Memory"}} in pod["volumes"]
    assert holders == {name: f"fedlog-key-{name}" for name in (*WORKERS, *EVALUATORS[case])}
    # The operator's key is nowhere.
    assert "OPERATOR_KEY_FILE" not in TEXTS[case]


@cases
def test_probes_ask_what_exists(case: str) -> None:
    """At a port of the container, under a path that its process answers; a server knows the name it is asked by."""
    asked = set()
    for name, container in find_containers(case):
        server = name if name in ("gateway", "serve") else "worker"
        ports = {each["name"]: each["containerPort"] for each in container.get("ports", ())}
        if "metrics" in ports:
            assert read_environment(container)["FEDLOG_METRICS_PORT"] == str(ports["metrics"])
            assert read_environment(container)["FEDLOG_METRICS_HOST"] == "0.0.0.0"
        if "http" in ports:
            assert container["args"][container["args"].index("--port") + 1] == str(ports["http"])
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            if kind in container:
                probe = container[kind]["httpGet"]
                assert probe["port"] in ports
                asked.add((server, kind.removesuffix("Probe"), probe["path"]))
                assert {each["value"] for each in probe.get("httpHeaders", ())} <= set(LOOPBACK)
                assert name != "serve" or probe["httpHeaders"][0]["name"] == "Host"
    assert {(name, path) for name, _, path in asked} == {
        ("worker", "/metrics"),
        ("gateway", ALIVE),
        ("gateway", READY),
        ("serve", "/login"),
    }
    assert ("gateway", "readiness", READY) in asked


@cases
def test_every_pod_is_confined_and_bounded(case: str) -> None:
    """Nobody is root, nothing but mounts can be written, each says what it needs, and the user is the image's."""
    user = int(re.findall(r"^USER (\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[-1])
    for name, pod in find_pods(case):
        assert pod["securityContext"]["runAsNonRoot"], name
        assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["fsGroup"]) == (user, user)
        # Otherwise each mount would open the files of a volume to the group, and keys would be refused.
        assert pod["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"
        assert pod["automountServiceAccountToken"] is False
        kept = {each["name"] for each in pod["volumes"]}
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            assert container["securityContext"]["readOnlyRootFilesystem"], name
            assert {"cpu", "memory"} <= set(container["resources"]["requests"]), name
            assert "memory" in container["resources"]["limits"], name
            mounted = {each["name"] for each in container.get("volumeMounts", ())}
            assert mounted - {"home"} <= kept
            assert "command" in container or container["image"].startswith("prom/") or {"home", "scratch"} <= mounted


@cases
def test_what_learns_has_the_image_with_torch(case: str) -> None:
    """Evaluators, and nobody else."""
    images = {name: container["image"].split(":")[0] for name, container in find_containers(case)}
    images |= {name: pod["containers"][0]["image"].split(":")[0] for name, pod in find_pods(case)}
    assert {name for name, image in images.items() if image == "fedlog-devices"} == EVALUATORS[case]


@cases
def test_names_that_objects_use_of_each_other_exist(case: str) -> None:
    """Services, budgets, policies and scalers point at pods and ports that there are."""
    labels = [each["spec"]["template"]["metadata"]["labels"] for each in find(case, "Deployment", "StatefulSet", "Job")]
    ports = {port["name"] for _, pod in find_pods(case) for one in pod["containers"] for port in one.get("ports", ())}

    def is_somebodys(wanted: dict[str, str]) -> bool:
        return any(wanted.items() <= each.items() for each in labels)

    for each in find(case, "Service"):
        assert is_somebodys(each["spec"]["selector"]), each["metadata"]["name"]
        assert {port["targetPort"] for port in each["spec"]["ports"]} <= ports
    for each in find(case, "PodDisruptionBudget"):
        assert is_somebodys(each["spec"]["selector"]["matchLabels"])
        assert each["spec"]["maxUnavailable"] == 1
    for each in find(case, "NetworkPolicy"):
        assert is_somebodys(each["spec"]["podSelector"]["matchLabels"])
        named = {port["port"] for rule in each["spec"].get("ingress", ()) for port in rule["ports"]}
        assert named <= ports
    services = {each["metadata"]["name"] for each in find(case, "Service")}
    for each in find(case, "StatefulSet"):
        name = each["metadata"]["name"]
        # What serves nothing has no service either; its name is the pod's all the same.
        assert each["spec"]["serviceName"] == name
        assert name in services or "evaluator" in name or "helper" in name
    for name, pod in find_pods(case):
        for spread in pod["topologySpreadConstraints"]:
            assert spread["labelSelector"]["matchLabels"]["app.kubernetes.io/name"] == name


@cases
def test_nobody_but_named_ones_reaches_anything(case: str) -> None:
    """One policy is for all and lets nobody in; metrics are for Prometheus, gateway and page for who speaks TLS."""
    policies = {each["metadata"]["name"].removeprefix("fedlog-"): each["spec"] for each in find(case, "NetworkPolicy")}
    assert policies["fedlog"]["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in policies["fedlog"]
    for name, spec in policies.items():
        for rule in spec.get("ingress", ()):
            (source,) = rule["from"]
            space = source["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
            assert space == ("monitoring" if name == "metrics" else "ingress-nginx")


def test_scalers_ask_for_metrics_that_exist() -> None:
    """By what is served, with labels that it has, of whom they scale."""
    scalers = {each["metadata"]["name"]: each["spec"] for each in find("three-zones", "HorizontalPodAutoscaler")}
    assert set(scalers) == {"fedlog-gateway", "fedlog-shard"}
    for name, spec in scalers.items():
        (metric,) = spec["metrics"]
        about = metric[metric["type"].lower()]["metric"]
        assert about["name"] in SERVED
        target = next(
            each for each in find("three-zones", spec["scaleTargetRef"]["kind"]) if each["metadata"]["name"] == name
        )
        assert "replicas" not in target["spec"]
        assert spec["maxReplicas"] > spec["minReplicas"]
    wanted = scalers["fedlog-shard"]["metrics"][0]["external"]["metric"]["selector"]["matchLabels"]
    assert wanted["topic"] in ROLES["aggregator"].inputs
    assert scalers["fedlog-shard"]["maxReplicas"] <= PARTITIONS_DEFAULT


def test_prometheus_finds_everybody_under_the_name_that_rules_ask_for() -> None:
    """Each pod that serves metrics has a service that the monitor selects, whose label is the job of the rules."""
    (monitor,) = find("three-zones", "ServiceMonitor")
    (rule,) = find("three-zones", "PrometheusRule")
    selected = monitor["spec"]["selector"]["matchLabels"].items()
    services = [each for each in find("three-zones", "Service") if selected <= each["metadata"]["labels"].items()]
    serving = {name for name, pod in find_pods("three-zones") if "metrics" in str(pod["containers"])}
    assert {each["spec"]["selector"]["app.kubernetes.io/name"] for each in services} == {
        *WORKERS,
        "gateway",
        "serve",
        "doctor",
    }
    assert {*WORKERS, "gateway", "serve", "doctor"} <= serving
    jobs = {each["metadata"]["labels"][monitor["spec"]["jobLabel"]] for each in services}
    assert all(f'up{{job="{job}"}}' in str(RULES) for job in jobs)
    assert rule["spec"]["groups"] == RULES["groups"]


@pytest.mark.parametrize("case", ["one-node", "three-zones"])
def test_kafka_is_what_the_code_asks_for(case: str) -> None:
    """Every topic with its settings, every principal with its rights and no more, and brokers that refuse the rest."""
    (kafka,) = find(case, "Kafka")
    (pool,) = find(case, "KafkaNodePool")
    copies = 3 if case == "three-zones" else 1
    config = kafka["spec"]["kafka"]["config"]
    assert config["transaction.max.timeout.ms"] <= TRANSACTION_TIMEOUT_MAX_MS
    assert (config["auto.create.topics.enable"], config["unclean.leader.election.enable"]) == (False, False)
    assert {value for key, value in config.items() if key.endswith("replication.factor")} == {copies}
    assert {value for key, value in config.items() if key.endswith(("min.isr", "insync.replicas"))} == {min(copies, 2)}
    assert pool["spec"]["replicas"] == copies
    assert kafka["spec"]["kafka"]["authorization"] == {"type": "simple"}
    (listener,) = kafka["spec"]["kafka"]["listeners"]
    assert (listener["tls"], listener["authentication"]) == (True, {"type": "scram-sha-512"})
    topics = {each["spec"]["topicName"]: each["spec"] for each in find(case, "KafkaTopic")}
    assert {name: spec["config"] for name, spec in topics.items()} == {
        f"fedlog.{one.name}": one.config for one in CATALOGUE
    }
    assert {(spec["partitions"], spec["replicas"]) for spec in topics.values()} == {(PARTITIONS_DEFAULT, copies)}
    found = {grant for each in find(case, "KafkaUser") for grant in read_grants(each)}
    wanted = {
        (one.principal, one.kind, one.name, one.operation, one.is_prefix)
        for principal in RIGHTS
        for one in list_grants(principal, prefix="fedlog")
    }
    assert found == wanted


def read_grants(user: dict[str, Any]) -> Iterator[tuple[str, str, str, str, bool]]:
    """The rights of a KafkaUser, one each."""
    for rule in user["spec"]["authorization"]["acls"]:
        about = rule["resource"]
        for operation in rule["operations"]:
            yield (
                user["metadata"]["name"],
                KINDS[about["type"]],
                about.get("name", "kafka-cluster"),
                OPERATIONS[operation.lower()],
                about.get("patternType") == "prefix",
            )
