"""What a round's members root commits to: a Merkle tree over its admissions, and proofs that one of them is in it.

    leaf = sha256(0x00 | [salt, update, sha256 of the body, weight, clip scale, zeroed])     node = sha256(0x01 | l | r)

The tree is that of RFC 9162, section 2.1, its leaves in the order of the updates' ids. The root is public and the
admissions are not, so each leaf holds 16 random bytes: without them it could be found by trying what it may hold.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import msgspec

from schemas.canonical import encode
from schemas.events import UpdateAdmitted
from schemas.identifiers import Count, Sha256, UpdateId

# Two prefixes, so that no inner node can be passed off as a leaf.
_LEAF, _NODE = b"\x00", b"\x01"


class MembershipProof(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The place of one leaf among `members`, and the nodes beside its way to the root, lowest first."""

    index: Count
    members: Count
    path: tuple[Sha256, ...]


def hash_leaf(member: UpdateAdmitted) -> bytes:
    """The leaf of one admission."""
    zeroed = member.zeroed or ""
    row = [member.salt, member.update, member.body.sha256, member.weight, member.clip_scale, zeroed]
    return hash_row(row)


def hash_row(row: Sequence[object]) -> bytes:
    """The leaf of what an admission says: salt, update, digest of the body, weight, clip scale, why it counts zero."""
    return hashlib.sha256(_LEAF + encode(row)).digest()


def compute_members_root(members: Iterable[UpdateAdmitted]) -> bytes:
    """The root over these admissions, the same for any order of arrival; of none the digest of nothing."""
    level = [hash_leaf(member) for member in _sort(members)]
    while len(level) > 1:
        level = _hash_level(level)
    return level[0] if level else hashlib.sha256().digest()


def prove_membership(members: Iterable[UpdateAdmitted], update: UpdateId) -> MembershipProof:
    """The proof that `update` is one of these admissions. Raises KeyError where it is not."""
    ordered = _sort(members)
    places = {member.update: place for place, member in enumerate(ordered)}
    index, path = places[update], list[bytes]()
    place, level = index, [hash_leaf(member) for member in ordered]
    while len(level) > 1:
        # The last node of an odd level has none beside it, and goes up as it is.
        if (beside := place ^ 1) < len(level):
            path.append(level[beside])
        place, level = place // 2, _hash_level(level)
    return MembershipProof(index=index, members=len(ordered), path=tuple(path))


def is_member(leaf: bytes, proof: MembershipProof, *, root: bytes, members: int) -> bool:
    """Whether the proof leads from this leaf to the root over so many members, both as announced in `published`."""
    # The number is the announced one: a proof that names its own could stand for another tree.
    if proof.members != members or proof.index >= members:
        return False
    place, last, node, path = proof.index, members - 1, leaf, [*proof.path]
    while last > 0:
        if place != last or place % 2:
            if not path:
                return False
            beside = path.pop(0)
            node = _hash_node(beside, node) if place % 2 else _hash_node(node, beside)
        place, last = place // 2, last // 2
    return not path and node == root


def _sort(members: Iterable[UpdateAdmitted]) -> list[UpdateAdmitted]:
    # By update, because the order of arrival is not part of what is committed to.
    return sorted(members, key=lambda member: member.update)


def _hash_level(level: Sequence[bytes]) -> list[bytes]:
    """The level above: pairs are joined, a last one without a partner goes up as it is."""
    pairs = [_hash_node(left, right) for left, right in zip(level[::2], level[1::2], strict=False)]
    return [*pairs, *level[2 * len(pairs) :]]


def _hash_node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(_NODE + left + right).digest()
