"""Requests that were changed at random: the share of them that every run of the tests tries."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.gateway import exchange, uploads
from ops.gateway.access.wire import StrictHttp
from schemas.canonical import MalformedError
from schemas.http.device_protocol import read_bytes
from tests.trials.attacks.mutations import attack


def test_no_change_of_a_request_is_our_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: whatever becomes of a request on its way, the answer is no 5xx; `make fuzz` tries a million."""
    for name, home in (("ask_wait_s", StrictHttp), ("BODY_WAIT_S", exchange), ("SILENCE_S", uploads)):
        # Put back at the end: the attack sets them too.
        monkeypatch.setattr(home, name, 0.2)
    answered = attack(tmp_path, requests=300, seed=20_261_127, say=lambda text: None)
    assert answered.total() == 300
    # Most of what was changed is still a request, and is refused for a reason.
    assert sum(count for status, count in answered.items() if 400 <= status < 500) > 100


@pytest.mark.parametrize("text", [":\u0093:", ":a:", ":", "::::", ":YQ=", "YQ==", ":Y Q==:", ":\xff\xfe:"])
def test_a_header_that_holds_no_bytes_is_told_so(text: str) -> None:
    """Guarantee: letters of any kind are no fault of ours. Found by the attack above."""
    with pytest.raises(MalformedError):
        read_bytes(text)
