"""The protocol's description is what a gateway speaks, and what the page for people says."""

from __future__ import annotations

import json
import re
from pathlib import Path

from starlette.routing import Route

from ops.gateway.access.limits import ALIVE, READY
from ops.gateway.app import make_app
from ops.gateway.running import open_gateway
from schemas.http.openapi import CAPABILITIES, OPERATIONS, describe_protocol
from schemas.topics import CATALOGUE
from streams.memory import MemoryLog
from tests.root import ROOT
from tests.worlds.builders import KEY
from tests.worlds.gateway.asking import opened

PAGE = (ROOT / "docs" / "device-protocol.md").read_text()


def list_routes(folder: Path) -> set[tuple[str, str]]:
    """Every method and path that a gateway answers, but for those of balancers."""
    gateway, _ = open_gateway(MemoryLog(CATALOGUE), folder, operator=KEY.public_key)
    routes = [route for route in make_app(gateway).routes if isinstance(route, Route)]
    return {
        (method.lower(), route.path)
        for route in routes
        for method in route.methods or ()
        # Starlette answers HEAD wherever it answers GET.
        if route.path not in (ALIVE, READY) and not (method == "HEAD" and "GET" in (route.methods or ()))
    }


def test_every_route_is_described_and_no_other(tmp_path: Path) -> None:
    """Guarantee: a client made from the description meets what it says."""
    described = {(one.method, one.path) for one in OPERATIONS}
    assert described == list_routes(tmp_path)
    names = [one.name for one in OPERATIONS]
    assert len(names) == len(set(names))


def test_the_page_names_the_same_requests() -> None:
    """Guarantee: people and programs read of the same requests; what is in capitals there is a name in braces here."""
    told = {
        (method.lower(), re.sub("[A-Z0-9]{4,}", "{}", path).replace("LOCATION", "/v1/uploads/{}"))
        for row in re.findall(r"^\| (`(?:GET|POST|HEAD|PATCH|DELETE|OPTIONS) [^|]+)\|", PAGE, re.MULTILINE)
        for method, path in re.findall(r"`([A-Z]+) ([^` ]+)`", row)
    }
    told = {(method, "/v1/uploads/{}" if path == "{}" else path) for method, path in told}
    described = {(one.method, re.sub(r"\{\w+\}", "{}", one.path)) for one in OPERATIONS}
    assert told - {("get", ALIVE), ("get", READY)} == described


def test_every_refusal_stands_on_the_page() -> None:
    """Guarantee: whoever meets a code finds there what to do."""
    sources = [path.read_text() for path in (ROOT / "ops" / "gateway").rglob("*.py")]
    codes = {code for text in sources for code in re.findall(r'\bcode(?: = |=)"([a-z_]+)"', text)}
    # Words of classes that always say more, of the command line, and of our own faults.
    codes -= {"refused", "not_proven", "signature_old", "conflict", "overloaded", "unexpected"}
    codes -= {"limit_unreadable", "redis_unfit"}
    section = PAGE.split("## Refusals")[1]
    assert sorted(codes - set(re.findall("`([a-z_]+)`", section))) == []


def test_it_is_handed_out(tmp_path: Path) -> None:
    """Guarantee: a gateway tells the description itself, and what of it the gateway can do."""
    with opened(tmp_path) as behind:
        told = behind.ask("GET", "/v1/openapi.json")
        assert told.headers["content-type"] == "application/json"
        assert json.loads(told.data) == json.loads(json.dumps(describe_protocol()))
        assert json.loads(behind.ask("GET", "/v1/capabilities").data)["capabilities"] == list(CAPABILITIES)
