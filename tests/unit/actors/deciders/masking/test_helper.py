"""For which rounds a helper answers: what an aggregator that equivocates can ask of it, and what it gets."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.deciders.aggregator import mechanism_of
from actors.deciders.masking.heard import Heard as HeardTasks
from actors.deciders.masking.heard import HeardTask, Member, fold
from actors.deciders.masking.helper import (
    Cosigner,
    RoundOpened,
    Said,
    decide_model,
    decide_round,
    fold_said,
    is_too_thin,
    list_over,
    list_unsaid,
    wants_key,
)
from schemas.events import (
    EpochDestroyed,
    EpochOpened,
    HelperEvent,
    JournalSeen,
    MaskKeyOpened,
    MasksRefused,
    ModelPublished,
    Noticed,
    RoundBound,
    RoundProposed,
    TaskHalted,
    UpdateAdmitted,
)
from schemas.events import (
    RoundOpened as BufferOpened,
)
from schemas.masking.statements import digest_proposal
from schemas.receipts.members import compute_members_root
from tests.worlds.builders import TASK, body_ref, policy, private_policy, task_created, update_admitted

HELPERS = ("11" * 32, "22" * 32)
RULES = policy(
    tier="masked",
    masked={"helpers": HELPERS},
    aggregation={"updates_per_round": 4},
    selection={"participations_max": 3, "devices_expected": 1_000},
)
CREATED = task_created(RULES, weights=RULES.weights())
WEIGHT = 15


def _member(name: str, *, weight: int = WEIGHT, is_weighted: bool = True, **changes: Any) -> Member:
    return Member(update_admitted(name, weight=weight, **changes), is_weighted)


def _propose(members: list[Member], round_id: int = 0, **changes: Any) -> RoundProposed:
    admitted = [member.admitted for member in members]
    plain = RoundProposed(
        task=TASK,
        round=round_id,
        members_root=compute_members_root(admitted),
        members=len(admitted),
        weight_sum=sum(each.weight for each in admitted),
        metrics=None,
        mechanism=None,
        participations_max=1,
    )
    return msgspec.structs.replace(plain, **changes)


def _ask(said: Said, members: list[Member], proposed: RoundProposed | None = None, **changes: Any) -> HelperEvent:
    """What the helper says, which it then has said."""
    proposed = proposed or _propose(members, **changes)
    event = decide_round(said, HeardTask(CREATED), opened=RoundOpened(proposed, members), helper=1)
    fold_said(said, event)
    return event


def _reason(event: HelperEvent) -> str | None:
    return event.reason if isinstance(event, MasksRefused) else None


FOUR = [_member(name) for name in "abcd"]


def test_a_round_as_it_should_be_is_bound() -> None:
    """It names the whole proposal, every update, and as whom its device counts."""
    event = _ask(Said(), FOUR)
    assert isinstance(event, RoundBound)
    assert event.proposal == digest_proposal(_propose(FOUR))
    assert event.updates == tuple(member.admitted.update for member in FOUR)
    assert event.units == tuple(member.admitted.device for member in FOUR)
    assert event.helper == 1


def test_the_same_root_under_another_mechanism_is_another_question() -> None:
    """Two answers that differ in their noise alone would show the noise."""
    said, proposed = Said(), _propose(FOUR)
    assert isinstance(_ask(said, FOUR, proposed), RoundBound)
    mechanism = mechanism_of(task_created(private_policy()), bytes(8))
    for other in (msgspec.structs.replace(proposed, mechanism=mechanism), msgspec.structs.replace(proposed, round=1)):
        assert other.members_root == proposed.members_root
        assert _reason(_ask(said, FOUR, other)) == "bound"


@given(st.data())
def test_no_two_answers_share_an_update(data: st.DataObject) -> None:
    """Differencing: of any sequence of proposals over one population, those answered for are disjoint."""
    said, population = Said(), [_member(f"d{number}") for number in range(12)]
    answered: list[set[str]] = []
    for round_id in range(data.draw(st.integers(2, 8))):
        members = data.draw(st.lists(st.sampled_from(population), min_size=4, max_size=6, unique_by=id))
        event = _ask(said, members, round_id=round_id)
        if isinstance(event, RoundBound):
            answered.append(set(event.updates))
        else:
            assert _reason(event) == "bound"
    assert all(not one & other for one, other in combinations(answered, 2))
    assert answered


def test_members_that_move_between_rounds_are_seen() -> None:
    """A pair of rounds that differ in one member, whichever comes first."""
    said = Said()
    assert isinstance(_ask(said, FOUR), RoundBound)
    refused = _ask(said, [*FOUR[:3], _member("e")], round_id=1)
    assert _reason(refused) == "bound"
    assert isinstance(refused, MasksRefused)
    assert refused.updates == tuple(member.admitted.update for member in FOUR[:3])
    assert isinstance(_ask(said, [_member(name) for name in "fghi"], round_id=2), RoundBound)


@pytest.mark.parametrize("zeroed", [3, 4])
def test_a_sum_of_one_is_nobody_s_answer(zeroed: int) -> None:
    """All but one zeroed, or all: what is left would be that one's update."""
    members = [_member(name, zeroed="body_absent" if number < zeroed else None) for number, name in enumerate("abcd")]
    assert _reason(_ask(Said(), members)) == "effective_size"


@pytest.mark.parametrize(
    ("weights", "is_thin"),
    [([15, 15, 15, 15], False), ([15, 1, 1, 1], True), ([15, 15, 1, 1], False), ([1, 1, 1, 1], False), ([15], True)],
)
def test_a_heavy_member_hides_in_no_light_company(weights: list[int], is_thin: bool) -> None:
    """15 beside ones is one update in little noise; the figure is Kish's, against 2 of 4."""
    assert is_too_thin(weights, 2.0) is is_thin


def test_of_none_nothing_is_left() -> None:
    """No member counts: 0/0 is not enough."""
    assert is_too_thin([], 2.0)
    assert is_too_thin([0, 0], 2.0)


def test_a_weight_is_the_table_s() -> None:
    """What the fold has found of single weights decides, and the sum has to be theirs."""
    heavy = [*FOUR[:3], _member("d", is_weighted=False)]
    refused = _ask(Said(), heavy)
    assert _reason(refused) == "weights"
    assert isinstance(refused, MasksRefused)
    assert refused.updates == (heavy[3].admitted.update,)
    assert _reason(_ask(Said(), FOUR, weight_sum=61)) == "weights"


def test_members_are_those_of_the_root() -> None:
    """One left out, one more, or one with another salt is another round."""
    proposed = _propose(FOUR)
    other = Member(msgspec.structs.replace(FOUR[3].admitted, salt=b"x" * 16), True)
    for members in (FOUR[:3], [*FOUR, _member("e")], [*FOUR[:3], other]):
        assert _reason(_ask(Said(), members, proposed)) == "root"


def test_nobody_counts_twice() -> None:
    """The same update, or the same device or person under two, is in no sum twice."""
    again = Member(msgspec.structs.replace(FOUR[0].admitted, update="f" * 32), True)
    assert _reason(_ask(Said(), [*FOUR, FOUR[0]])) == "repeated"
    assert _reason(_ask(Said(), [*FOUR, again])) == "repeated"


def test_a_device_takes_part_so_often() -> None:
    """The helper counts itself: the cap of the policy holds whatever the aggregator says."""
    said = Said()
    for round_id in range(3):
        members = [_member(name, update=f"{round_id}{name}".encode().hex().rjust(32, "0")) for name in "abcd"]
        assert isinstance(_ask(said, members, round_id=round_id), RoundBound)
    members = [_member("a"), *(_member(name) for name in "xyz")]
    refused = _ask(said, members, round_id=3)
    assert _reason(refused) == "participations"
    assert isinstance(refused, MasksRefused)
    assert refused.updates == (members[0].admitted.update,)


def test_a_device_counts_as_whom_its_registrar_enrolled() -> None:
    """Where a registrar is pinned, somebody else's subject, or none, makes a member a stranger; and it is said who."""
    members = [_member(name, subject=name * 32) for name in "abcd"]
    devices = [member.admitted.device for member in members]
    enrolled = {device: {name * 32} for device, name in zip(devices, "abcd", strict=True)}
    facts = RoundOpened(_propose(members), members)
    heard = HeardTask(CREATED, enrolled=enrolled)
    assert isinstance(decide_round(Said(), heard, opened=facts, helper=0), RoundBound)
    cases: list[tuple[dict[str, set[str]], list[int]]] = [
        ({**enrolled, devices[1]: {"e" * 32}}, [1]),
        ({devices[0]: {"a" * 32}}, [1, 2, 3]),
        ({}, [0, 1, 2, 3]),
    ]
    for known, blamed in cases:
        refused = decide_round(Said(), HeardTask(CREATED, enrolled=known), opened=facts, helper=0)
        assert isinstance(refused, MasksRefused)
        assert (refused.reason, refused.updates) == (
            "not_enrolled",
            tuple(members[number].admitted.update for number in blamed),
        )


def test_what_is_wrong_with_a_record_comes_first() -> None:
    """The reason that was found outside is told as it is."""
    facts = RoundOpened(_propose(FOUR), FOUR, "seal", (FOUR[2].admitted.update,))
    event = decide_round(Said(), HeardTask(CREATED), opened=facts, helper=0)
    assert (_reason(event), getattr(event, "updates", None)) == ("seal", (FOUR[2].admitted.update,))


PRIVATE = policy(
    tier="masked",
    masked={"helpers": HELPERS, "noise": "helpers"},
    aggregation={"updates_per_round": 4},
    privacy={"noise_multiplier": 1.0, "rho_max": 9.0},
)
PROMISED = mechanism_of(task_created(PRIVATE), bytes(8))


@pytest.mark.parametrize(
    "changes", [{"sigma": 1}, {"noise_multiplier": 0.5}, {"clip_steps": 1}, {"weight_max": 1}, None], ids=str
)
def test_a_private_round_has_the_noise_of_its_policy(changes: dict[str, Any] | None) -> None:
    """Less noise, or none, is another promise: an aggregator that proposes it gets no answer."""
    assert PROMISED is not None
    created = task_created(PRIVATE, weights=PRIVATE.weights())
    for mechanism, reason in (
        (PROMISED, None),
        (None if changes is None else msgspec.structs.replace(PROMISED, **changes), "mechanism"),
    ):
        facts = RoundOpened(_propose(FOUR, mechanism=mechanism), FOUR)
        assert _reason(decide_round(Said(), HeardTask(created), opened=facts, helper=0)) == reason


def test_noise_in_a_task_without_privacy_is_nobody_s() -> None:
    """The other way round too: what is not in the policy is not asked for."""
    assert _reason(_ask(Said(), FOUR, mechanism=PROMISED)) == "mechanism"


# --- what is heard ----------------------------------------------------------------------------------------------------


def _heard(*events: Any) -> HeardTask:
    heard = HeardTasks()
    for event in (Noticed(fact=CREATED), *events):
        fold(heard, event)
    return heard.tasks[TASK]


def _published(version: int, round_id: int | None, model: str = "m") -> ModelPublished:
    return ModelPublished(
        task=TASK,
        version=version,
        round=round_id,
        model=body_ref(model, "models"),
        moments=None,
        members_root=None,
        members=0,
    )


def _admitted(name: str, round_id: int, *, version: int = 0, weight: int = WEIGHT) -> UpdateAdmitted:
    return update_admitted(name, round=round_id, version=version, weight=weight)


def test_a_weight_follows_from_what_the_journal_says_by_then() -> None:
    """Staleness is counted by the helper: versions and rounds pending, at the admission."""
    table = RULES.weights()
    full = [_admitted(name, 0) for name in "abcd"]
    proposed = _propose([Member(each, True) for each in full])
    late = _admitted("e", 1, weight=table[1])
    fresh = _admitted("f", 1, weight=table[0])
    task = _heard(_published(0, None), BufferOpened(task=TASK, round=0), *full, proposed, late, fresh)
    assert [member.is_weighted for member in task.rounds[0].members] == [True] * 4
    assert [member.is_weighted for member in task.rounds[1].members] == [True, False]


def test_the_first_model_of_a_version_is_the_one() -> None:
    """A second under the same number would be one for somebody in particular."""
    task = _heard(_published(0, None, "all"), _published(0, None, "one"))
    assert task.models == {0: body_ref("all", "models").sha256}
    assert task.disputed == {(0, body_ref("one", "models").sha256)}


SEEN = JournalSeen(seq=3, head=bytes(32))
OPERATORS = CREATED.model.sha256


def _say_all(said: Said, heard: HeardTask, *, is_behind: bool = False) -> list[tuple[str, int, str]]:
    """What the helper says of the models that it was shown, each word folded before the next."""
    words = []
    for shown in list_unsaid(said, heard):
        event = decide_model(said, CREATED, shown=shown, seen=SEEN, me=Cosigner(1, is_behind))
        fold_said(said, event)
        words.append((type(event).__name__, event.version, getattr(event, "reason", "")))
    return words


def _show(*models: tuple[int, str]) -> HeardTask:
    """A journal whose version 0 is the operator's."""
    first = msgspec.structs.replace(_published(0, None), model=CREATED.model)
    return _heard(first, *(_published(version, version - 1, model) for version, model in models))


def test_a_helper_cosigns_one_model_a_version_for_ever() -> None:
    """The first that it is shown; any other is refused, in this journal, in another, and in its next life."""
    said = Said()
    assert _say_all(said, _show((1, "a"), (1, "b"))) == [
        ("ModelCosigned", 0, ""),
        ("ModelCosigned", 1, ""),
        ("ModelRefused", 1, "another"),
    ]
    assert _say_all(said, _show((1, "a"), (1, "b"))) == []
    assert _say_all(said, _show((1, "c"), (2, "d"))) == [("ModelRefused", 1, "another"), ("ModelCosigned", 2, "")]
    assert said.models == {0: OPERATORS, 1: body_ref("a", "models").sha256, 2: body_ref("d", "models").sha256}


def test_version_0_is_the_operator_s() -> None:
    """Its digest stands in what the operator has signed, so that no aggregator chooses the first model."""
    assert _say_all(Said(), _heard(_published(0, None, "mine"))) == [("ModelRefused", 0, "first")]


def test_an_old_copy_cosigns_nothing() -> None:
    """It does not know which model it had co-signed, and says so once."""
    said = Said()
    assert _say_all(said, _show(), is_behind=True) == [("ModelRefused", 0, "store_behind")]
    assert _say_all(said, _show(), is_behind=True) == []


def test_keys_turn_with_the_aggregator_s_epochs() -> None:
    """Another key is due once, and the old one goes when the journal says that it is over."""
    said, opened = Said(), MaskKeyOpened(task=TASK, helper=1, epoch=0, public_key=bytes(1216))
    assert wants_key(said, _heard(_published(0, None)))
    fold_said(said, opened)
    assert not wants_key(said, _heard(_published(0, None)))
    begun = EpochOpened(task=TASK, epoch=0, statement=b"")
    later = (_published(0, None), begun, _published(RULES.masked_by.epoch_versions, 1))
    assert not wants_key(said, _heard(_published(0, None), begun))
    assert wants_key(said, _heard(*later))
    assert not wants_key(said, _heard(*later, TaskHalted(task=TASK, reason="closed", version=1)))
    assert list_over(said, _heard(*later, EpochDestroyed(task=TASK, epoch=0, reason="over"))) == [0]
