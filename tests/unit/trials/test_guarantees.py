"""The page of guarantees is what its results give, and credits nothing that has not been tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tests.trials.chaos.points import matrix
from tests.trials.guarantees import __main__ as written
from tests.trials.guarantees import kills, restarts, trials
from tests.trials.results import rows

RUN = {
    "actor": "selector", "point": "claim", "fault": "kill", "workers": 1, "hits": 2, "seconds": 9.0, "recovery_s": 3.0,
    "violations": 0, "first_violation": "", "fenced": 0, "zombies": 0, "aborted": 0, "replies_lost": 0,
}  # fmt: skip
DEATHS = {"actor": "selector", "kind": "child", "decisions": 1_000_000, "runs": 3, "median_s": 4.0, "worst_s": 13.0}
SETTING = {"session_timeout_s": 8.0, "snapshots": True, "snapshot_used": True}
FOUND = {"seed": 7, "steps": 160, "fault": "seq is 0"}


def sweep(**changes: Any) -> dict[str, Any]:
    """A sweep's row."""
    return {"seeds": 10, "steps": 160, "seconds": 1.0, "violations": [], "faults": {"rival": 3}, **changes}


def test_the_page_is_what_the_results_give() -> None:
    """Nobody edits it by hand, and nobody adds results without it: `make guarantees` writes it anew."""
    assert written.PAGE.read_text() == written.page()


def test_each_promise_is_an_object() -> None:
    """The figures have one object a promise, with what was tried, how often, and what was found."""
    for promise in written.objects():
        assert promise.keys() >= {"promise", "fault", "tries", "violations", "seeds", "seconds"}
        assert bool(promise["fault"]) == (promise["tries"] > 0)


def test_no_seed_is_counted_twice() -> None:
    """Each sweep goes on where the one before has ended, so that the sum of seeds is their number."""
    swept = rows("simulation")
    ends = [1, *(row["first_seed"] + row["seeds"] for row in swept)]
    assert [row["first_seed"] for row in swept] == ends[:-1]


def test_every_excuse_is_of_a_row() -> None:
    """What a mended bug explains was found, exactly so, in a run that left a row."""
    found = {(f"{fault['seed']}", fault["fault"]) for row in rows("simulation") for fault in row["violations"]}
    found |= {(kills.named(row), row["first_violation"]) for row in rows("chaos")}
    found |= {(restarts.named(row), f"{row['worst_s']} s") for row in rows("recovery")}
    assert written.excuses() <= found


@pytest.mark.parametrize(
    ("excuse", "violations"), [(("7", "seq is 0"), 0), (("7", "seq is 1"), 1), (("8", "seq is 0"), 1)]
)
def test_a_seed_is_excused_for_what_it_found_then(excuse: tuple[str, str], violations: int) -> None:
    """The same seed with another fault counts as broken."""
    found = trials.simulation([sweep(violations=[FOUND])], frozenset([excuse]), exact=False)
    assert found.violations == violations


def test_only_models_that_were_compared_exactly_count() -> None:
    """A sweep or a run whose checker allowed for rounding is no try against the promise that models are bit for bit."""
    sweeps = [
        sweep(),
        sweep(seeds=5, faults={"models recomputed": 12}),
        sweep(seeds=7, faults={"models recomputed": 0}),
    ]
    found = trials.simulation(sweeps, frozenset(), exact=True)
    assert (found.tries, found.models) == (5, 12)
    runs = kills.chaos([RUN, RUN | {"models": 4, "point": "replay"}, RUN | {"models": 0}], frozenset(), exact=True)
    assert (runs.tries, runs.models) == (1, 4)


def test_a_cell_is_tried_once_its_fault_has_struck() -> None:
    """Cells that are planned and not tried are missing, and a fault without a run has struck nobody."""
    found = kills.chaos([RUN, RUN, RUN | {"point": "replay", "hits": 0}], frozenset(), exact=False)
    assert found.tried == f"1 of {len(list(matrix()))} cells of the kill matrix"
    assert (found.tries, found.strikes(["kill:selector:"]), found.strikes(["broker:", "cut:"])) == (2, 2, 0)


@pytest.mark.parametrize(
    ("found", "violations"),
    [
        ([{"worst_s": 13.0}], 0),
        ([{"worst_s": 13.1}], 1),
        ([{"worst_s": 13.1}, {}], 0),
        ([{"worst_s": 13.1, "decisions": 100_000}], 0),
        ([{"worst_s": 90.0, "snapshot_used": False}], 1),
        ([{"worst_s": 90.0, "snapshots": False, "snapshot_used": False}], 0),
    ],
)
def test_a_slow_restart_breaks_its_promise(found: Sequence[Mapping[str, Any]], violations: int) -> None:
    """With a million decisions the newest worst is within the session timeout and 5 s, snapshots being there."""
    measured = [{**DEATHS, **SETTING, **changes} for changes in found]
    assert restarts.recovery(measured, frozenset()).violations == violations
