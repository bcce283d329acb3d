"""Many devices of one process at once: each with its own membership, and a token where it has none yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from client_agent.enrolling.enrolment import enrol_all
from client_agent.enrolling.membership import Membership
from client_agent.identity import Identity
from client_agent.link import Link


def enrol_crowd(
    link: Link, identities: Mapping[int, Identity], *, folder: Path, population: str, tokens: Sequence[bytes]
) -> dict[int, Membership]:
    """The membership of each device, whose number is that of its token. Raises EnrolmentFailed."""
    members = {number: Membership(folder / one.label, population, one) for number, one in identities.items()}
    # Those of an earlier run have their certificate already, and a token is good once.
    wishes = [(one, tokens[at]) for at, one in members.items() if at < len(tokens) and one.certificate is None]
    enrol_all(link, wishes)
    return members
