"""Whatever is asked of the API, no answer says that the server is at fault; `make fuzz` asks much more."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.web.access import gate
from ops.web.api import asked
from tests.trials import fuzzing


@pytest.mark.parametrize(("role", "examples"), [("admin", 2), ("viewer", 1)])
def test_no_request_makes_the_server_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str, examples: int
) -> None:
    """Requests drawn from the description of each operation, and beside it; a viewer's change nothing at all."""
    monkeypatch.setattr(gate, "Limiter", gate.Limiter)
    monkeypatch.setattr(asked, "REACH_WAIT_S", asked.REACH_WAIT_S)
    fuzzing.open_the_gates()
    answered = fuzzing.fuzz(tmp_path, examples=examples, role=role)  # type: ignore[arg-type]
    assert answered[200] > 0
    assert max(answered) < 500
    assert role == "admin" or not answered.keys() & {201, 202}
