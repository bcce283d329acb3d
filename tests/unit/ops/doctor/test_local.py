"""What this machine holds: files with secrets and their modes, and what is good until a day."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from actors import keys
from ops.doctor import local
from ops.doctor.facts import Facts
from ops.doctor.gathering import read_projection
from ops.doors.authority import CertificateAuthority, LeafRequest
from ops.settings import Settings
from tests.worlds.builders import role_key
from tests.worlds.ops_journal import write_key

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def settings(folder: Path) -> Settings:
    folder.chmod(0o700)
    return Settings().move(folder)


def test_secrets_are_looked_at_wherever_they_lie(tmp_path: Path) -> None:
    """The operator's key, keys of roles and of authorities, the broker's password: each with its mode."""
    write_key(tmp_path / "operator.key")
    authority = CertificateAuthority.create(tmp_path / "ca", now=BEGAN)
    leaf = authority.issue(LeafRequest(name="gateway", hosts=("localhost",)), now=BEGAN)
    leaf.key.chmod(0o640)
    found = {
        Path(file.path).relative_to(tmp_path).as_posix(): file.mode
        for file in local.list_private_files(settings(tmp_path))
    }
    assert found == {".": 0o700, "operator.key": 0o600, "ca/authority.key": 0o600, "ca/issued/gateway.key": 0o640}


def test_ends_of_keys_and_certificates_are_known(tmp_path: Path) -> None:
    """A role's key, an authority and what it issued, each with the command that renews it; other files say nothing."""
    key = role_key("selector")
    keys.save_role(key, tmp_path / "selector.key")
    write_key(tmp_path / "operator.key")
    authority = CertificateAuthority.create(tmp_path / "ca", now=BEGAN, days=400)
    authority.issue(LeafRequest(name="gateway", hosts=("localhost",), days=90), now=BEGAN)
    role, root, leaf = local.list_expiring(settings(tmp_path))
    assert (role.until_ms, "key issue --for selector" in role.renew) == (key.until_ms, True)
    day_ms, began_ms = 86_400_000, int(BEGAN.timestamp() * 1000)
    assert [round((each.until_ms - began_ms) / day_ms) for each in (root, leaf)] == [400, 90]
    assert leaf.renew == "fedlog ca renew gateway"


def test_where_there_is_no_history_there_is_no_finding(tmp_path: Path) -> None:
    """No file is no projection; a file that is none is told as one that cannot be read."""
    assert read_projection(tmp_path / "history.duckdb") is None
    (tmp_path / "history.duckdb").write_text("not a history")
    found = read_projection(tmp_path / "history.duckdb")
    assert found is not None
    assert found.unreadable
    assert Facts(now_ms=0).projection is None
