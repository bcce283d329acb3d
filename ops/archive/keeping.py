"""For how long weights stay in an archive: as long as the policy's [retention] keeps them in the log, and longer.

The rule is the log's own, taken from the newest version that is whole in the archive, so that nothing leaves before
what replaces it is there. What was promoted at some time stays for ever, and a candidate while it is one. What stands
beside the weights, configuration and privacy record, stays for ever.
"""

from __future__ import annotations

from schemas.identifiers import Version
from schemas.policy import Retention
from schemas.rollouts import Standing


def is_kept(version: Version, newest: Version | None, *, retention: Retention, standing: Standing) -> bool:
    """Whether the archive holds the weights of a version, where `newest` is the newest one that is whole there."""
    if newest is None or version > newest - retention.models_kept:
        return True
    # The first model too, which every number divides: the log keeps it by the same rule.
    is_milestone = retention.milestone_every and version % retention.milestone_every == 0
    return bool(is_milestone) or version in standing.ever or version == standing.candidate
