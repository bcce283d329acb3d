"""From a token to a certificate: the device asks with the key that it made, until it has an answer."""

from __future__ import annotations

import time
from collections.abc import Callable

from client_agent.enrolling.membership import Membership
from client_agent.link import Link, LinkUnavailable
from schemas.canonical import MalformedError, decode
from schemas.certificates import parse_certified
from schemas.errors import EXIT_NO, FedlogError
from schemas.events import Enrolled, EnrolmentRefused
from schemas.identity.tokens import EnrolmentToken
from schemas.signing import parse_signed

WITHIN_S = 60.0
AGAIN_S = 5.0

# What whoever holds the device can do about a refusal, by its reason.
REMEDIES = {
    "bad_token": "no operator of this deployment has signed the token: ask for another one",
    "token_expired": "a token is good for ten minutes: ask for another one",
    "token_spent": "another device has used the token already; tell whoever gave it to you, and ask for another one",
    "other_device": "the token is for another device: ask for one of your own",
    "other_subject": "the key of this folder belongs to somebody else: start with an empty folder",
    "other_class": "you are enrolled in another class: ask for a token of that class",
    "no_enrolment": "nobody enrols devices of this class now: the operator opens it with `fedlog enrol open`",
    "enrolment_over": "the time for enrolling is over: the operator opens it again with `fedlog enrol open`",
    "quota": "as many as may have enrolled already: the operator opens it again with `fedlog enrol open`",
    "revoked": "the device was revoked: start with an empty folder and another token, or ask the operator",
    "forgotten": "whoever the token is for asked to be forgotten, and cannot enrol here again",
    "not_enrolled": "the device is not enrolled: ask for a token, and give it with --enrol",
    "certificate_expired": "the certificate ran out before it was renewed: ask for a token, and give it with --enrol",
}


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
    claims = read_claims(token)
    message = membership.make_request(token, deployment=claims.deployment)
    end_s, again_s = read_clock_s() + WITHIN_S, 0.0
    while (now_s := read_clock_s()) < end_s:
        if now_s >= again_s:
            # The same bytes again: a registrar that has decided repeats its answer.
            link.enrol(membership.population, message)
            link.send()
            again_s = now_s + AGAIN_S
        if _take_answers(link, membership):
            return
    raise EnrolmentFailed(f"no registrar has answered within {WITHIN_S:g} s; is `fedlog worker registrar` running?")


def describe_refusal(reason: str) -> str:
    """A refusal with what to do about it."""
    return f"{reason}: {REMEDIES.get(reason, 'ask the operator')}"


def _take_answers(link: Link, membership: Membership) -> bool:
    try:
        answers = link.read_answers(0.5)
    except LinkUnavailable:
        return False
    for answer in answers:
        if isinstance(answer, Enrolled | EnrolmentRefused) and membership.take(answer):
            if isinstance(answer, EnrolmentRefused):
                raise EnrolmentFailed(describe_refusal(answer.reason))
            return membership.certificate is not None
    return False
