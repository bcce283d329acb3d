"""Tasks that were put aside, and ages as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.terminal.archive import AgeInvalid, parse_age_s, read_names, write_name


def test_a_task_is_put_aside_and_taken_back(tmp_path: Path) -> None:
    """Guarantee: the list is the folder's own; a spoilt one hides nothing."""
    assert read_names(tmp_path) == set()
    write_name(tmp_path, "a", is_archived=True)
    write_name(tmp_path, "b", is_archived=True)
    write_name(tmp_path, "a", is_archived=False)
    assert read_names(tmp_path) == {"b"}
    (tmp_path / "archived.json").write_text("{")
    assert read_names(tmp_path) == set()


def test_an_age_is_a_number_and_a_unit() -> None:
    """Guarantee: anything else is refused, with examples."""
    assert [parse_age_s(text) for text in ("90m", "24h", "7d")] == [5_400, 86_400, 604_800]
    for wrong in ("", "7", "7w", "-1h", "1.5h"):
        with pytest.raises(AgeInvalid, match="90m, 24h or 7d"):
            parse_age_s(wrong)
