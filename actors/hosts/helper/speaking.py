"""One masked task, as one helper speaks for it: what is due is decided, kept on the disk, and then said."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import structlog

from actors.deciders.arithmetic import noise
from actors.deciders.masking.heard import HeardRound, HeardTask
from actors.deciders.masking.helper import (
    Cosigner,
    RoundOpened,
    Said,
    decide_model,
    decide_round,
    fold_said,
    list_over,
    list_unsaid,
    wants_key,
)
from actors.effects.sealing.epoch_keys import EpochKeys
from actors.hosts.helper.opening import Opened, Opener, read_records, sum_masks
from actors.hosts.helper.store import HelperStore
from schemas.certificates import Trust
from schemas.events import (
    HelperEvent,
    JournalSeen,
    MaskKeyDestroyed,
    MaskKeyOpened,
    MasksRefused,
    MasksSummed,
    ModelRefused,
    RoundBound,
    TaskCreated,
)
from schemas.journal import JournalPosition
from schemas.masking.ring import RING
from schemas.masking.statements import FIRST, HelperSaid, digest_proposal, digest_said, sign_said
from schemas.topics import BODIES, MASKS
from streams.bodies import store
from streams.log import Draft, EventLog, TopicPartition

logger = structlog.get_logger()
NoteStep = Callable[[str], None]


class Speaker:
    """For one helper and one task. `note_step` is told each step; an exception from it stops the helper, as a death."""

    def __init__(
        self, log: EventLog, partition: int, *, helper: int, kept: HelperStore, keys: EpochKeys, note_step: NoteStep
    ) -> None:
        self.helper, self.said = helper, Said()
        self._log, self._partition, self._kept, self._keys = log, partition, kept, keys
        self._note_step, self._prev = note_step, FIRST
        self._seen = JournalSeen(seq=0, head=FIRST)

    def remember(self, statement: bytes, said: HelperSaid) -> None:
        """Fold a word of one's own, from the journal."""
        fold_said(self.said, said.event)
        self._prev = digest_said(statement)

    def speak(self, task: HeardTask, trust: Trust, *, seen: JournalPosition) -> None:
        """Say whatever is due now. Raises LogUnavailable, after which it is said another time.

        `seen`: where the aggregator's journal stands, by which `task` is known.
        """
        self._seen = JournalSeen(seq=seen.seq, head=seen.head)
        for epoch in list_over(self.said, task):
            self._keys.destroy(task.created, epoch)
            self._note_step("destroyed")
            self._say(task, MaskKeyDestroyed(task=task.created.task, helper=self.helper, epoch=epoch, reason="over"))
        # Before any answer, or a round would be bound that this helper cannot open.
        self._tell_lost(task)
        if wants_key(self.said, task) and not self._kept.is_behind:
            self._open_key(task)
        self._cosign(task)
        for _, round_ in sorted(task.rounds.items()):
            if round_.proposed is None or task.waits_for(round_):
                continue
            if digest_proposal(round_.proposed) not in self.said.answered:
                self._answer(task, round_, trust=trust)

    def _tell_lost(self, task: HeardTask) -> None:
        for epoch in sorted(self.said.opened & task.epochs.keys()):
            if self._keys.find(task.created, epoch) is None:
                logger.error("epoch_key_lost", task=task.created.task, epoch=epoch)
                lost = MaskKeyDestroyed(task=task.created.task, helper=self.helper, epoch=epoch, reason="lost")
                self._say(task, lost)

    def _open_key(self, task: HeardTask) -> None:
        name, epoch = task.created.task, task.next_epoch
        # Its file is there before anybody can seal to it.
        secret = self._keys.make(task.created, epoch)
        self._note_step("made")
        self._say(task, MaskKeyOpened(task=name, helper=self.helper, epoch=epoch, public_key=secret.public_key))

    def _cosign(self, task: HeardTask) -> None:
        """Vouch for the model of each version, once: devices train on none that not every helper has co-signed."""
        # Before rounds, because devices wait for it.
        for shown in list_unsaid(self.said, task):
            me = Cosigner(self.helper, self._kept.is_behind)
            decided = decide_model(self.said, task.created, shown=shown, seen=self._seen, me=me)
            self._note_step("shown")
            self._say(task, decided)
            if isinstance(decided, ModelRefused):
                logger.error("model_refused", task=decided.task, version=decided.version, reason=decided.reason)
            self._note_step("cosigned")

    def _answer(self, task: HeardTask, round_: HeardRound, *, trust: Trust) -> None:
        """Bind the round and say so, then store the sum of its masks and say where; or say why not."""
        proposed = round_.proposed
        assert proposed is not None
        number, proposal = proposed.round, digest_proposal(proposed)
        if self._kept.is_behind:
            self._say(task, self._refuse(round_, reason="store_behind"))
            return
        # Opened again in each life: seeds are kept nowhere.
        opened = self._open(task, round_, trust=trust)
        if not self._is_bound(proposal):
            facts = RoundOpened(proposed, round_.members, opened.fault, opened.blamed, self._seen)
            decided = decide_round(self.said, task, opened=facts, helper=self.helper)
            self._say(task, decided)
            if not isinstance(decided, RoundBound):
                logger.warning("round_refused", task=proposed.task, round=number, reason=decided.reason)  # type: ignore[union-attr]
                return
            self._note_step("bound")
        elif opened.fault is not None:
            # Bound in another life, and what it was bound on is gone since.
            self._say(task, self._refuse(round_, reason=opened.fault, updates=opened.blamed))
            return
        # The same bytes in each life, since all of it follows from seeds and proposal.
        parameters, drawn = task.created.parameters, None
        if proposed.mechanism is not None and task.created.policy.masked_by.noise == "helpers":
            drawn = noise.draw(self._kept.noise_key, proposed, parameters=parameters)
        data = sum_masks(opened.seeds, self.helper, parameters=parameters, noise=drawn)
        at, name = TopicPartition(BODIES.name, self._partition), f"{proposed.task}/{number}/{self.helper}"
        body = store(self._log, at, data=data, upload_id=name, codec=RING)
        self._note_step("stored")
        self._say(task, MasksSummed(task=proposed.task, helper=self.helper, round=number, proposal=proposal, body=body))
        logger.info("masks_summed", task=proposed.task, round=number, members=len(round_.members))

    def _is_bound(self, proposal: bytes) -> bool:
        return proposal in self.said.proposals

    def _open(self, task: HeardTask, round_: HeardRound, *, trust: Trust) -> Opened:
        places = [
            member.admitted.submitted_at for member in round_.members if isinstance(member.admitted.submitted_at, tuple)
        ]
        opener = Opener(task, self.helper, trust=trust, keys=self._keys, models=self.said.models)
        return opener.open(round_.members, read_records(self._log, self._partition, places=places))

    def _refuse(self, round_: HeardRound, *, reason: str, updates: Iterable[str] = ()) -> MasksRefused:
        proposed = round_.proposed
        assert proposed is not None
        return MasksRefused(
            task=proposed.task,
            helper=self.helper,
            round=proposed.round,
            proposal=digest_proposal(proposed),
            reason=reason,  # type: ignore[arg-type]
            updates=tuple(updates),
        )

    def _say(self, task: HeardTask, event: HelperEvent) -> None:
        statement = self._sign(task.created, event)
        # On the disk before anybody sees it: a word that is said and forgotten could be said another way.
        self._kept.keep(statement)
        fold_said(self.said, event)
        self._prev = digest_said(statement)
        self._note_step("kept")
        self.append(statement)
        self._note_step("said")

    def append(self, statement: bytes) -> None:
        """Show a statement to others; a copy of one that they have seen changes nothing."""
        self._log.append([Draft(topic=MASKS.name, partition=self._partition, value=statement)])

    def _sign(self, created: TaskCreated, event: HelperEvent) -> bytes:
        said = HelperSaid(deployment=created.deployment, seq=self.said.seq, prev=self._prev, event=event)
        return sign_said(said, self._kept.key)
