"""The table of mutants fits the source, so that `make mutants` never tries a fault that is not there."""

from __future__ import annotations

import ast
from functools import cache

import pytest

from tests.root import ROOT
from tests.trials.mutants.table import Mutant, mutants, unplanted


@cache
def defined(file: str) -> frozenset[str]:
    """The names of the tests that a file defines."""
    tree = ast.parse((ROOT / file).read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name[:5] == "test_")


def chosen(test: str) -> set[str]:
    """The tests that pytest picks with a file, a node's id, or a file and `-k` with one word."""
    place, *option = test.split()
    file, _, node = place.partition("::")
    assert not option or option[0] == "-k"
    word = option[1] if option else ""
    return {name for name in defined(file) if name == (node.partition("[")[0] or name) and word in name}


@pytest.mark.parametrize("mutant", mutants(), ids=lambda mutant: mutant.name)
def test_a_mutant_has_its_place(mutant: Mutant) -> None:
    """Each fault can be planted exactly once, changes the source, and names a test that exists."""
    source = (ROOT / mutant.file).read_text()
    planted = mutant.applied(source)
    assert planted != source
    # Of a deployment it may be a file of values.
    if mutant.file.endswith(".py"):
        compile(planted, mutant.file, "exec")
    assert chosen(mutant.test)


def test_there_are_enough_of_them() -> None:
    """At least twenty promises are broken, each name stands once."""
    names = [mutant.name for mutant in mutants()]
    assert len(set(names)) == len(names) >= 20


def test_what_is_planted_nowhere_has_a_test() -> None:
    """A fault that the table only explains away is held by a test that exists, and is not planted too."""
    planted = {mutant.name for mutant in mutants()}
    assert [each.name for each in unplanted() if each.name in planted or not chosen(each.test)] == []
