"""From a token to a certificate: the device asks with the key that it made, until it has an answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from client_agent.enrolling.membership import Membership
from client_agent.link import Link, LinkUnavailable
from schemas.canonical import MalformedError, decode
from schemas.certificates import parse_certified
from schemas.errors import EXIT_NO, FedlogError
from schemas.events import Enrolled, EnrolmentRefused
from schemas.identity.remedies import describe_refusal
from schemas.identity.tokens import EnrolmentToken
from schemas.signing import parse_signed

WITHIN_S = 60.0
AGAIN_S = 5.0


class EnrolmentFailed(FedlogError):
    """The device is not enrolled; the message says why, and what to do."""

    exit_code = EXIT_NO
    code = "enrolment_failed"


def read_claims(token: bytes) -> EnrolmentToken:
    """What a token says, whoever signed it: a device believes none, and asks. Raises MalformedError."""
    try:
        payload = parse_signed(token).payload
    except MalformedError:
        payload = parse_certified(token).payload
    return decode(payload, EnrolmentToken)


def enrol(
    link: Link, membership: Membership, *, token: bytes, read_clock_s: Callable[[], float] = time.monotonic
) -> None:
    """Ask until the device is enrolled. Raises EnrolmentFailed, also where nobody answers within a minute."""
    enrol_all(link, [(membership, token)], read_clock_s=read_clock_s)


def enrol_all(
    link: Link, wishes: Sequence[tuple[Membership, bytes]], *, read_clock_s: Callable[[], float] = time.monotonic
) -> None:
    """The same for devices of one link, each with its token, at the same time; the first refusal ends it."""
    open_wishes = [
        (membership, membership.make_request(token, deployment=read_claims(token).deployment))
        for membership, token in wishes
    ]
    end_s, again_s = read_clock_s() + WITHIN_S, 0.0
    while open_wishes and (now_s := read_clock_s()) < end_s:
        if now_s >= again_s:
            # The same bytes again: a registrar that has decided repeats its answer.
            for membership, message in open_wishes:
                link.enrol(membership.population, message)
            link.send()
            again_s = now_s + AGAIN_S
        answered = _take_answers(link, [membership for membership, _ in open_wishes])
        open_wishes = [wish for wish in open_wishes if wish[0] not in answered]
    if open_wishes:
        raise EnrolmentFailed(f"no registrar has answered within {WITHIN_S:g} s; is `fedlog worker registrar` running?")


def _take_answers(link: Link, memberships: Sequence[Membership]) -> list[Membership]:
    """Those that have their certificate now."""
    try:
        answers = [one for one in link.read_answers(0.5) if isinstance(one, Enrolled | EnrolmentRefused)]
    except LinkUnavailable:
        return []
    answered = []
    for answer in answers:
        for membership in (one for one in memberships if one.take(answer)):
            if isinstance(answer, EnrolmentRefused):
                raise EnrolmentFailed(describe_refusal(answer.reason))
            # An answer that holds no certificate of this key is none.
            if membership.certificate is not None:
                answered.append(membership)
    return answered
