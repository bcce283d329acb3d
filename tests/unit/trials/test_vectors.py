"""The vectors that clients in other languages are held to are what this package writes."""

from __future__ import annotations

import pytest

from tests.trials.typescript.vectors import FILES, FOLDER, make_text


@pytest.mark.parametrize("name", sorted(FILES))
def test_vectors_are_what_is_written(name: str) -> None:
    """A change of the bytes shows in the vectors, so that whoever wrote a client hears of it."""
    assert (FOLDER / name).read_text() == make_text(name), "python -m tests.trials.typescript.vectors writes them anew"


def test_every_vector_has_its_source() -> None:
    """No file of vectors is left behind that nothing writes."""
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(FILES)
