"""An export of the story, changed copies of it, and what `fedlog verify` and `fedlog replay --full` say of them."""

from __future__ import annotations

import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ops.audit.export import CHECKPOINT, select_topics, write_export
from ops.audit.findings import Findings
from ops.audit.replay import Audit
from ops.audit.verification import Verification
from schemas.published import parse_checkpoint
from streams.exported import MANIFEST, ExportDamaged, ExportedLog, Manifest, Part
from streams.exported.writer import write_block
from streams.log import Record, TopicPartition, scan
from tests.trials.tamper.mutations import MUTATIONS, Change, Original
from tests.worlds.builders import ANCHOR, KEY
from tests.worlds.story import told


@dataclass(frozen=True, slots=True)
class Tried:
    """One change: what was done, who found it (nobody: empty), and what was said."""

    kind: str
    what: str
    by: str
    told: str


def command(seed: int, number: int) -> str:
    """What repeats one change."""
    return f"python -m tests.trials.tamper --seed {seed} --only {number}"


class Bench:
    """Holds the honest export; each change is written into files anew, with a manifest that fits them.

    Of the changes that `verify` finds, one in `replay_every` is replayed too: it finds them as well, and never raises.
    """

    def __init__(self, folder: Path, *, seed: int, replay_every: int = 1) -> None:
        story = told()
        self._replay_every = replay_every
        self._honest, self._scratch, self._seed = folder / "honest", folder / "changed", seed
        self._partition = story.partition
        write_export(
            story.log, [story.partition], topics=select_topics(bodies=True, inputs=True), folder=self._honest, key=KEY
        )
        self._manifest = msgspec.json.decode((self._honest / MANIFEST).read_bytes(), type=Manifest)
        self._given = [parse_checkpoint((self._honest / CHECKPOINT).read_bytes().strip())]
        log = ExportedLog(self._honest)
        parts = [part for part in self._manifest.parts if part.partition == self._partition]
        self._original = Original({p.topic: [*scan(log, TopicPartition(p.topic, p.partition))] for p in parts})
        # Written anew like every change, so that nothing is found in the writing itself.
        by, said = self.judged(ExportedLog(self._changed(self._original.records)))
        assert not by, f"the honest export is not whole: {said}"

    @property
    def records(self) -> int:
        """How many records the honest export holds."""
        return sum(len(records) for records in self._original.records.values())

    def tried(self, number: int) -> Tried:
        """Make change `number` of this seed, and look whether it is found."""
        kind, change = self.drawn(number)
        log = self._changed(change.records)
        try:
            by, said = self.judged(ExportedLog(log))
            if by != "replay" and number % self._replay_every == 0:
                found = self._replayed(ExportedLog(log))
                by = by if found.differences or by != "verify" else ""
        except ExportDamaged as error:
            by, said = "files", str(error)
        except Exception as error:  # noqa: BLE001  a traceback is no finding
            by, said = "", f"{type(error).__name__}: {error}"
        return Tried(kind, change.what, by, said)

    def drawn(self, number: int) -> tuple[str, Change]:
        """The change itself: kinds take turns, so that each gets its share."""
        draw = random.Random(f"{self._seed}/{number}")
        kinds = [*MUTATIONS]
        kind = kinds[number % len(kinds)]
        while True:
            change = MUTATIONS[kind](self._original, draw)
            if change is not None:
                return kind, change

    def judged(self, log: ExportedLog) -> tuple[str, str]:
        """Who finds something first: the journals by themselves, a checkpoint, the full replay, or the count."""
        check = Verification(log, self._partition, operator=KEY.public_key)
        if (fault := next(check.check(), None)) is not None:
            return "verify", str(fault)
        if (fault := next(check.check(self._given), None)) is not None:
            return "checkpoint", str(fault)
        found = self._replayed(log)
        if found.differences:
            return "replay", found.verdict
        # What nobody signed, or somebody copied, changes nothing; that it is there is counted.
        strangers = sum(report.strangers for report in check.reports.values())
        return ("count", f"{strangers} strangers, {found.verdict}") if strangers else ("", found.verdict)

    def _replayed(self, log: ExportedLog) -> Findings:
        return Audit(log, self._partition, anchor=ANCHOR, full=True, to=None).run()

    def _changed(self, records: Mapping[str, Sequence[Record]]) -> Path:
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir()
        parts = tuple(
            self._part(part, records.get(part.topic) if part.partition == self._partition else None)
            for part in self._manifest.parts
        )
        manifest = msgspec.structs.replace(self._manifest, parts=parts)
        (self._scratch / MANIFEST).write_bytes(msgspec.json.encode(manifest))
        return self._scratch

    def _part(self, part: Part, records: Sequence[Record] | None) -> Part:
        path = self._scratch / part.file
        if records is None:
            path.hardlink_to(self._honest / part.file)
            return part
        with path.open("wb") as file:
            blocks = (write_block(file.write, records),) if records else ()
        end = (
            records[-1].offset + 2 if records else 0
        )  # a cut tail leaves no hole behind, and a new record room for a marker
        return msgspec.structs.replace(part, blocks=blocks, end=end)
