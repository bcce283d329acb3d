"""A Flower app by its name: where it lies, whether it may run, and the digest of its source."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

import msgspec
import pytest

from client_agent.learning.allow_list import AllowList, PluginNotAllowed
from client_agent.learning.flower.apps import find_app, hash_app, is_app_name
from client_agent.learning.plugins import PluginError
from client_agent.learning.sources import hash_sources
from schemas.creations import find_faults
from schemas.policy import Policy
from tests.unit.client_agent.learning.flower.test_learner import POLICY
from tests.worlds.builders import task_created
from tests.worlds.flower_apps.copies import APPS


def make_policy(app: str) -> Policy:
    told = tomllib.loads(POLICY)
    told["learner_arguments"]["app"] = app
    return msgspec.convert(told, Policy)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an app in it, which is the current one."""
    shutil.copytree(APPS / "newer", tmp_path / "newer")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_app_runs_only_where_its_owner_allowed_it(here: Path) -> None:
    """The learner comes with fedlog; the app that the log names beside it is asked for by its own name."""
    policy = make_policy("newer")
    with pytest.raises(PluginNotAllowed, match=r"fedlog device --allow flower-app:newer$"):
        AllowList().check_policy(policy)
    AllowList(names=frozenset({"flower-app:newer"})).check_policy(policy)
    with pytest.raises(PluginNotAllowed):
        AllowList(names=frozenset({"flower-app:newer"})).check_policy(make_policy("../newer"))


@pytest.mark.parametrize("name", ["a;rm", "a b", "", "$(x)", "a\nb"])
def test_a_strange_name_is_in_no_command(name: str) -> None:
    """What stands in the log may be copied into a shell from a message."""
    assert not is_app_name(f"flower-app:{name}")
    with pytest.raises(PluginNotAllowed, match="which is no module:callable"):
        AllowList().check_policy(make_policy(name))


def test_the_source_of_an_app_is_part_of_the_record(here: Path) -> None:
    """Each file of code and settings counts, by name and bytes; environments and caches do not."""
    name, rules = "flower-app:newer", make_policy("newer")
    sources = hash_sources(rules)
    assert sources[name] == hash_app(name)
    # And the record is believed: it names no source that the policy does not.
    created = task_created(rules, sources=sources)
    assert [fault for fault in find_faults(created) if "source" in fault] == []
    digests = [hash_app(name)]
    for change in ("newer_app/client_app.py", "pyproject.toml", "newer_app/more.py"):
        with (here / "newer" / change).open("a") as file:
            file.write("# more\n")
        digests.append(hash_app(name))
    assert len(set(digests)) == 4
    for ignored in (".venv/lib/a.py", "newer_app/__pycache__/b.py", "README.md"):
        path = here / "newer" / ignored
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    assert hash_app(name) == digests[-1]


def test_an_app_that_is_not_here_is_named(here: Path) -> None:
    """With the folder in which it was looked for."""
    assert find_app("newer") == here / "newer"
    with pytest.raises(PluginError, match=r"no Flower app 'older': .*holds no pyproject.toml"):
        find_app("older")
