"""How a name becomes the subject that stands in the log, in two steps that are kept apart.

    mark = HMAC(key of the deployment, population / name)          subject = first half of HMAC(salt, mark)

The salt is random, one for each mark, and outside the log. Whoever deletes it leaves the mark: by that the same name is
known again and refused, and nothing leads from it, or from the name, to the subject any more.
"""

from __future__ import annotations

import hmac

from schemas.events.enrolment import SubjectId
from schemas.identifiers import Population

_SUBJECT_BYTES = 16


def compute_mark(key: bytes, name: str, *, population: Population) -> bytes:
    """32 bytes for a name in a population; without the key nobody can try names."""
    # By population, so that one person in two of them is two subjects, and no table links them.
    return hmac.digest(key, f"fedlog/mark/1/{population}/{name}".encode(), "sha256")


def derive_subject(salt: bytes, mark: bytes) -> SubjectId:
    """The subject of a mark, as long as its salt is there."""
    return hmac.digest(salt, b"fedlog/subject/1/" + mark, "sha256")[:_SUBJECT_BYTES].hex()
