"""How often somebody may ask a gateway: each by its own bucket, and nobody by another's."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.gateway.access.limits import STRANGERS, Limits, LimitUnreadable, Rate, find_address, parse_limits
from ops.gateway.access.shared import RedisUnfit, SharedAway, SharedBuckets, open_shared
from ops.gateway.gates import Outside
from ops.gateway.refusals import TooOften
from schemas.http.device_protocol import RETRY, parse_window
from tests.worlds.device_world import TASK
from tests.worlds.gateway.asking import carrying, opened

NEVER = 99_999


def take(limits: Limits, kind: str, name: str) -> bool:
    """Whether there is a token."""
    try:
        asyncio.run(limits.take(kind, name))
    except TooOften:
        return False
    return True


@given(
    st.dictionaries(st.sampled_from(["address", "device", "class"]), st.integers(1, 5)),
    st.lists(st.tuples(st.sampled_from(["address", "device", "class"]), st.sampled_from("ab")), max_size=30),
)
def test_each_has_a_bucket_of_its_own(amounts: dict[str, int], asked: list[tuple[str, str]]) -> None:
    """Law: of each name as many requests are let through as its kind may have, whoever else asks."""
    limits = Limits({kind: Rate(amount, NEVER) for kind, amount in amounts.items()})
    passed = Counter(one for one in asked if take(limits, *one))
    wished = Counter(asked)
    assert passed == {one: min(count, amounts.get(one[0], count)) for one, count in wished.items()}


def test_an_address_that_asks_too_often_is_told_when(tmp_path: Path) -> None:
    """Guarantee: 429 with a window, before anything is read; a balancer's questions are free."""
    with opened(tmp_path, outside=Outside(limits=Limits({"address": Rate(3, 60)}))) as behind:
        assert [behind.ask("GET", f"/v1/tasks/{TASK}").status for _ in range(4)] == [200, 200, 200, 429]
        told = behind.ask("POST", "/v1/check-ins", b"junk")
        assert (told.status, told.problem["code"]) == (429, "too_often")
        window = parse_window(told.headers[RETRY.lower()])
        assert window is not None
        assert (window.min_ms, window.max_ms) == (15_000, 60_000)
        assert told.headers["retry-after"] == "15"
        assert [behind.ask("GET", path).status for path in ("/healthz", "/readyz")] == [200, 200]


def test_a_device_is_counted_once_it_has_proven_itself(tmp_path: Path) -> None:
    """Guarantee: nobody uses up a device's requests in its name; what is over them does not reach the log."""
    with opened(tmp_path, outside=Outside(limits=Limits({"device": Rate(2, NEVER)}))) as behind:
        message = behind.checkin()
        for _ in range(5):
            assert behind.ask("POST", "/v1/check-ins", message[:-1] + bytes([message[-1] ^ 1])).status == 403
        statuses = [behind.ask("POST", "/v1/check-ins", behind.checkin(sent_ms=n)).status for n in range(3)]
        assert statuses == [202, 202, 429]
        sealed = behind.lease()
        assert behind.ask("POST", "/v1/updates", behind.update(sealed), carrying(sealed)).status == 429
        assert len(behind.world.records("checkins")) == 2
        assert behind.world.records("updates") == []


def test_a_copy_of_what_is_answered_takes_no_place_of_its_device(tmp_path: Path) -> None:
    """Guarantee: whoever has seen a device's check-in cannot use up its requests by sending that again."""
    with opened(tmp_path, outside=Outside(limits=Limits({"device": Rate(2, NEVER)}))) as behind:
        message = behind.checkin()
        taken = behind.ask("POST", "/v1/check-ins", message)
        behind.world.note_checkin(message)
        behind.world.say(behind.world.decline("no_slot", 1_000, device=behind.phone.device))
        assert behind.ask("GET", taken.headers["location"], Prefer="wait=20").status == 200
        copies = [behind.ask("POST", "/v1/check-ins", message).status for _ in range(5)]
        assert copies == [200] * 5
        assert behind.ask("POST", "/v1/check-ins", behind.checkin(sent_ms=9)).status == 202
        assert len(behind.world.records("checkins")) == 2


class Away:
    """A Redis that is not there, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked, self.is_away = 0, True

    async def hit(self, *_: object) -> bool:
        self.asked += 1
        if self.is_away:
            raise OSError("nobody listens")
        return False


def test_without_redis_each_counts_alone_and_says_so() -> None:
    """Guarantee: a shared store that is away costs one request a while, and limits hold by this process alone."""
    now, redis = [100.0], Away()
    limits = Limits({"device": Rate(2, NEVER)}, SharedBuckets(redis, clock_s=lambda: now[0]))  # type: ignore[arg-type]
    assert [take(limits, "device", "a") for _ in range(4)] == [True, True, False, False]
    assert (redis.asked, limits.describe()) == (1, "own: Redis is away")
    redis.is_away, now[0] = False, 200.0
    # It is back, and knows of others that have asked meanwhile.
    assert not take(limits, "device", "b")
    assert (redis.asked, limits.describe()) == (2, "shared")


def test_redis_is_asked_again_by_one_alone() -> None:
    """Guarantee: while one request finds out whether Redis is back, no other waits for it."""

    async def story() -> int:
        now, redis = [100.0], Away()
        buckets = SharedBuckets(redis, clock_s=lambda: now[0])  # type: ignore[arg-type]
        for now[0] in (100.0, 200.0, 200.1, 300.0, 300.1):
            with pytest.raises(SharedAway):
                await buckets.take("device", "a", amount=1, seconds=1)
        return redis.asked

    assert asyncio.run(story()) == 3


@pytest.mark.parametrize(
    ("client", "forwarded", "behind_proxy", "expected"),
    [
        ("192.0.2.7", [], False, "192.0.2.7"),
        ("192.0.2.7", ["198.51.100.1"], False, "192.0.2.7"),
        ("192.0.2.7", ["198.51.100.1, 203.0.113.9"], True, "203.0.113.9"),
        ("192.0.2.7", ["198.51.100.1", "203.0.113.9"], True, "203.0.113.9"),
        ("192.0.2.7", [], True, "192.0.2.7"),
        ("192.0.2.7", ["nonsense"], True, ""),
        ("2001:db8:1:2:3:4:5:6", [], False, "2001:db8:1:2::/64"),
        ("2001:db8:1:2:9:9:9:9", [], False, "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", [], False, "192.0.2.7"),
    ],
)
def test_an_address_is_whom_nobody_can_pretend_to_be(
    client: str, forwarded: list[str], behind_proxy: bool, expected: str
) -> None:
    """Guarantee: a header names the address only where a proxy wrote it last; a household is one IPv6 network."""
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    assert find_address({"client": (client, 1), "headers": headers}, behind_proxy=behind_proxy) == expected


def test_limits_are_read_or_refused() -> None:
    """Guarantee: a limit that nobody can read ends the command, and says how one looks."""
    assert parse_limits(["device=300/60", "class=5/1"]) == {"device": Rate(300, 60), "class": Rate(5, 1)}
    assert set(STRANGERS) == {"address", "device"}
    for text in ("device", "device=0/1", "device=1/0", "phone=1/1", "device=1", "device=-1/2", "device=1/2x"):
        with pytest.raises(LimitUnreadable, match="KIND=N/SECONDS"):
            parse_limits([text])
    with pytest.raises(RedisUnfit, match="begins with redis://"):
        open_shared("http://127.0.0.1")
