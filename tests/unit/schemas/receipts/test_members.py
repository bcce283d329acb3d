"""The members root: it commits to every member, hides each, and whoever holds a member can prove it."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import UpdateAdmitted
from schemas.policy import WEIGHT_ONE
from schemas.receipts.members import MembershipProof, compute_members_root, hash_leaf, is_member, prove_membership
from tests.worlds.builders import SCALE_ONE, body_ref, update_admitted


def _member(number: int) -> UpdateAdmitted:
    salt = hashlib.sha256(b"%d" % number).digest()[:16]
    return update_admitted(f"d{number}", body=body_ref(f"{number}"), salt=salt)


MEMBERS = [_member(number) for number in range(4)]


@given(shuffled=st.permutations(MEMBERS))
def test_the_root_is_the_same_in_any_order(shuffled: list[UpdateAdmitted]) -> None:
    """The root commits to who is in the round, not to who came first."""
    assert compute_members_root(shuffled) == compute_members_root(MEMBERS)


@pytest.mark.parametrize(
    "changes",
    [
        {"update": "f" * 32},
        {"body": msgspec.structs.replace(MEMBERS[2].body, sha256=b"x" * 32)},
        {"weight": WEIGHT_ONE - 1},
        {"clip_scale": SCALE_ONE - 1},
        {"zeroed": "not_finite"},
        {"salt": b"x" * 16},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_the_root_names_each_field(changes: dict[str, object]) -> None:
    """Another update, body, weight, clip scale or zeroing of one member is another root."""
    changed = [*MEMBERS[:2], msgspec.structs.replace(MEMBERS[2], **changes), MEMBERS[3]]
    assert compute_members_root(changed) != compute_members_root(MEMBERS)
    assert compute_members_root(MEMBERS[:3]) != compute_members_root(MEMBERS)


SIZES = [1, 2, 3, 4, 5, 7, 8, 13]


@pytest.mark.parametrize("size", SIZES)
def test_each_member_can_be_proved(size: int) -> None:
    """Every leaf of a tree of any shape leads to its root, and to no other place or number of members."""
    members = [_member(number) for number in range(size)]
    root = compute_members_root(members)
    for member in members:
        proof, leaf = prove_membership(members, member.update), hash_leaf(member)
        assert is_member(leaf, proof, root=root, members=size)
        assert not is_member(leaf, proof, root=root, members=size + 1)
        elsewhere = msgspec.structs.replace(proof, index=(proof.index + 1) % (size + 1))
        assert not is_member(leaf, elsewhere, root=root, members=size)


@pytest.mark.parametrize("size", SIZES)
def test_nobody_else_can_be_proved(size: int) -> None:
    """A member of another round has no proof; neither has a changed one, nor any with a changed or a longer path."""
    members = [_member(number) for number in range(size)]
    root, proof = compute_members_root(members), prove_membership(members, members[0].update)
    stranger = hash_leaf(_member(99))
    assert not any(is_member(stranger, _at(proof, index), root=root, members=size) for index in range(size))
    leaf = hash_leaf(members[0])
    for path in [(*proof.path, bytes(32)), proof.path[:-1], tuple(bytes(32) for _ in proof.path)]:
        if path != proof.path:
            assert not is_member(leaf, msgspec.structs.replace(proof, path=path), root=root, members=size)
    with pytest.raises(KeyError):
        prove_membership(members, "f" * 32)


def _at(proof: MembershipProof, index: int) -> MembershipProof:
    return msgspec.structs.replace(proof, index=index)


def test_an_inner_node_is_no_leaf() -> None:
    """Leaves and nodes are hashed in domains of their own: a tree of two pairs is no tree of two members."""
    members = [_member(number) for number in range(4)]
    whole, root = prove_membership(members, min(member.update for member in members)), compute_members_root(members)
    ordered = sorted(members, key=lambda member: member.update)
    pair = compute_members_root(ordered[:2])
    shorter = MembershipProof(index=0, members=2, path=whole.path[1:])
    # Where the number of members is not compared with the announced one, only the number would tell them apart.
    assert is_member(pair, shorter, root=root, members=2)
    assert not is_member(pair, shorter, root=root, members=4)
    assert hash_leaf(ordered[0]) != hashlib.sha256(b"\x01" + bytes(64)).digest()


def test_the_root_is_that_of_the_standard() -> None:
    """RFC 9162, section 2.1: three leaves are a pair and one more; no leaf gives the digest of nothing."""
    first, second, third = sorted(MEMBERS[:3], key=lambda member: member.update)
    pair = hashlib.sha256(b"\x01" + hash_leaf(first) + hash_leaf(second)).digest()
    assert compute_members_root(MEMBERS[:3]) == hashlib.sha256(b"\x01" + pair + hash_leaf(third)).digest()
    assert compute_members_root([first]) == hash_leaf(first)
    assert compute_members_root([]) == hashlib.sha256().digest()
