"""One history for all tests of the server that only look: to write one takes longer than most questions to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from ops.web.access.watchers import Watchers
from ops.web.changes import Changes
from tests.serving import Served, opened_site


@pytest.fixture(scope="session")
def _kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with opened_site(tmp_path_factory.mktemp("served")) as found:
        yield found


@pytest.fixture
def served(_kept: Served) -> Served:
    """A site on the story's history, and the history; whoever changes either opens one of its own."""
    site, history = _kept
    # A loop of its own for each test, and nobody else's open streams.
    return dataclasses.replace(site, changes=Changes(site.reader), watchers=Watchers()), history
