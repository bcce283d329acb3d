"""The digest of the code behind a policy: the same source has the same, a changed one has another."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from client_agent.learning.sources import hash_sources, list_differences
from tests.worlds.builders import policy, task_created


def test_what_trains_is_part_of_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each plugin of the policy has the digest of its file, and a device whose file differs knows which."""
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "my_traced_model.py"
    file.write_text("def net(): ...\ndef data(part): ...\n")
    rules = policy(model="my_traced_model:net", data="my_traced_model:data")
    sources = hash_sources(rules)
    digest = hashlib.sha256(file.read_bytes()).digest()
    assert sources == {"my_traced_model:net": digest, "my_traced_model:data": digest}
    created = task_created(rules, sources=sources)
    assert list_differences(created) == []
    file.write_text("def net(): return 1\ndef data(part): ...\n")
    assert list_differences(created) == ["my_traced_model:net", "my_traced_model:data"]
    # A record may name the source of anything: it differs, and is not imported to find that out.
    (tmp_path / "my_untold_module.py").write_text("")
    created = task_created(rules, sources={**hash_sources(rules), "my_untold_module:f": digest})
    assert list_differences(created) == ["my_untold_module:f"]
    assert "my_untold_module" not in sys.modules
    del sys.modules["my_traced_model"]
