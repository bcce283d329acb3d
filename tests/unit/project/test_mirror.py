"""Unit tests stand where their modules stand: tests/unit/actors/runtime/test_actor.py holds actors/runtime/actor.py.

A file may hold one side of a large module: `test_aggregator_rounds.py` is of `aggregator.py`.
"""

from __future__ import annotations

from pathlib import Path

from tests.judges.style import PACKAGES, tracked_files

UNIT = "tests/unit/"
# Tests of no single module.
OF_MANY = {
    "actors/test_federation.py": "all actors together",
    "actors/test_road.py": "how control goes through the files of an actor",
    "schemas/test_first_use.py": "decoders that two threads use at once for the first time",
    "schemas/events/test_golden.py": "the bytes of every event that was ever written",
    "schemas/events/test_upgrading.py": "what an older release makes of newer records",
}


def _modules() -> set[str]:
    """Every module of the source, without its ending."""
    paths = (path for path in tracked_files() if path.startswith(tuple(f"{name}/" for name in PACKAGES)))
    return {path.removesuffix(".py") for path in paths if path.endswith(".py")}


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
