"""What cannot hold together in the tier masked. `checks` asks here."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from msgspec import UNSET

from schemas.policy.sections import NOISE_TAIL_SIGMAS, Policy, find_effective_min

HELPERS_MAX = 2
# A helper names all members in one statement, which has to fit into one record.
MEMBERS_MAX = 4_000
_KEY = re.compile(r"[0-9a-f]{64}\Z")


def find_masking_problems(policy: Policy) -> Iterator[str]:
    """A line for each thing that the tier masked cannot be combined with, or that it lacks."""
    if not policy.is_masked:
        if policy.masked is not UNSET:
            yield f"masked: tier = {policy.tier!r} has no helpers; take tier = 'masked', or leave the table out"
        return
    yield from _find_helper_problems(policy)
    yield from _find_members_problems(policy)
    yield from _find_misfits(policy)
    largest = policy.aggregation.updates_per_round * policy.weight_max * policy.clipping.steps
    # In the ring too where helpers add it; an aggregator adds it outside.
    if policy.masked_by.noise == "helpers":
        largest += policy.noise_draws * NOISE_TAIL_SIGMAS * policy.sigma
    if largest >= 1 << 31:
        yield (
            f"clipping.steps = {policy.clipping.steps}: {policy.aggregation.updates_per_round} updates could sum up to "
            f"2^{math.log2(largest):.1f}, which must stay below 2^31 with tier = 'masked'; take fewer steps or a "
            "smaller K"
        )


def _find_helper_problems(policy: Policy) -> Iterator[str]:
    helpers = policy.masked_by.helpers
    if not 1 <= len(helpers) <= HELPERS_MAX:
        yield (
            f"masked.helpers: tier = 'masked' takes 1 or {HELPERS_MAX} public keys, as `fedlog helper init` prints them"
        )
    for helper in helpers:
        if not _KEY.match(helper):
            yield f"masked.helpers: {helper[:80]!r} is no public key of 64 hex digits"
    # One helper under two numbers would be one that has to be honest, and not one of two.
    if len(set(helpers)) != len(helpers):
        yield "masked.helpers: the same key twice; each helper needs its own"


def _find_members_problems(policy: Policy) -> Iterator[str]:
    rounds = policy.aggregation
    if rounds.members_min < 2:
        yield (
            "tier = 'masked': a round may have one update, and its version is then that update; take "
            "aggregation.updates_per_round (with round_s also updates_min) of 2 or more"
        )
    if rounds.updates_per_round > MEMBERS_MAX:
        yield f"aggregation.updates_per_round = {rounds.updates_per_round}: at most {MEMBERS_MAX} with tier = 'masked'"
    if (effective_min := find_effective_min(policy)) > rounds.members_min:
        yield (
            f"masked.effective_min = {effective_min:g}: a round may have {rounds.members_min} updates, which "
            "are never worth more than so many"
        )


def _find_misfits(policy: Policy) -> Iterator[str]:
    """What looks at single updates, or at a vector that a mask would hide."""
    if policy.aggregation.rule != "mean":
        yield (
            f"aggregation.rule = {policy.aggregation.rule!r}: compares single updates, which tier = 'masked' shows to "
            "nobody; take 'mean'"
        )
    if policy.aggregation.samples_max:
        yield f"aggregation.samples_max = {policy.aggregation.samples_max}: masked weights go by staleness; take 0"
    if policy.compression.codec != "float32":
        yield (
            f"compression.codec = {policy.compression.codec!r}: a masked vector cannot be compressed, so that it would "
            "only lose precision; take 'float32'"
        )
    if policy.evaluation.report and policy.privacy is None:
        yield (
            "evaluation.report: metrics of single devices would stand in the log beside masked updates; leave it out, "
            "or take [privacy], under which they are part of the masked vector"
        )
    if policy.selection.rule == "utility":
        yield "selection.rule = 'utility': writes the losses of single devices into journals; take 'uniform'"
    if policy.kind == "measure":
        yield "kind = 'measure': not with tier = 'masked' yet; take tier = 'sealed'"
    # Asked for by name, because it says who sees a sum before the noise is on it.
    if policy.privacy is not None and policy.masked_by.noise == "none":
        yield (
            "masked.noise = 'none': with [privacy] take 'helpers', so that nobody has a sum without noise, or "
            "'aggregator', which sees each sum before it adds the noise"
        )
    if policy.privacy is None and policy.masked_by.noise != "none":
        yield f"masked.noise = {policy.masked_by.noise!r}: needs [privacy], which says how much"
