"""Whatever is asked of a gateway, no answer says that it is at fault; `make fuzz` asks much more."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.gateway import exchange
from tests.trials import fuzzing


def test_no_request_makes_a_gateway_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: requests drawn from the protocol itself, with a lease and without, are answered or refused."""
    monkeypatch.setattr(exchange, "WAIT_S_MAX", 0.01)
    answered = fuzzing.fuzz_gateway(tmp_path, examples=1)
    assert {200, 404} <= answered.keys()
    assert max(answered) < 500
