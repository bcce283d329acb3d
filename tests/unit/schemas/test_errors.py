"""Every error has one root: an exit code for a terminal, a code for an API, and a row in the tree of its docstring."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator

import pytest

from schemas.errors import EXIT_CONFIGURATION, EXIT_LOST, EXIT_NO, EXIT_UNAVAILABLE, EXIT_USAGE, FedlogError

PACKAGES = ("schemas", "streams", "actors", "client_agent", "ops", "fedlog")


def subclasses(kind: type[FedlogError]) -> Iterator[type[FedlogError]]:
    """All classes below `kind` that the product defines."""
    for child in kind.__subclasses__():
        if child.__module__.startswith(PACKAGES):
            yield child
            yield from subclasses(child)


@pytest.fixture(scope="module")
def kinds() -> list[type[FedlogError]]:
    """Every error class of the product."""
    for name in PACKAGES:
        for module in pkgutil.walk_packages(importlib.import_module(name).__path__, f"{name}."):
            # What runs in Flower's own environment alone knows nothing of fedlog, and has no errors of it.
            if ".fedlog_node" not in module.name:
                importlib.import_module(module.name)
    return list(subclasses(FedlogError))


def test_the_tree_draws_every_class_below_its_parent(kinds: list[type[FedlogError]]) -> None:
    """The root's docstring names each error class once, indented below the class that it extends."""
    rows = re.findall(r"^(.*?)[├└]── (\w+)", FedlogError.__doc__ or "", re.MULTILINE)
    drawn: dict[str, str] = {}
    above = {-1: "FedlogError"}
    for indent, name in rows:
        depth = (len(indent) - 5) // 5
        above[depth] = name
        drawn[name] = above[depth - 1]
    assert drawn == {kind.__name__: kind.__base__.__name__ for kind in kinds if kind.__base__ is not None}


def test_every_class_has_a_code_of_its_own_and_a_known_exit_code(kinds: list[type[FedlogError]]) -> None:
    """No two classes share a code, each is snake_case, and a terminal exits with one of five numbers."""
    codes = [kind.code for kind in (FedlogError, *kinds)]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)
    assert {kind.exit_code for kind in kinds} == {EXIT_NO, EXIT_USAGE, EXIT_UNAVAILABLE, EXIT_LOST, EXIT_CONFIGURATION}


def test_an_error_without_a_message_says_what_its_class_is_for() -> None:
    """The first paragraph of the docstring is the default message; a message that is given stays."""
    assert str(FedlogError()) == "fedlog cannot do what was asked."
    assert str(FedlogError("the disk is full")) == "the disk is full"
