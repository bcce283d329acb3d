"""A server of the gallery for the browser: it can be ended and started again, and its federation goes on."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import uvicorn

from ops.web.app import make_app
from ops.web.changes import Changes
from ops.web.reaching import LogReach
from ops.web.serving import listen
from ops.web.site import Site
from streams.log import Bounds, LogUnavailable, TopicPartition
from tests.gallery import MAIN, Gallery
from tests.serving import make_token
from tests.trials.page.watched import ASKED, ATTACKED, RELEASED, WatchedGallery


class Painted:
    """A gallery and the server of its history, on one port for all its lives."""

    def __init__(self, site: Site, *, gallery: Gallery) -> None:
        self.site, self.gallery = dataclasses.replace(site, kill=lambda: "It is dead."), gallery
        self.token = make_token(site.tokens, "admin")
        self.port = 0
        # Whether the log, which the server asks if it is there, refuses to say so.
        self.is_cut = False
        self._reach = LogReach(self._open_log)
        self._server: Any = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._reach.__enter__()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._reach.__exit__()

    def start(self) -> None:
        """Listen, on the port of the life before if there was one."""
        listening = listen("127.0.0.1", self.port)
        self.port = listening.getsockname()[1]
        # Each life has a loop of its own, and so its own watcher of what is new.
        changes = Changes(self.site.reader, is_log_away=lambda: self._reach.is_away)
        site = dataclasses.replace(self.site, changes=changes, find_log=lambda: self._reach.state)
        config = uvicorn.Config(make_app(site), log_level="error", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listening],), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it as a kill would: open streams break off."""
        self._server.should_exit = self._server.force_exit = True
        assert self._thread is not None
        self._thread.join(timeout=20)

    def go_on(self, updates: int) -> None:
        """The federation takes so many updates more; the site follows its log by itself."""
        until = self.gallery._admitted() + updates
        self.gallery._run(lambda: self.gallery._admitted() >= until)

    def find_written_end(self, at: TopicPartition) -> int:
        """As the log says it, unless it is cut off."""
        if self.is_cut:
            raise LogUnavailable("cut off")
        return self.gallery.log.find_written_end(at)

    def list_bounds(self, places: Collection[TopicPartition]) -> Mapping[TopicPartition, Bounds]:
        """The same."""
        return self.gallery.log.list_bounds(places)

    @property
    def partitions(self) -> int:
        """As many as the gallery has."""
        return self.gallery.log.partitions

    @contextmanager
    def _open_log(self) -> Iterator[Any]:
        yield self


def list_views(painted: Painted) -> dict[str, str]:
    """A name and an address for each view."""
    ask = painted.site.reader.ask
    [[device]] = ask("SELECT device FROM devices ORDER BY admitted DESC, device LIMIT 1").rows
    sql = """SELECT topic, "partition", "offset" FROM versions WHERE task = $task AND version = 12"""
    [[topic, partition, offset]] = ask(sql, parameters={"task": MAIN}).rows
    return {
        "tasks": "/tasks",
        "task": f"/tasks/{MAIN}",
        "task-then": f"/tasks/{MAIN}?at={MAIN}@9",
        "measured": f"/tasks/{ASKED}",
        "attacked": f"/tasks/{ATTACKED}",
        "released": f"/tasks/{RELEASED}",
        "version": f"/tasks/{MAIN}/versions/12",
        "events": f"/events?task={MAIN}",
        "record": f"/records/{topic}/{partition}/{offset}",
        "devices": "/devices",
        "device": f"/devices/{device}",
        "privacy": "/privacy",
        "system": "/system",
        "fork": f"/tasks/{MAIN}/fork?version=12",
        "close": f"/tasks/{MAIN}/close",
    }


def open_gallery() -> Gallery:
    """A gallery of its own, played to where the pictures begin."""
    gallery = WatchedGallery()
    gallery.play()
    return gallery
