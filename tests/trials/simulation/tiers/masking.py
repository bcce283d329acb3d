"""The tier masked in some worlds: helpers that die, lose words, refuse, lose keys, and are put back from an old copy.

All of it from a stream of chance of its own, so that worlds without masks stay what they were.
"""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from actors.hosts.helper.opening import Opened
from actors.hosts.helper.service import HelperService
from actors.hosts.helper.store import EPOCHS, HelperStore
from client_agent import local_update
from schemas.creations import sign_task_event
from schemas.events import DeploymentFounded, TaskCreated
from schemas.masking import ring, seeds
from schemas.policy import Policy, PolicyError, check_policy
from schemas.tensors import Quanta
from schemas.tensors.clipping import clip
from schemas.topics import BODIES, MASKS, TASKS
from streams.log import Draft, LogUnavailable, OffsetLost
from streams.memory import MemoryLog
from tests.judges.logbook import Logbook
from tests.judges.masking.sums import meant_faults
from tests.trials.simulation.faults import Faults
from tests.trials.simulation.shaky import HostLog, Killed
from tests.trials.simulation.tasks import PARAMETERS, Task
from tests.trials.simulation.verdict import Stuck
from tests.worlds.builders import DEPLOYMENT, KEY

SHARE = 0.6  # of the worlds have masked tasks
HELPERS = 2
LATE_STEPS_MAX, AWAY_STEPS_MAX = 40, 60


class Masking:
    """Everything masked in one world. `meant`: the vector in each masked body that a device has made, by its digest."""

    def __init__(self, seed: int, tasks: Sequence[Task], faults: Faults) -> None:
        self._chance, self._faults = random.Random(f"{seed}/masking"), faults
        self._keys = [hashlib.sha256(f"{seed}/helper {number}".encode()).digest() for number in range(HELPERS)]
        chosen = tasks if self._chance.random() < SHARE else ()
        self._tasks = [task for task in chosen if self._chance.random() < 0.8 and self._mask(task)]
        self._late: list[tuple[int, Draft]] = []
        self.meant: dict[bytes, Any] = {}
        self.helpers: list[Helper] = []

    def _mask(self, task: Task) -> bool:
        """Whether a task can be masked, as it is from then on."""
        names = [_name(key) for key in self._keys]
        noise = "none" if task.rules.privacy is None else self._chance.choice(("helpers", "helpers", "aggregator"))
        table = {
            "helpers": self._chance.choice((names, names, names[:1], names[1:], names[::-1])),
            "epoch_versions": self._chance.choice((1, 3)),
            # With two members of two weights each round would be too thin.
            "effective_min": self._chance.choice((1.2, 1.5)),
            "noise": noise,
        }
        plain: dict[str, Any] = msgspec.to_builtins(task.rules)
        plain |= {"tier": "masked", "masked": table}
        plain["compression"] |= {"codec": "float32"}
        plain["aggregation"] |= {"samples_max": 0, "normalisation": "count"}
        plain.pop("sealed", None)
        # What is told in the noise is one more masked element.
        if task.rules.privacy is not None and task.rules.measure is None and task.averaged < PARAMETERS - 1:
            tells = {"report": ("loss",), "report_bounds": {"loss": 1.0}} if self._chance.random() < 0.5 else {}
            plain["evaluation"] |= tells
        try:
            task.rules = check_policy(msgspec.convert(plain, Policy))
        except PolicyError:
            return False
        return True

    # --- the helpers, from step to step -----------------------------------------------------------------------------

    def begin(self, folder: Path, log: MemoryLog) -> None:
        """Found the deployment, and let the helpers begin."""
        if not self._tasks:
            return
        founded = sign_task_event(DeploymentFounded(deployment=DEPLOYMENT), KEY.signing)
        log.append([Draft(topic=TASKS.name, partition=0, value=founded)])
        self._log = log
        for number, key in enumerate(self._keys):
            place = folder / f"helper-{number}"
            place.mkdir(mode=0o700, parents=True)
            (place / "helper.key").touch(mode=0o600)
            (place / "helper.key").write_text(key.hex())
            self.helpers.append(Helper(place, HelperLog(log, self._faults, late=self._hold), faults=self._faults))

    def step(self) -> None:
        """Perhaps a word arrives that was late, and perhaps each helper does something."""
        self._land(1)
        for helper in self.helpers:
            if self._chance.random() < 0.9:
                helper.step()
                helper.suffer(is_all_said=not any(draft.topic == MASKS.name for _, draft in self._late))

    def settle(self) -> int:
        """Every helper lives, reads to the end and says what is due; how many records that were."""
        self._land(LATE_STEPS_MAX)
        return sum(helper.step(at_once=True) for helper in self.helpers)

    def close(self) -> None:
        """End them."""
        for helper in self.helpers:
            helper.end()

    def has_given_up(self, task: Task) -> bool:
        """Whether a helper of this task answers for no round any more."""
        behind = {helper.name for helper in self.helpers if helper.is_behind}
        return task in self._tasks and not behind.isdisjoint(task.rules.masked_by.helpers)

    def _hold(self, draft: Draft) -> None:
        self._late.append((self._chance.randint(1, LATE_STEPS_MAX), draft))

    def _land(self, steps: int) -> None:
        due = [draft for left, draft in self._late if left <= steps]
        self._late = [(left - steps, draft) for left, draft in self._late if left > steps]
        if due:
            self._log.append(due)

    # --- what devices do, and what is said in the end ---------------------------------------------------------------

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Remember what each device masks; and some devices seal what does not open."""
        with ExitStack() as stack:
            stack.enter_context(patch.object(local_update, "mask", self._note_masked))
            stack.enter_context(patch.object(local_update, "seal_seeds", self._seal))
            yield

    def _note_masked(self, quanta: Quanta, scale: int, **more: Any) -> bytes:
        masked = ring.mask(quanta, scale, **more)
        self.meant[hashlib.sha256(masked).digest()] = clip(quanta, scale).astype(np.int64)
        return masked

    def _seal(self, drawn: Sequence[bytes], header: bytes, **more: Any) -> tuple[bytes, ...]:
        sealed = seeds.seal_seeds(drawn, header, **more)
        if self._faults.strikes("seals bent"):
            return (*sealed[:-1], sealed[-1][:-1] + bytes([sealed[-1][-1] ^ 1]))
        return sealed

    def judge(self, log: MemoryLog, book: Logbook) -> Iterator[str]:
        """Whatever is not the sum of exactly the members."""
        if self._tasks:
            noise_keys = {helper.name: helper.noise_key for helper in self.helpers}
            yield from meant_faults(book, self.meant, noise_keys=noise_keys)

    def list_secrets(self) -> dict[str, bytes]:
        """What may stand in no topic."""
        keys = {f"the key of {helper.name}": key for helper, key in zip(self.helpers, self._keys, strict=False)}
        epochs = {f"{file}": file.read_bytes() for each in self.helpers for file in each.folder.glob(f"{EPOCHS}/*.key")}
        return keys | epochs | {f"the noise of {each.name}": each.noise_key for each in self.helpers}


class Helper:
    """One helper: its folder, the process that has it while it lives, and an old copy of it."""

    def __init__(self, folder: Path, log: HelperLog, *, faults: Faults) -> None:
        self.folder, self._log, self._faults = folder, log, faults
        self._copy = folder.with_name(f"{folder.name}.copy")
        self._store: Store | None = None
        self._service: Service | None = None
        self._away = 0
        with HelperStoreOnce(folder) as store:
            self.name, self.noise_key = store.public_key.hex(), store.noise_key

    @property
    def is_behind(self) -> bool:
        """Whether it was found to have been put back."""
        return (self.folder / "behind").exists()

    def step(self, *, at_once: bool = False) -> int:
        """Live on for a moment, from death to death; the number of records read."""
        self._away = 0 if at_once else max(0, self._away - 1)
        if self._away:
            return 0
        try:
            if self._store is None:
                self._store = Store(self.folder, self._faults)
                self._faults.hits["helpers started"] += 1
            if self._service is None:
                self._service = Service(self._log, self._store, self._faults)
            return self._service.step(0.0)
        except Killed as death:
            self._faults.hits[f"helper died at {death}"] += 1
            self.end()
        except (LogUnavailable, OffsetLost):
            self._close_service()  # the same process begins again
        except Exception as error:
            raise Stuck(f"helper {self.name}: {type(error).__name__}: {error}") from error
        return 1

    def suffer(self, *, is_all_said: bool) -> None:
        """What may happen to its folder, and for how long it may be away."""
        strikes, draw = self._faults.strikes, self._faults.masks
        if strikes("helper away"):
            self.end()
            self._away = draw.randint(1, AWAY_STEPS_MAX)
        if (files := sorted(self.folder.glob(f"{EPOCHS}/*.key"))) and strikes("helper's key lost"):
            self.end()
            draw.choice(files).unlink()
        # A copy that hides what others have not seen yet either is told from nothing: a printed limit.
        if is_all_said and not self._copy.exists() and draw.random() < 0.05:
            shutil.copytree(self.folder, self._copy)
        elif is_all_said and self._copy.exists() and not self.is_behind and strikes("helper put back"):
            self.end()
            shutil.rmtree(self.folder)
            shutil.copytree(self._copy, self.folder)

    def end(self) -> None:
        """Its process is gone, and its folder free."""
        self._close_service()
        if self._store is not None:
            self._store.close()
            self._store = None

    def _close_service(self) -> None:
        if self._service is not None:
            self._service.close()
            self._service = None


class Store(HelperStore):
    """A folder on a machine whose power may go in the middle of a write."""

    def __init__(self, folder: Path, faults: Faults) -> None:
        super().__init__(folder)
        self._faults = faults

    def keep(self, statement: bytes) -> None:
        if self._faults.strikes("helper's write torn"):
            with (self.folder / "said.log").open("ab") as file:
                whole = len(statement).to_bytes(4, "little") + statement
                file.write(whole[: self._faults.masks.randrange(len(whole))])
            raise Killed("a torn write")
        super().keep(statement)


class HelperStoreOnce:
    """A folder, open for a look."""

    def __init__(self, folder: Path) -> None:
        self._store = HelperStore(folder)

    def __enter__(self) -> HelperStore:
        return self._store

    def __exit__(self, *_: object) -> None:
        self._store.close()


class Service(HelperService):
    """The service of production, which now and then finds something wrong with a round."""

    def __init__(self, log: HelperLog, kept: HelperStore, faults: Faults) -> None:
        super().__init__(log, kept, operator=KEY.public_key, note_step=log.reached)
        self._faults = faults

    def _begin(self, created: TaskCreated, partition: int, *, helper: int) -> None:
        super()._begin(created, partition, helper=helper)
        speaker = self._speakers[created.task]
        opens = speaker._open

        def open_or_refuse(*round_: Any, **more: Any) -> Opened:
            opened = opens(*round_, **more)
            return Opened([], "defect") if self._faults.strikes("helper refuses") else opened

        speaker._open = open_or_refuse  # type: ignore[method-assign]


class HelperLog(HostLog):
    """What a helper sees: words that are late, or lost, or not heard of; it dies at any step."""

    def __init__(self, log: MemoryLog, faults: Faults, *, late: Any) -> None:
        super().__init__(log, faults)
        self._later = late

    def reached(self, step: str) -> None:
        if self.faults.strikes("helper killed"):
            raise Killed(step)

    def append(self, drafts: Sequence[Draft]) -> list[int]:
        self._find_broker()
        self.reached("append")
        if self.faults.strikes("helper's word late"):
            for draft in drafts:
                self._later(draft)
            raise LogUnavailable("simulated: it comes later")
        if self.faults.strikes("helper's word unheard"):
            self.inner.append(drafts[: self.faults.masks.randint(0, len(drafts))])
            raise LogUnavailable("simulated, after an append")
        offsets = self.inner.append([self._bend(draft) for draft in drafts])
        self.reached("appended")
        return offsets

    def _bend(self, draft: Draft) -> Draft:
        """A sum of masks may be stored as something else than what its helper says of it."""
        if draft.topic == BODIES.name and self.faults.strikes("helper's sum bent"):
            return Draft(topic=draft.topic, partition=draft.partition, value=b"\x55" * 24, key=draft.key)
        return draft


def _name(key: bytes) -> str:
    return Ed25519PrivateKey.from_private_bytes(key).public_key().public_bytes_raw().hex()
