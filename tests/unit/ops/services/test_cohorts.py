"""Cohorts of held-out examples: whatever form the data have, each example has one, or it is said which has none."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from actors.deciders.scores import COHORTS_MAX
from client_agent.learning.data import DataError, ExamplesView, drop_column, take_examples
from client_agent.learning.foreign import LearnerError
from ops.services.cohorts import CohortsUnusable, check_same, find_cohorts
from schemas.errors import FedlogError

SITES = ["west", "east", "west", "south"]
FOUND = {"east": [1], "south": [3], "west": [0, 2]}
X, Y = np.arange(8.0).reshape(4, 2), np.array([0, 1, 0, 1])
RECORDS = np.array(list(zip(SITES, Y, strict=True)), dtype=[("site", "U8"), ("label", "i8")])
EXAMPLES = [{"x": x, "labels": y, "site": site} for x, y, site in zip(X, Y, SITES, strict=True)]


class Rows:
    """Examples that are read one at a time, as from files."""

    def __len__(self) -> int:
        return len(EXAMPLES)

    def __getitem__(self, place: int) -> dict[str, Any]:
        return EXAMPLES[place]


class Frame:
    """What a table of another library has of the ways to take it apart."""

    columns = ("site",)

    def __init__(self, sites: list[str] = SITES) -> None:
        self.sites = sites
        self.iloc = self

    def __getitem__(self, name: Any) -> Any:
        return np.array(self.sites) if name == "site" else Frame([self.sites[place] for place in name])

    def __len__(self) -> int:
        return len(self.sites)


FORMS: dict[str, Any] = {
    "arrays by name": {"x": X, "labels": Y, "site": np.array(SITES)},
    "a list by name": {"x": torch.tensor(X), "labels": Y, "site": SITES},
    "examples with names": EXAMPLES,
    "examples read one by one": Rows(),
    "records": RECORDS,
    "a table": Frame(),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_column_names_cohorts_in_any_form(form: str) -> None:
    """Whoever has a column of that name has cohorts, in the order of their names, with every example once."""
    found = find_cohorts(FORMS[form], "site", count=4)
    assert found == FOUND
    assert list(found) == sorted(found)
    for cohort, places in found.items():
        assert find_cohorts(take_examples(FORMS[form], places), "site", count=len(places)) == {
            cohort: list(range(len(places)))
        }


def test_numbers_are_names_too() -> None:
    """Whole numbers and truths, of numpy, torch or Python; a label can be a cohort."""
    for column in (Y, torch.tensor(Y), Y.tolist(), [np.int64(value) for value in Y]):
        assert find_cohorts({"x": X, "labels": column}, "labels", count=4) == {"0": [0, 2], "1": [1, 3]}
    assert find_cohorts({"x": X, "old": X[:, 0] > 3}, "old", count=4) == {"False": [0, 1], "True": [2, 3]}


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> str:
    """A user's function that tells the side on which an example's first feature is."""
    module = ModuleType("sides")

    def side(example: Any) -> str:
        first = example[0] if isinstance(example, tuple) else example["x"]
        return "left" if first[0] < 3 else "right"

    def fail(example: Any) -> str:
        raise KeyError("no such site")

    vars(module).update(side=side, fail=fail, nothing=lambda _: None)
    monkeypatch.setitem(sys.modules, "sides", module)
    return "sides:side"


@pytest.mark.parametrize(
    "given", [(X, Y), [X, Y], {"x": X, "labels": Y}, EXAMPLES, Rows()], ids=lambda g: type(g).__name__
)
def test_a_plugin_is_asked_for_each_example(given: Any, plugin: str) -> None:
    """It is called with an example as the data plugin gave it: a row of each array, or one of a sequence."""
    assert find_cohorts(given, plugin, count=4) == {"left": [0, 1], "right": [2, 3]}


def test_what_a_plugin_raises_is_told_with_its_example(plugin: str) -> None:
    """A user's code may raise anything, and says nothing at times: the message has the example, and what to do."""
    del plugin
    with pytest.raises(LearnerError, match=r"cohort 'sides:fail' of example 0: KeyError: 'no such site'"):
        find_cohorts((X, Y), "sides:fail", count=4)
    with pytest.raises(CohortsUnusable, match="names no cohort for example 0: give it one, such as 'unknown'"):
        find_cohorts((X, Y), "sides:nothing", count=4)


BAD: dict[str, tuple[Any, str]] = {
    "side by side": ((X, Y), "have no such column"),
    "another name": ({"x": X, "place": SITES}, "have no such column"),
    "not kept": (None, "keeps nothing of the held-out data"),
    "an empty name": ({"site": ["west", ""]}, "no cohort for example 1: give it one"),
    "none": ({"site": [None, "west"]}, "no cohort for example 0: give it one"),
    "nan": ({"site": np.array([1.0, np.nan])}, "no cohort for example 0, but 1.0: a cohort is called by"),
    "a missing number": ({"site": np.array([np.nan])}, "no cohort for example 0: give it one"),
    "blanks": ({"site": ["the west"]}, "but 'the west': a cohort is called by a text or whole number of 1 to 32"),
    "a line": ({"site": ["west\n"]}, "but 'west"),
    "an escape": ({"site": ["\x1b[31m"]}, "a cohort is called by"),
    "too long": ({"site": ["w" * 33]}, "a cohort is called by"),
    "bytes": ({"site": [b"west"]}, "a cohort is called by"),
    "rows": ({"site": X}, "a cohort is called by"),
    "too many": ({"site": list(range(COHORTS_MAX + 1))}, "more than 64 cohorts in 65 examples, as '0', '1', '2' ..."),
    "too few": ({"site": SITES[:3]}, "the cohorts of 3 examples, and there are 4"),
    "some without": ([{"site": "west"}, {}], "no cohort for example 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_names_are_told_with_what_to_do(case: str) -> None:
    """Missing, too many, unprintable: nothing is scored by cohorts that would be nobody's."""
    given, told = BAD[case]
    with pytest.raises(CohortsUnusable) as refused:
        find_cohorts(given, "site", count=4)
    assert told in str(refused.value)
    assert str(refused.value).isprintable()


def test_as_many_cohorts_as_are_allowed_are_found() -> None:
    """The limit is what readers keep of one evaluator: one cohort less than the refused is fine."""
    assert len(find_cohorts({"site": list(range(COHORTS_MAX))}, "site", count=COHORTS_MAX)) == COHORTS_MAX


def test_cohorts_that_change_are_told() -> None:
    """Scores by cohort are compared from version to version: other cohorts are other data."""
    check_same({"west"}, ["west"], version=3)
    with pytest.raises(CohortsUnusable, match="has no 'east' any more and has 'south', unlike when version 3 was"):
        check_same({"east", "west"}, ["south", "west"], version=3)


def test_a_cohorts_column_is_nothing_to_learn_from() -> None:
    """Models are called with the other columns, and whatever has no names is left as it is."""
    assert set(drop_column(FORMS["arrays by name"], "site")) == {"x", "labels"}
    for form in ("examples with names", "examples read one by one"):
        dropped = drop_column(FORMS[form], "site")
        assert [set(dropped[place]) for place in range(len(dropped))] == [{"x", "labels"}] * 4
    assert drop_column((X, Y), "site")[1] is Y
    assert isinstance(take_examples(Rows(), [1]), ExamplesView)


def test_data_that_cannot_be_taken_apart_say_what_a_learner_needs() -> None:
    """An object of the user's own is only understood by its learner."""
    with pytest.raises(DataError, match=r"a method `subset\(data, places\)`"):
        take_examples(object(), [0])
    assert issubclass(DataError, FedlogError)
