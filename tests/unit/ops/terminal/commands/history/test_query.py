"""What a question leaves behind in the process that asked it."""

from __future__ import annotations

import gc

import pytest

from ops.terminal.commands.history.query import collecting_later


@pytest.mark.parametrize("fails", [False, True])
def test_after_a_question_garbage_is_looked_for_again(fails: bool) -> None:
    """Guarantee: also after one that failed; a program of the user's that has switched it off finds it off."""
    for was_enabled in (True, False):
        (gc.enable if was_enabled else gc.disable)()
        try:
            with collecting_later():
                assert not gc.isenabled()
                if fails:
                    raise LookupError
        except LookupError:
            pass
        finally:
            found = gc.isenabled()
            gc.enable()
        assert found is was_enabled
