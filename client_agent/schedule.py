"""When a device speaks next: check-ins, repeats of what got no answer, and how much later each repeat comes.

`Device` reports what happened and asks for times. There is no clock in here; every call is given the time.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

# Without an answer for this long the device asks again, and doubles the wait each time.
ANSWER_MS = 4_000
ANSWER_MS_MAX = 60_000
# The selector hears of an outcome through the aggregator's journal: a check-in at once would come too early.
REST_MS = 50
# Whatever an answer says, the device asks again within a day.
WAIT_MS_MAX = 86_400_000
# A device has seen its task in the log, so that a selector which knows none will soon: it is asked ever more slowly.
UNKNOWN_MS = 250
# The least wait once the task is closed, or the device has given its share of updates.
OVER_MS = 30_000

# Reasons to decline that a later check-in will meet again.
_LASTING_REASONS = frozenset(
    {"closed", "participations", "not_enrolled", "certificate_expired", "other_population", "other_class", "revoked"}
)


class Schedule:
    """The times at which one device checks in and repeats updates; `updates` are those kept from an earlier run."""

    def __init__(self, device: str, task: str, *, updates: Iterable[str]) -> None:
        self._random = random.Random(f"{device}/{task}")
        self._checkin_ms = 0
        self._sent_ms = -1
        self._unanswered = 0
        # Check-ins in a row that were answered with a lease which is over.
        self._spent_grants = 0
        # Leases in a row that ended without an update.
        self._given_up = 0
        # Answers in a row of a selector that does not know the task.
        self._unknown = 0
        self._resend_ms = dict.fromkeys(updates, 0)
        self._submissions: dict[str, int] = {}

    @property
    def checkin_ms(self) -> int:
        """The earliest time of the next check-in."""
        return self._checkin_ms

    def find_resend_ms(self, update: str, default_ms: int = 0) -> int:
        """When `update` is due to be sent (again)."""
        return self._resend_ms.get(update, default_ms)

    def is_tracking(self, update: str) -> bool:
        """Whether `update` was kept and has no outcome yet."""
        return update in self._resend_ms

    def choose_sent_ms(self, now_ms: int) -> int:
        """The time that a check-in names: by the clock, and later than any before, or it would count as a copy."""
        self._sent_ms = max(self._sent_ms + 1, now_ms)
        return self._sent_ms

    def note_checkin(self, now_ms: int) -> None:
        """A check-in was sent: repeat it, each time later, until an answer comes."""
        self._checkin_ms = now_ms + self._back_off(self._unanswered)
        self._unanswered += 1

    def note_declined(self, reason: str, *, retry_after_ms: int, now_ms: int) -> None:
        """Check in when the selector said; a good deal later where the reason will last, sooner where it will not."""
        self._unanswered = self._spent_grants = 0
        wait_ms = max(retry_after_ms, OVER_MS) if reason in _LASTING_REASONS else retry_after_ms
        is_unknown = reason == "unknown_task"
        wait_ms = min(wait_ms, UNKNOWN_MS << min(self._unknown, 16)) if is_unknown else wait_ms
        self._unknown = self._unknown + 1 if is_unknown else 0
        # Before the jitter, so that devices which were told too long a wait do not all return together.
        self._checkin_ms = now_ms + self._jitter(min(wait_ms, WAIT_MS_MAX * 4 // 5))

    def note_grant(self) -> None:
        """A lease of this device arrived, whichever."""
        self._unanswered = 0

    def note_new_lease(self) -> None:
        """The lease is one to train under."""
        self._spent_grants = 0

    def note_spent_lease(self, now_ms: int) -> None:
        """The lease is over for this device, and the selector has not heard of it: ask ever more slowly."""
        self._spent_grants += 1
        self._checkin_ms = now_ms + self._jitter(min(REST_MS << min(self._spent_grants, 16), ANSWER_MS_MAX))

    def note_given_up(self, now_ms: int) -> None:
        """There will be no update under the lease: ask ever more slowly, because others could use the next one."""
        self._checkin_ms = now_ms + self._back_off(self._given_up)
        self._given_up += 1

    def send_at_once(self, update: str, now_ms: int) -> None:
        """`update` is new, or seems lost on its way."""
        self._resend_ms[update] = now_ms

    def await_address(self, update: str, now_ms: int) -> None:
        """The body was handed over to be stored."""
        self._resend_ms[update] = now_ms + self._back_off(0)

    def await_outcome(self, update: str, now_ms: int) -> None:
        """The update was submitted."""
        submissions = self._submissions.get(update, 0)
        self._submissions[update] = submissions + 1
        self._resend_ms[update] = now_ms + self._back_off(submissions)

    def note_outcome(self, update: str, now_ms: int, *, is_late: bool = False) -> None:
        """The update is settled. One that came too late is as good as none, and the next one would be late too."""
        self._resend_ms.pop(update, None)
        self._submissions.pop(update, None)
        if is_late:
            self.note_given_up(now_ms)
            return
        self._given_up = 0
        self._checkin_ms = now_ms + self._jitter(REST_MS)

    def _back_off(self, repeats: int) -> int:
        return self._jitter(min(ANSWER_MS << min(repeats, 10), ANSWER_MS_MAX))

    def _jitter(self, wait_ms: int) -> int:
        """Up to a quarter longer, so that devices which were declined together do not return together."""
        return round(wait_ms * (1 + self._random.random() / 4))
