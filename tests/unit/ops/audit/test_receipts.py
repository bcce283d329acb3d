"""Receipts from a log: every update of a story has one, and none says what is not so."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.audit.receipts import ReceiptMissing, ReceiptWithheld, find
from schemas.certificates import Trust
from schemas.receipts.receipt import Exclusion, Inclusion, check
from tests.tables import synced, tell
from tests.worlds.builders import DEPLOYMENT, KEY

TRUST = Trust(KEY.public_key, DEPLOYMENT)


def test_every_update_has_the_receipt_that_the_history_expects(tmp_path_factory: pytest.TempPathFactory) -> None:
    """In a version: which. Refused: why. Admitted to a round that gave no version: neither, and that is said."""
    log = tell().log
    with synced(tmp_path_factory.mktemp("history") / "h.duckdb", log) as history:
        decided = history.ask("SELECT task, update_id, outcome, version FROM updates WHERE decided_at IS NOT NULL").rows
    kinds = set()
    for task, update, outcome, version in decided:
        if outcome == "admitted" and version is None:
            with pytest.raises(ReceiptMissing, match="no version"):
                find(log, task, update=update, trust=TRUST)
            continue
        receipt = find(log, task, update=update, trust=TRUST)
        proven = check(receipt, KEY.public_key)
        assert (proven.update, proven.task, proven.outcome, proven.version) == (update, task, outcome, version)
        kinds.add(type(receipt))
    assert kinds == {Inclusion, Exclusion}


def test_who_is_no_operator_makes_none_of_a_private_admission(tmp_path: Path) -> None:
    """It says a clip scale, a digest, and whether the update counts; of a public task, or a refusal, it may be made."""
    log = tell().log
    with synced(tmp_path / "h.duckdb", log) as history:
        decided = history.ask(
            """SELECT task, any_value(update_id), private, outcome = 'admitted' FROM updates JOIN tasks USING (task)
            WHERE updates.version > 0 OR outcome <> 'admitted' GROUP BY ALL"""
        ).rows
    kinds = set()
    for task, update, private, admitted in decided:
        kinds.add((private, admitted))
        if private and admitted:
            with pytest.raises(ReceiptWithheld, match="operator"):
                find(log, task, update=update, trust=TRUST, is_operator=False)
        else:
            assert find(log, task, update=update, trust=TRUST, is_operator=False)
    assert len(kinds) == 4


def test_an_unknown_update_has_none() -> None:
    """Nor has one of another task."""
    with pytest.raises(ReceiptMissing, match="answers are kept for an hour"):
        find(tell().log, "digits", update="0" * 32, trust=TRUST)
