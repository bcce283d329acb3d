"""What whoever holds a device can do about a refusal, by its reason: said by devices, and by a gateway at its door."""

from __future__ import annotations

REMEDIES = {
    "bad_token": "no operator of this deployment has signed the token: ask for another one",
    "token_expired": "a token is good for ten minutes: ask for another one",
    "token_spent": "another device has used the token already; tell whoever gave it to you, and ask for another one",
    "other_device": "the token is for another device: ask for one of your own",
    "other_subject": "the key of this folder belongs to somebody else: start with an empty folder",
    "other_class": "you are enrolled in another class: ask for a token of that class",
    "other_population": "the certificate is for another population: ask for a token of this one",
    "no_enrolment": "nobody enrols devices of this class now: the operator opens it with `fedlog enrol open`",
    "enrolment_over": "the time for enrolling is over: the operator opens it again with `fedlog enrol open`",
    "quota": "as many as may have enrolled already: the operator opens it again with `fedlog enrol open`",
    "revoked": "the device was revoked: start with an empty folder and another token, or ask the operator",
    "forgotten": "whoever the token is for asked to be forgotten, and cannot enrol here again",
    "not_enrolled": "the device is not enrolled: ask for a token, and give it with --enrol",
    "certificate_expired": "the certificate ran out before it was renewed: ask for a token, and give it with --enrol",
}


def describe_refusal(reason: str) -> str:
    """A refusal with what to do about it."""
    return f"{reason}: {REMEDIES.get(reason, 'ask the operator')}"
