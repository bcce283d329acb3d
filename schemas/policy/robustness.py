"""What a policy with a robust rule of aggregation must and must not say; called by `checks`."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import UNSET

from schemas.policy.sections import Policy

# Sums of weighted ranks and distances stay within 64 bits.
MEMBERS_MAX = 1000
# By its paper each rule holds for n > 2 f members, and these for so many more.
_MORE = {"krum": 2, "multi_krum": 2}


def find_robust_problems(policy: Policy) -> Iterator[str]:
    """Each contradiction of a rule of aggregation and its table [robust], one line for each."""
    rule, robust = policy.aggregation.rule, policy.withstood_by
    if rule == "mean":
        if policy.robust is not UNSET:
            yield "robust: aggregation.rule = 'mean' withstands nobody; take a robust rule, or leave the table out"
        return
    # With privacy no robust rule goes, whatever its bounds, and its part of the checks says so.
    if policy.privacy is not None:
        return
    where = f"aggregation.rule = {rule!r}"
    count, f, more = policy.aggregation.members_min, robust.attackers_max, _MORE.get(rule, 0)
    if count <= 2 * f + more:
        bound = f"2 f + {more}" if more else "2 f"
        yield (
            f"{where}: with robust.attackers_max = {f} a round needs more than {bound} = {2 * f + more} updates, "
            f"and may have {count}"
        )
    elif rule == "multi_krum" and robust.selected > count - f - 2:
        yield f"robust.selected = {robust.selected}: of {count} updates at most K - f - 2 = {count - f - 2} are near"
    if policy.aggregation.updates_per_round > MEMBERS_MAX:
        yield f"{where}: a round has at most {MEMBERS_MAX} updates, not {policy.aggregation.updates_per_round}"
    yield from _find_conflicts(policy, where)


def takes_one(policy: Policy) -> bool:
    """Whether each version is the update of one device, unchanged but for its weight."""
    rule = policy.aggregation.rule
    return rule == "krum" or (rule == "multi_krum" and policy.withstood_by.selected == 1)


def _find_conflicts(policy: Policy, where: str) -> Iterator[str]:
    # A seal hides nothing that the model then publishes.
    if policy.is_sealed and takes_one(policy):
        yield (
            f"{where}: each version is then the update of one device, which tier = 'sealed' is to hide; take "
            "'multi_krum' with robust.selected of 2 or more, or another rule"
        )
    if policy.shard_count > 1:
        yield f"{where}: shard workers see a part of a round, and it compares all; leave shards out"
    if policy.aggregation.samples_max:
        yield f"{where}: who claims many samples would outvote the others; take aggregation.samples_max = 0"
    if policy.measure is not None:
        yield f"{where}: what is measured is a sum; take 'mean'"
