"""The page of the history describes the tables that there are."""

from __future__ import annotations

from tests.trials.history_page import PAGE, write


def test_the_page_is_what_the_tables_say() -> None:
    """`python -m tests.trials.history_page` writes it."""
    page = PAGE.read_text()
    assert write(page) == page
