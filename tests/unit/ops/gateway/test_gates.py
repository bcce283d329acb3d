"""What stands before every route of a gateway: a log that is not read yet, and pages of foreign origins."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ops.gateway.app import make_app
from ops.gateway.gates import Outside
from ops.gateway.running import open_gateway
from schemas.http.device_protocol import LEASE, RETRY
from schemas.topics import CATALOGUE
from streams.memory import MemoryLog
from tests.worlds.builders import KEY

ORIGIN = "https://phones.example"


class Asked:
    """An application that is asked without a server; nothing has read its log."""

    def __init__(self, folder: Path, *, origins: tuple[str, ...] = (), is_complete: bool = True) -> None:
        gateway, _ = open_gateway(MemoryLog(CATALOGUE), folder, operator=KEY.public_key)
        if is_complete:
            gateway.catalogue.is_complete.set()
        self._app = make_app(gateway, Outside(origins=origins))

    def ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of one answer."""
        return asyncio.run(self._ask(method, path, dict(headers or {})))

    async def _ask(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        named = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b""}
        await self._app({**scope, "headers": named, "root_path": "", "scheme": "http"}, receive, send)
        told = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], told, b"".join(part.get("body", b"") for part in sent[1:])


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/tasks/rings"), ("POST", "/v1/check-ins"), ("GET", "/readyz")]
)
def test_before_the_log_is_read_nobody_is_told_what_there_is(method: str, path: str, tmp_path: Path) -> None:
    """Guarantee: a gateway that has just started says so, and no device takes its task or lease for unknown."""
    status, headers, body = Asked(tmp_path, is_complete=False).ask(method, path)
    assert (status, RETRY.lower() in headers) == (503, True)
    assert json.loads(body)["code"] == "starting"


def test_health_is_told_before_the_log_is_read(tmp_path: Path) -> None:
    """A process that reads a long log is alive; once it is read, an unknown task is unknown."""
    assert Asked(tmp_path, is_complete=False).ask("GET", "/healthz")[0] == 200
    assert Asked(tmp_path).ask("GET", "/v1/tasks/rings")[0] == 404


def test_a_page_of_a_named_origin_may_ask(tmp_path: Path) -> None:
    """Guarantee: a browser is let through with all that a device sends, reads refusals, and no other origin is."""
    asked = Asked(tmp_path, origins=(ORIGIN,), is_complete=False)
    wish = {"Access-Control-Request-Method": "PATCH", "Access-Control-Request-Headers": f"{LEASE}, signature"}
    status, headers, _ = asked.ask("OPTIONS", "/v1/uploads/a", {"Origin": ORIGIN, **wish})
    assert (status, headers["access-control-allow-origin"]) == (200, ORIGIN)
    status, headers, _ = asked.ask("GET", "/v1/tasks/rings", {"Origin": ORIGIN})
    assert (status, headers["access-control-allow-origin"]) == (503, ORIGIN)
    assert RETRY in headers["access-control-expose-headers"]
    status, headers, _ = asked.ask("OPTIONS", "/v1/uploads/a", {"Origin": "https://elsewhere.example", **wish})
    assert (status, "access-control-allow-origin" in headers) == (400, False)


def test_without_an_origin_there_is_no_word_of_origins(tmp_path: Path) -> None:
    """Guarantee: off unless configured."""
    _, headers, _ = Asked(tmp_path).ask("GET", "/v1/tasks/rings", {"Origin": ORIGIN})
    assert not [name for name in headers if name.startswith("access-control")]
