"""Unit tests stand where their modules stand: tests/unit/actors/runtime/test_actor.py holds actors/runtime/actor.py.

A file may hold one side of a large module: `test_aggregator_rounds.py` is of `aggregator.py`.
"""

from __future__ import annotations

from pathlib import Path

from tests.judges.style import PACKAGES, is_source, tracked_files

UNIT = "tests/unit/"
# Tests of no single module.
OF_MANY = {
    "actors/test_federation.py": "all actors together",
    "actors/test_strangers.py": "what actors make of a stranger's records in every topic",
    "actors/hosts/helper/test_budgets.py": "masked tasks under the budget of a population",
    "actors/hosts/helper/test_cosigning.py": "models that helpers co-sign, from the journal to a lease",
    "actors/hosts/helper/test_shards.py": "masked tasks whose vectors shard workers add",
    "actors/deciders/populations/test_epsilons.py": "every charge beside accounting that is not ours",
    "actors/effects/aggregator/test_reported.py": "metrics under privacy, from devices to whoever looks at a task",
    "actors/hosts/helper/test_registrars.py": "what a helper believes of who is enrolled",
    "actors/test_road.py": "how control goes through the files of an actor",
    "ops/audit/test_helper_words.py": "journals beside what helpers were shown",
    "ops/doctor/test_checks.py": "each family of faults where it is planted",
    "ops/terminal/conftest.py": "a log with a running task for all tests of the console",
    "ops/web/conftest.py": "one history for all tests of the server that only look",
    "schemas/test_first_use.py": "decoders that two threads use at once for the first time",
    "schemas/events/test_golden.py": "the bytes of every event that was ever written",
    "schemas/events/test_upgrading.py": "what an older release makes of newer records",
}


def _modules() -> set[str]:
    """Every module of the source, without its ending."""
    return {path.removesuffix(".py") for path in tracked_files() if is_source(path)}


def _unit_files() -> list[str]:
    """Every test file that stands under the name of a package, relative to tests/unit."""
    paths = (path.removeprefix(UNIT) for path in tracked_files() if path.startswith(UNIT) and path.endswith(".py"))
    return [path for path in paths if path.startswith(tuple(f"{name}/" for name in PACKAGES))]


def _names_a_module(path: str, modules: set[str]) -> bool:
    words = Path(path).stem.removeprefix("test_").split("_")
    folder = Path(path).parent.as_posix()
    return any(f"{folder}/{'_'.join(words[:count])}" in modules for count in range(1, len(words) + 1))


def test_every_unit_file_names_its_module() -> None:
    """Whoever knows a module finds its tests; a module that moves takes them along."""
    modules = _modules()
    lost = [path for path in _unit_files() if path not in OF_MANY and not _names_a_module(path, modules)]
    assert lost == []


def test_a_file_without_its_module_is_seen() -> None:
    """The rule finds a test whose module was renamed, and takes a part of a module for that module's."""
    modules = {"actors/deciders/aggregator", "actors/hosts/host"}
    assert _names_a_module("actors/deciders/test_aggregator_rounds.py", modules)
    assert not _names_a_module("actors/hosts/test_faust_app.py", modules)
    assert not _names_a_module("actors/deciders/test_host.py", modules)


# Modules that other tests hold; a folder stands for all that is in it.
HELD_BY = {
    "ops/request_books": "tests/unit/ops/gateway/access/test_watching.py",
    "ops/gateway": "tests/unit/ops/gateway/test_app.py",
    "client_agent/links/requests": "tests/unit/client_agent/links/test_http.py",
    "client_agent/links/refusals": "tests/unit/ops/gateway/test_enrolments.py",
    "client_agent/links/errands": "tests/unit/client_agent/links/test_http.py",
    "schemas/http/device_protocol": "tests/unit/client_agent/links/test_http.py",
    "client_agent/links/sending": "tests/unit/client_agent/links/test_http.py",
    "ops/terminal/reaching": "tests/integration/workers/test_gateway.py",
    "ops/terminal/commands/serving/gateway": "tests/integration/workers/test_gateway.py",
    "actors/deciders/masking": "tests/unit/actors/deciders/masking/test_helper.py",
    "actors/deciders/arithmetic/reporting": "tests/unit/actors/effects/aggregator/test_reported.py",
    "actors/deciders/selecting/cosigned": "tests/unit/actors/hosts/helper/test_cosigning.py",
    "actors/effects/masking": "tests/unit/actors/hosts/helper/test_service.py",
    "actors/hosts/helper": "tests/unit/actors/hosts/helper/test_service.py",
    "ops/processes/tiers": "tests/integration/test_masked.py",
    "schemas/masking/statements": "tests/unit/actors/hosts/helper/test_service.py",
    "actors/disk": "tests/unit/actors/hosts/helper/test_store.py",
    "actors/deciders/admission": "tests/unit/actors/deciders/test_aggregator.py",
    "actors/deciders/rollout": "tests/unit/actors/deciders/rollout/test_deciding.py",
    "schemas/policy/releasing": "tests/unit/schemas/policy/releasing/test_rollout_checks.py",
    "schemas/events/releasing": "tests/unit/schemas/events/test_golden.py",
    "ops/history/releasing": "tests/unit/ops/operator/releasing/test_rollouts.py",
    "actors/deciders/registrar": "tests/unit/actors/effects/test_registrar.py",
    "client_agent/enrolling": "tests/unit/actors/effects/test_registrar.py",
    "schemas/events/enrolment": "tests/unit/schemas/events/test_golden.py",
    "ops/operator/enrolling": "tests/unit/ops/operator/enrolling/test_orders.py",
    "schemas/identity": "tests/unit/actors/effects/test_registrar.py",
    "actors/deciders/selecting/state": "tests/unit/actors/deciders/test_selector.py",
    "actors/effects/aggregator": "tests/unit/actors/effects/aggregator/test_effects.py",
    "actors/runtime/meter": "tests/unit/actors/hosts/test_metrics.py",
    "actors/hosts/assignment": "tests/integration/workers/test_workers.py",
    "actors/effects/shard": "tests/unit/actors/effects/shard/test_worker.py",
    "schemas/certificates": "tests/unit/schemas/test_leases.py",
    "actors/runtime/answers": "tests/unit/actors/test_federation.py",
    "actors/runtime/digests": "tests/unit/actors/runtime/test_snapshots.py",
    "actors/runtime/effects": "tests/unit/actors/effects/test_selector.py",
    "actors/runtime/journal": "tests/unit/actors/runtime/test_actor.py",
    "actors/runtime/observer": "tests/unit/actors/hosts/test_metrics.py",
    "actors/runtime/replay": "tests/unit/actors/runtime/test_snapshots.py",
    "actors/runtime/role": "tests/unit/actors/test_wiring.py",
    "client_agent/compression": "tests/property/test_compression.py",
    "client_agent/conditions": "tests/unit/client_agent/running/test_profiles.py",
    "client_agent/learning/flower/fedlog_node": "tests/unit/client_agent/learning/flower/test_learner.py",
    "client_agent/learning/pytorch": "tests/unit/client_agent/learning/test_opening.py",
    "client_agent/learning/trainer": "tests/unit/client_agent/learning/test_opening.py",
    "client_agent/running/plain_session": "tests/unit/client_agent/running/test_fleet.py",
    "client_agent/running/ray_session": "tests/unit/client_agent/running/test_fleet_at_work.py",
    "client_agent/setting": "tests/unit/client_agent/test_device.py",
    "ops/doctor/checks": "tests/unit/ops/doctor/test_checks.py",
    "ops/doctor/facts": "tests/unit/ops/doctor/test_checks.py",
    "ops/doctor/findings": "tests/unit/ops/doctor/test_checks.py",
    "ops/doctor/gathering": "tests/integration/log/test_doctor.py",
    "ops/archive": "tests/unit/ops/archive/test_archivist.py",
    "ops/web": "tests/unit/ops/web/test_app.py",
    "ops/audit/recomputing": "tests/unit/ops/audit/test_replay.py",
    "ops/services/mlflow/server": "tests/trials/registry/with_mlflow.py",
    "ops/services/standing": "tests/unit/ops/services/test_subscriber.py",
    "schemas/announcements/forms": "tests/unit/schemas/announcements/test_reading.py",
    "ops/services/scoring": "tests/unit/ops/services/test_evaluator.py",
    "ops/operator/releasing/drifting": "tests/unit/ops/terminal/commands/cluster/test_drift.py",
    "actors/deciders/drifting/standing": "tests/unit/actors/deciders/drifting/test_judging.py",
    "ops/operator/first_models": "tests/unit/ops/operator/test_tasks.py",
    "ops/virtual": "tests/unit/ops/virtual/test_running.py",
    "ops/operator/errors": "tests/unit/ops/terminal/test_errors.py",
    "ops/doors/keeping": "tests/integration/log/test_secured.py",
    "ops/doors/knocking": "tests/integration/log/test_secured.py",
    "ops/doors/secured": "tests/integration/log/test_secured.py",
    "ops/processes/broker": "tests/integration/log/test_outage.py",
    "ops/processes/guardian": "tests/unit/ops/processes/test_services.py",
    "ops/processes/started": "tests/unit/ops/processes/test_services.py",
    "client_agent/running/interrupts": "tests/unit/ops/processes/test_services.py",
    "fedlog/training": "tests/integration/test_run.py",
    "ops/processes/panel": "tests/unit/ops/processes/test_demo.py",
    "ops/terminal/commands": "tests/unit/ops/terminal/test_cli.py",
    "ops/terminal/options": "tests/unit/ops/terminal/test_cli.py",
    "schemas/events": "tests/unit/schemas/events/test_golden.py",
    "schemas/identifiers": "tests/unit/schemas/test_canonical.py",
    "schemas/policy/learning": "tests/unit/schemas/policy/test_learning_checks.py",
    "schemas/policy/section": "tests/unit/schemas/policy/test_checks.py",
    "schemas/policy/sections": "tests/unit/schemas/policy/test_checks.py",
    "schemas/rollouts": "tests/unit/schemas/rollouts/test_standing.py",
    "schemas/tensors/frames": "tests/unit/schemas/tensors/test_codecs.py",
    "schemas/tensors/grid": "tests/unit/schemas/tensors/test_codecs.py",
    "streams/bodies/uploads": "tests/unit/streams/bodies/test_reader.py",
    "streams/exported/format": "tests/unit/streams/exported/test_log.py",
    "streams/exported/writer": "tests/unit/streams/exported/test_log.py",
    # The log in memory and the one on Kafka keep one contract.
    "streams/kafka": "tests/integration/log/test_log_contract.py",
    "streams/log": "tests/integration/log/test_log_contract.py",
    "streams/memory": "tests/integration/log/test_log_contract.py",
    "streams/topics": "tests/integration/log/test_log_contract.py",
    "streams/writer": "tests/integration/log/test_log_contract.py",
}


def _is_held(module: str, unit_files: set[str]) -> bool:
    """Whether a test file of its own name holds a module, or the file that is named for it or for its folder."""
    path = Path(module)
    if f"{path.parent.as_posix()}/test_{path.name}.py" in unit_files:
        return True
    return any(place.as_posix() in HELD_BY for place in (path, *path.parents))


def test_every_module_is_held_by_a_test() -> None:
    """A new module comes with its tests, or says here which others hold it."""
    unit_files = set(_unit_files())
    modules = {module for module in _modules() if not module.endswith("__init__")}
    assert sorted(module for module in modules if not _is_held(module, unit_files)) == []


def test_what_holds_a_module_exists() -> None:
    """Neither side of the list is left behind when a module or a test moves."""
    modules, tests = _modules(), set(tracked_files())
    assert [place for place in HELD_BY if not any(f"{name}/".startswith(f"{place}/") for name in modules)] == []
    assert sorted(set(HELD_BY.values()) - tests) == []
