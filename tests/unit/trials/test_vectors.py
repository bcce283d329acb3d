"""The vectors that clients in other languages are held to are what this package writes."""

from __future__ import annotations

import json

import pytest

from tests.judges.sealing.opening import decrypt
from tests.trials.typescript.vectors import FILES, FOLDER, make_text


@pytest.mark.parametrize("name", sorted(FILES))
def test_vectors_are_what_is_written(name: str) -> None:
    """A change of the bytes shows in the vectors, so that whoever wrote a client hears of it."""
    assert (FOLDER / name).read_text() == make_text(name), "python -m tests.trials.typescript.vectors writes them anew"


def test_sealed_vectors_open_for_whoever_follows_the_standards() -> None:
    """RFC 9180 and X-Wing, written anew, open what this package seals: another language needs no code of ours."""
    for case in json.loads((FOLDER / "sealed.json").read_text())["cases"]:
        given = {name: bytes.fromhex(case[name]) for name in ("secret", "info", "envelope", "plaintext")}
        assert decrypt(given["envelope"], given["secret"], given["info"]) == given["plaintext"]
        assert len(given["plaintext"]) in case["sizes"]


def test_every_vector_has_its_source() -> None:
    """No file of vectors is left behind that nothing writes."""
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(FILES)
