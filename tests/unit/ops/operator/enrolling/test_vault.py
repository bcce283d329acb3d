"""The vault: one subject a name, and no way back once its salt is gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.operator.enrolling.vault import SubjectForgotten, SubjectUnknown, Vault
from schemas.identity.pseudonyms import compute_mark
from tests.worlds.builders import DEPLOYMENT, KEY

SUBJECTS = KEY.derive_subjects(DEPLOYMENT)
ADA = compute_mark(SUBJECTS, "ada@example.org", population="hospitals")


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    """An empty one."""
    return Vault(tmp_path / "keys" / "subjects.vault")


def test_a_name_is_one_subject_each_time(vault: Vault) -> None:
    """A second key of a person is the same subject, and in another population another one, which no table links."""
    other = compute_mark(SUBJECTS, "ada@example.org", population="schools")
    assert vault.find_or_draw(ADA) == vault.find_or_draw(ADA)
    assert vault.find_or_draw(ADA) != vault.find_or_draw(other)
    assert vault.find_mark(vault.find_or_draw(ADA)) == ADA


def test_a_forgotten_name_is_known_and_its_subject_is_not(vault: Vault) -> None:
    """Guarantee: nothing leads from the mark to the subject any more, and the name gets no other one."""
    subject = vault.find_or_draw(ADA)
    vault.forget(ADA)
    with pytest.raises(SubjectForgotten):
        vault.find_or_draw(ADA)
    with pytest.raises(SubjectUnknown):
        vault.find_mark(subject)


def test_a_deleted_salt_is_not_in_the_file_any_more(vault: Vault, tmp_path: Path) -> None:
    """Guarantee: what is deleted is overwritten, so that the file alone gives nothing back."""
    path = tmp_path / "keys" / "subjects.vault"
    vault.find_or_draw(ADA)
    with vault._open() as file:
        [[salt]] = file.execute("SELECT salt FROM subjects")
    assert salt in path.read_bytes()
    vault.forget(ADA)
    assert salt not in path.read_bytes()
    assert ADA in path.read_bytes()


def test_the_vault_holds_no_name_and_is_its_owner_s_alone(vault: Vault, tmp_path: Path) -> None:
    """Guarantee: whoever steals the file alone can try no names, and others on the machine cannot read it."""
    vault.find_or_draw(ADA)
    path = tmp_path / "keys" / "subjects.vault"
    assert b"ada" not in path.read_bytes()
    assert path.stat().st_mode & 0o077 == 0
    assert compute_mark(bytes(32), "ada@example.org", population="hospitals") != ADA
