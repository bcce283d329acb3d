"""Requests that nobody would think of, from the descriptions of API and gateway: no answer calls the server at fault.

python -m tests.trials.fuzzing --examples 500
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.python.asgi import HOST, shutdown_lifespans

from ops.gateway import exchange
from ops.web.access import gate
from ops.web.access.limiting import Limiter
from ops.web.api import asked
from ops.web.app import make_app
from ops.web.callers import Role
from schemas.http.device_protocol import PARTIAL_TYPE, RECORD_TYPE
from tests.serving import make_token, opened_site
from tests.worlds.device_world import large
from tests.worlds.gateway.asking import carrying, opened
from tests.worlds.story import told

# What devices send is bytes, whatever stands in them.
schemathesis.serializer(RECORD_TYPE, PARTIAL_TYPE)(lambda context, value: _write_bytes(value))
# It never ends by itself; tests of its own follow it.
STREAM = "/api/v1/events/stream"


def fuzz(folder: Path, *, examples: int, role: Role = "admin") -> Counter[int]:
    """So many requests of each operation, by a token of this role; how often each status was answered.

    Raises AssertionError, with the request, for an answer of 500 or more.
    """
    answered: Counter[int] = Counter()
    # A log of its own: an admin's requests may well change something.
    with opened_site(folder, told().log) as (site, _):
        app = make_app(replace(site, hosts=site.hosts | {HOST}))
        schema = schemathesis.openapi.from_asgi("/api/v1/openapi.json", app, headers=_sign(site.tokens, role))
        try:
            for result in schema.exclude(path=STREAM).get_all_operations():
                _fuzz_operation(result.ok(), examples, headers=_sign(site.tokens, role), answered=answered)
        finally:
            shutdown_lifespans()
    return answered


def fuzz_gateway(folder: Path, *, examples: int) -> Counter[int]:
    """The same of a gateway over HTTP, as somebody who has a lease, and as nobody; raises AssertionError likewise."""
    answered: Counter[int] = Counter()
    with opened(folder, large()) as behind:
        schema = schemathesis.openapi.from_url(f"{behind.url}/v1/openapi.json")
        # A stranger has none, and of a lease that is good nobody may make the gateway fail either.
        for headers in ({}, carrying(behind.lease())):
            for result in schema.get_all_operations():
                _fuzz_operation(result.ok(), examples, headers=headers, answered=answered)
        # It is still there, and takes what is in order.
        assert behind.ask("GET", "/readyz").status == 200
    return answered


def _fuzz_operation(
    operation: schemathesis.APIOperation, examples: int, *, headers: dict[str, str], answered: Counter[int]
) -> None:
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy())
    def ask(case: schemathesis.Case) -> None:
        answer = case.call(headers=headers)
        answered[answer.status_code] += 1
        case.validate_response(answer, checks=[not_a_server_error])

    ask()


def _write_bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else repr(value).encode()


def _sign(tokens: object, role: Role) -> dict[str, str]:
    return {"Authorization": f"Bearer {make_token(tokens, role)}"}  # type: ignore[arg-type]


def open_the_gates() -> None:
    """Let the fuzz ask as often as it can, and wait for no position that it has made up."""
    gate.Limiter = lambda rate_per_s, burst: Limiter(1e9, burst=10**9)  # type: ignore[assignment, misc]
    asked.REACH_WAIT_S = exchange.WAIT_S_MAX = 0.01


def main() -> None:
    """Fuzz every operation of the API as an admin and as a viewer, and those of a gateway; print what was answered."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=200)
    examples = parser.parse_args().examples
    open_the_gates()
    for role in ("admin", "viewer"):
        with tempfile.TemporaryDirectory() as folder:
            print(role, dict(sorted(fuzz(Path(folder), examples=examples, role=role).items())))  # noqa: T201
    with tempfile.TemporaryDirectory() as folder:
        print("gateway", dict(sorted(fuzz_gateway(Path(folder), examples=examples).items())))  # noqa: T201


if __name__ == "__main__":
    main()
