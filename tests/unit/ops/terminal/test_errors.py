"""An error becomes a message that says what to do, and an exit code that a script can tell apart."""

from __future__ import annotations

import pytest

from ops.operator.errors import CloseUnnoticed, ModelGone, TaskUnknown
from ops.terminal.errors import ADVICE, explain
from schemas.errors import FedlogError
from schemas.journal import OutOfStep
from streams.exported import ExportDamaged
from streams.log import LogRefused, LogUnavailable, OffsetLost

KNOWN: dict[type[FedlogError], tuple[int, str]] = {
    TaskUnknown: (1, "`fedlog task list`"),
    CloseUnnoticed: (1, "`fedlog worker aggregator`"),
    ModelGone: (4, "the reason"),
    LogUnavailable: (3, "--bootstrap-servers"),
    OffsetLost: (4, "no longer holds"),
    LogRefused: (1, "The log refused"),
    ExportDamaged: (1, "export again"),
    OutOfStep: (1, "`fedlog verify`"),
}


@pytest.mark.parametrize("kind", KNOWN, ids=lambda kind: kind.__name__)
def test_an_error_of_ours_says_what_to_do(kind: type[FedlogError]) -> None:
    """The reason stands in the message, with the advice for its class or for the nearest class above."""
    code, advice = KNOWN[kind]
    found = explain(kind("the reason"))
    assert found[0] == code
    assert "the reason" in found[1]
    assert advice in found[1]


def test_advice_belongs_to_an_error_that_exists() -> None:
    """A class whose code is renamed must not lose its advice."""

    def codes(kind: type[FedlogError]) -> set[str]:
        return {kind.code}.union(*(codes(child) for child in kind.__subclasses__()))

    assert set(ADVICE) <= codes(FedlogError)


def test_an_error_of_the_system_names_its_file() -> None:
    """A file that is missing is a wrong option, not an error of ours."""
    missing = FileNotFoundError(2, "No such file or directory", "p.toml")
    assert explain(missing) == (2, "p.toml: No such file or directory")


def test_any_other_error_asks_for_a_report() -> None:
    """Nobody can act on it, so the message says how to show where it came from."""
    code, message = explain(RuntimeError("surprise"))
    assert (code, "--debug" in message, "surprise" in message) == (1, True, True)
