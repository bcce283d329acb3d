"""Compares what an MLflow server has with what fedlog exports: by REST alone, and file by file."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from tests.trials.registry.mlflow_server import MlflowProcess
from tests.worlds.stage import Stage

PLAIN_FILES = ("model.safetensors", "config.json", "privacy.log")


def judge(stage: Stage, server: MlflowProcess, task: str, *, standing: dict[str, Any]) -> list[str]:
    """Everything that is wrong with the registered model of a task."""
    found = server.ask("model-versions/search", filter=f"name='{task}'", max_results="1000")["model_versions"]
    versions = {int(_tags(one)["fedlog.version"]): one for one in found}
    published = [
        json.loads(line) for line in stage.fedlog("model", "list", "--task", task, "--json").stdout.splitlines()
    ]
    faults = []
    if (count := Counter(int(_tags(one)["fedlog.version"]) for one in found)) != Counter(range(len(published))):
        faults.append(f"versions {dict(count)}, and {len(published)} are published")
    ids = [run["info"]["run_id"] for run in _list_runs(server, task)]
    if sorted(ids) != sorted(one["run_id"] for one in found):
        faults.append(f"{len(ids)} runs of {len(found)} versions")
    for row in published:
        if (one := versions.get(row["version"])) is not None:
            faults += _judge_version(stage, server, one, row=row)
    return [*faults, *_judge_rollout(stage, server, task, versions=versions, standing=standing)]


def _judge_version(stage: Stage, server: MlflowProcess, one: dict[str, Any], *, row: dict[str, Any]) -> list[str]:
    tags, run = _tags(one), server.ask("runs/get", run_id=one["run_id"])["run"]
    told = f"version {row['version']}"
    faults = []
    if tags["fedlog.sha256"] != row["model"]["sha256"]:
        faults.append(f"{told}: another digest than was published")
    metrics = {metric["key"]: metric["value"] for metric in run["data"]["metrics"]}
    if any(abs(metrics.get(name, -1) - value) > 1e-9 for name, value in row["metrics"].items()):
        faults.append(f"{told}: {metrics} and not {row['metrics']}")
    if not {"accuracy/even", "accuracy/odd", "samples/odd"} <= metrics.keys():
        faults.append(f"{told}: no scores by cohort in {sorted(metrics)}")
    if run["info"]["status"] != "FINISHED":
        faults.append(f"{told}: its run is {run['info']['status']}")
    faults += _judge_files(stage, server, run, row=row)
    if row["round"] is not None:
        faults += _judge_cost(server, run, metrics=metrics)
    return faults


def _judge_files(stage: Stage, server: MlflowProcess, run: dict[str, Any], *, row: dict[str, Any]) -> list[str]:
    out = stage.folder / f"exported-{row['version']}"
    words = ("--task", row["task"], "--version", str(row["version"]), "--format", "safetensors", "--out", str(out))
    exported = stage.fedlog("model", "export", *words)
    assert exported.exit_code == 0, exported.stderr
    other = [file for file in PLAIN_FILES if server.fetch(run, f"model/{file}") != (out / file).read_bytes()]
    return [f"version {row['version']}: {file} is another one than fedlog exports" for file in other]


def _judge_cost(server: MlflowProcess, run: dict[str, Any], *, metrics: dict[str, float]) -> list[str]:
    """ε and ρ are those of the last line of the privacy record."""
    total = server.fetch(run, "model/privacy.log").decode().splitlines()[-1].split()
    said = dict(zip(total[1::2], total[2::2], strict=True))
    near = {
        name: abs(metrics.get(name, -1) - float(said[name])) < 1e-4 * float(said[name]) for name in ("rho", "epsilon")
    }
    return [] if all(near.values()) else [f"{metrics} and not {said}"]


def _judge_rollout(
    stage: Stage, server: MlflowProcess, task: str, *, versions: dict[int, dict[str, Any]], standing: dict[str, Any]
) -> list[str]:
    model = server.ask("registered-models/get", name=task)["registered_model"]
    at = {one["alias"]: one["version"] for one in model.get("aliases", ())}
    named = {version: one["version"] for version, one in versions.items()}
    expected = {"champion": standing["promoted"], "candidate": standing["candidate"]}
    expected = {alias: named[version] for alias, version in expected.items() if version is not None}
    faults = [] if at == expected else [f"aliases {at} and not {expected}"]
    answer = stage.fedlog("query", "FROM rollouts WHERE step = 'rolled back' ORDER BY \"offset\", number", "--json")
    assert answer.exit_code == 0, answer.stderr
    # Of one that was rolled back twice the last reason counts.
    reasons = {row["version"]: row["reason"] for row in map(json.loads, answer.stdout.splitlines())}
    told = {version: _tags(versions[version]).get("fedlog.rolled_back") for version in reasons}
    # The operator may have promoted it since.
    wrong = [one for one in reasons if one != standing["promoted"] and told[one] != reasons[one]]
    faults += [f"version {one}: rolled back for {reasons[one]}, and tagged {told[one]}" for one in wrong]
    faults += [] if reasons else ["nothing was ever rolled back"]
    return [*faults, *_find_devices(stage, server, versions)]


def _find_devices(stage: Stage, server: MlflowProcess, versions: dict[int, dict[str, Any]]) -> list[str]:
    """No name of a device stands anywhere."""
    rows = stage.fedlog("query", "SELECT DISTINCT device FROM leases", "--json").stdout.splitlines()
    devices = [json.loads(row)["device"] for row in rows]
    runs = [server.ask("runs/get", run_id=one["run_id"])["run"] for one in versions.values()]
    texts = [json.dumps([*versions.values(), *runs])]
    texts += [server.fetch(run, f"model/{file}").decode() for run in runs for file in PLAIN_FILES[1:]]
    assert devices
    return [f"the device {device} is named" for device in devices if any(device in text for text in texts)]


def _list_runs(server: MlflowProcess, task: str) -> list[dict[str, Any]]:
    experiment = server.ask("experiments/get-by-name", experiment_name=task)["experiment"]["experiment_id"]
    answer = server.post("runs/search", {"experiment_ids": [experiment], "max_results": 1000})
    runs: list[dict[str, Any]] = answer.get("runs", [])
    return runs


def _tags(one: dict[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in one.get("tags", ())}
