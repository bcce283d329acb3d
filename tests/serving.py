"""A server in this process, over the story's history, for tests: clients with a token of each role."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from starlette.testclient import TestClient

from client_agent.learning.allow_list import AllowList
from ops.audit.replay import Anchor
from ops.history.tables.duckdb_file import HistoryFile
from ops.history.tables.projector import Viewer
from ops.history.tables.syncing import sync
from ops.operator.deployments import find, issue_key
from ops.web.access.tokens import TokenKey, open_key
from ops.web.app import make_app
from ops.web.callers import Role
from ops.web.changes import Changes
from ops.web.evidence import Evidence
from ops.web.operating import Operator
from ops.web.reading import OwnHistory
from ops.web.site import Site
from schemas.creations import STEWARD
from streams.log import EventLog
from tests.learners import PAIR_LEARNER
from tests.tables import synced, tell
from tests.worlds.builders import KEY

BASE = "http://127.0.0.1:8700"
Served = tuple[Site, HistoryFile]


@contextmanager
def opened_site(folder: Path, log: EventLog | None = None, *, role: str = STEWARD) -> Iterator[Served]:
    """A site on the history of a log, by default the story's; `role` is what the server's key is for."""
    story = log or tell().log
    viewer = Viewer(operator=KEY.public_key, deployment=find(story, KEY.public_key), is_operator=True)
    with synced(folder / "history.duckdb", story, viewer) as history, _followed(story, history, viewer):
        reader = OwnHistory(history)

        @contextmanager
        def open_log() -> Iterator[EventLog]:
            yield story

        yield (
            Site(
                reader=reader,
                hidden=OwnHistory(history, hides=True),
                operator=Operator(
                    open_log,
                    open_bodies=open_log,
                    find_key=partial(issue_key, key=KEY, role=role),
                    reader=reader,
                    allows=AllowList(names=frozenset([PAIR_LEARNER])),
                    believes=KEY.public_key,
                ),
                changes=Changes(reader),
                tokens=open_key(folder)[0],
                hosts=frozenset(["127.0.0.1", "localhost"]),
                deployment="test",
                evidence=Evidence(open_log, Anchor(operator=KEY.public_key, noise=KEY.find_noise)),
            ),
            history,
        )


class Unhurried(threading.Event):
    """Asked by whoever follows a log, it first waits a little, as a poll of Kafka does.

    A log in memory answers at once: its follower would never let go of the interpreter, and everybody else would wait.
    """

    def is_set(self) -> bool:
        return self.wait(0.02)


@contextmanager
def _followed(log: EventLog, history: HistoryFile, viewer: Viewer) -> Iterator[None]:
    stop = Unhurried()
    following = threading.Thread(target=sync, args=(log, history), kwargs={"viewer": viewer, "stop": stop})
    following.start()
    try:
        yield
    finally:
        stop.set()
        following.join()


def make_client(site: Site, role: Role | None = "viewer") -> TestClient:
    """A client with a token of this role; None has none."""
    # What fails within the server fails the test, and is no answer of 500.
    client = TestClient(make_app(site), base_url=BASE, follow_redirects=False)
    if role is not None:
        client.headers["Authorization"] = f"Bearer {make_token(site.tokens, role)}"
    return client


def make_token(tokens: TokenKey, role: Role) -> str:
    """A token of this role."""
    return tokens.issue(subject=f"an {role}" if role[0] in "ao" else f"a {role}", role=role, expires_s=600)
