"""The table of mutants fits the source, so that `make mutants` never tries a fault that is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.table import Mutant, mutants

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("mutant", mutants(), ids=lambda mutant: mutant.name)
def test_a_mutant_has_its_place(mutant: Mutant) -> None:
    """Each fault can be planted exactly once, changes the source, and names a test that exists."""
    source = (ROOT / mutant.file).read_text()
    planted = mutant.applied(source)
    assert planted != source
    compile(planted, mutant.file, "exec")
    assert (ROOT / mutant.test.split("::")[0].split()[0]).exists()


def test_there_are_enough_of_them() -> None:
    """At least twenty promises are broken, each name stands once."""
    names = [mutant.name for mutant in mutants()]
    assert len(set(names)) == len(names) >= 20
