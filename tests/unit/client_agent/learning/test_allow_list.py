"""What of the code that the log names may run on a machine."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from client_agent.learning import allow_list
from client_agent.learning.allow_list import BUILT_IN, AllowList, PluginNotAllowed
from client_agent.learning.plugins import resolve
from schemas.policy import Policy
from tests.worlds.builders import policy

FIELDS = ("model", "learner", "data", "training.loss", "training.train", "evaluation.evaluate", "evaluation.metrics")
OWN = AllowList(names=frozenset({"rings:model"}), command="fedlog device --task rings")


def naming(plugin: str, field: str = "model") -> Policy:
    """A policy that names a plugin in one of its fields."""
    table, _, name = field.partition(".")
    value = (plugin,) if name == "metrics" else plugin
    return policy(**{"model": "rings:model", table: {name: value} if name else plugin})


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_that_names_code_is_looked_at(field: str) -> None:
    """Guarantee: wherever a policy names code, that code needs to be allowed; the message has the field."""
    with pytest.raises(PluginNotAllowed, match=field.partition(".")[0]):
        OWN.check_policy(naming("os:system", field))
    OWN.including("os:system").check_policy(naming("os:system", field))


@pytest.mark.parametrize(
    "plugin",
    ["os:system", "builtins:exec", "rings:data", "rings.m:model", "rings:model:x", " rings:model", ":"],
)
def test_what_nobody_allowed_is_refused(plugin: str) -> None:
    """Guarantee: only the very name that the owner gave may run; not its module, and not what looks like it."""
    with pytest.raises(PluginNotAllowed):
        OWN.check_policy(naming(plugin))


@pytest.mark.parametrize("plugin", ["rings:model", *sorted(BUILT_IN), "client_agent.models:simple_cnn"])
def test_what_the_owner_or_fedlog_names_may_run(plugin: str) -> None:
    """Guarantee: an allowed plugin and a model that comes with fedlog, under its older name too, need no more."""
    OWN.check_policy(naming(plugin))


def test_every_model_that_comes_along_may_run() -> None:
    """Guarantee: the list of built-in models names callables that exist."""
    assert all(callable(resolve(plugin)) for plugin in BUILT_IN)


def test_the_message_has_the_command() -> None:
    """Guarantee: who may want the code learns what to type; a name that is none is not made part of a command."""
    with pytest.raises(PluginNotAllowed, match=r"fedlog device --task rings --allow mine:net$"):
        OWN.check_policy(naming("mine:net"))
    for hostile in ("x:y; rm -rf /", "x:$(id)", "x:y\n--allow os:system", "\x1b[2Jx:y", "x" * 10_000 + ":y"):
        with pytest.raises(PluginNotAllowed) as caught:
            OWN.check_policy(naming(hostile))
        assert "--allow" not in str(caught.value).replace(repr(hostile[:100]), "")
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 300


def test_other_options_name_trusted_code() -> None:
    """Guarantee: what the owner names as data or trainer may run without being named twice."""
    OWN.including("mine:data").check_policy(naming("mine:data"))
    with pytest.raises(PluginNotAllowed):
        OWN.check_policy(naming("mine:data"))


def test_an_installed_package_may_offer_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: an entry point of an installed package may run, and the check imports nothing of the package."""
    package = tmp_path / "fedlog_extra-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: fedlog-extra\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[fedlog.plugins]\nnet = fedlog_extra.nets:make\n")
    (tmp_path / "fedlog_extra.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    allow_list._find_installed.cache_clear()
    try:
        AllowList().check_policy(naming("fedlog_extra.nets:make"))
        with pytest.raises(PluginNotAllowed):
            AllowList().check_policy(naming("fedlog_extra.nets:other"))
    finally:
        allow_list._find_installed.cache_clear()
    assert not [name for name in sys.modules if name.startswith("fedlog_extra")]
