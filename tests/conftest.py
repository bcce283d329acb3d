"""What every test shares: how hypothesis searches and reports, and which tests need a broker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

# The blob that a failure prints reproduces it; shared machines make deadlines lie.
settings.register_profile("fedlog", print_blob=True, deadline=None)
settings.load_profile("fedlog")


@pytest.fixture(autouse=True)
def _own_log() -> Iterator[None]:
    """A console command sets the log up on the stderr of its own test, which is closed when the next one writes."""
    yield
    structlog.reset_defaults()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies under tests/integration, so that no test there runs in `make test-fast` by oversight.

    The log's contract over the in-memory log needs no broker, and is not marked.
    """
    for item in items:
        under = Path(__file__).with_name("integration") in item.path.parents
        if under and getattr(item, "callspec", None) is not None and item.callspec.params.get("log") == "memory":
            continue
        if under:
            item.add_marker(pytest.mark.integration)
