"""The archive: every version is there once and whole, whatever ends in between and whoever writes beside it."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ops.archive.archivist import Archived, Archivist, Removed, Step, Waiting
from ops.archive.folder import Folder
from ops.archive.stores import Store, StoreAway, Stored, StoreTaken
from ops.operator import models
from schemas.events import TensorSpec
from schemas.identifiers import BodyRef
from schemas.published import parse_checkpoint
from schemas.tensors import Floats
from schemas.topics import PUBLISHED
from streams.log import EventLog, LogUnavailable
from tests.worlds.builders import DEPLOYMENT, KEY, spending
from tests.worlds.ops_journal import TASK, append, policy
from tests.worlds.releasing.public_log import FLAT, PublicLog, announced

PRIVATE = policy(privacy={"noise_multiplier": 1.0, "rho_max": 9.0}, stop={"versions_max": 5})
SHORT = policy(retention={"models_kept": 3, "milestone_every": 4}, staleness={"max_versions": 2})


def archive(world: PublicLog, store: Store, **options: object) -> list[Step]:
    """What a fresh archivist does."""
    with closing(Archivist(world.log, store, operator=KEY.public_key, deployment=DEPLOYMENT, **options)) as archivist:  # type: ignore[arg-type]
        archivist.catch_up()
        return [*archivist.step()]


def read_all(folder: Path) -> dict[str, bytes]:
    """Every file of an archive."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def world() -> PublicLog:
    """A private task with versions 0 to 2, of which one is scored."""
    world = PublicLog(policy=PRIVATE, spent_before=(spending(3),))
    for version in range(3):
        world.publish(version)
    world.score(1, 0.5)
    return world


def test_a_version_is_three_files_that_need_nothing_of_fedlog(world: PublicLog, tmp_path: Path) -> None:
    """numpy reads the weights, JSON the rest; the digests tie them to what the aggregator has signed."""
    steps = archive(world, Folder(tmp_path))
    assert [(step.version, step.weights) for step in steps if isinstance(step, Archived)] == [
        (0, True),
        (1, True),
        (2, True),
    ]
    files = read_all(tmp_path)
    assert sorted(files) == sorted(
        f"{TASK}/{v}/{f}" for v in range(3) for f in ("config.json", "privacy.log", "weights.bin")
    )
    raw, config = files[f"{TASK}/2/weights.bin"], json.loads(files[f"{TASK}/2/config.json"])
    assert np.frombuffer(raw, "<f4").tolist() == (FLAT * 3).tolist()
    assert config["sha256"] == hashlib.sha256(raw).hexdigest()
    signed = parse_checkpoint(config["announcement"].encode())
    assert (signed.task, signed.version) == (TASK, 2)
    assert config["published_sha256"] == world.bodies[2].sha256.hex()
    assert config["lineage"]["previous_sha256"] == world.bodies[1].sha256.hex()
    assert (config["journal"]["seq"], config["members"], config["policy"]["privacy"]["rho_max"]) == (2, 3, 9.0)


def test_the_privacy_record_ends_with_the_version(world: PublicLog, tmp_path: Path) -> None:
    """One line on the guarantee, and one on each charge up to this version; later ones are not this version's."""
    archive(world, Folder(tmp_path))
    lines = [json.loads(line) for line in (tmp_path / TASK / "1" / "privacy.log").read_text().splitlines()]
    assert (lines[0]["unit"], lines[0]["rho_max"], lines[0]["spent_before"][0]["participations"]) == (
        "one device",
        9.0,
        3,
    )
    assert [(line["round"], line["rho_total"], line["epsilon"], line["delta"]) for line in lines[1:]] == [
        (0, 0.5, 4.0, 1e-5)
    ]
    assert lines[1]["mechanism"]["sampler"] == "ladder-2"


def test_a_second_run_changes_nothing(world: PublicLog, tmp_path: Path) -> None:
    """What is there is left as it is: not a byte, and no file is written again."""
    archive(world, Folder(tmp_path))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*") if path.is_file()}
    assert archive(world, Folder(tmp_path)) == []
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_score_that_comes_later_is_added(world: PublicLog, tmp_path: Path) -> None:
    """Scores of a version come when it has long been there; nothing else of its file changes."""
    archive(world, Folder(tmp_path))
    before = json.loads((tmp_path / TASK / "1" / "config.json").read_text())
    world.score(1, 0.25, cohort="b")
    [step] = archive(world, Folder(tmp_path))
    assert step == Archived(task=TASK, version=1, weights=True, is_new=False)
    after = json.loads((tmp_path / TASK / "1" / "config.json").read_text())
    assert [score["cohort"] for score in after["evaluations"]] == ["", "b"]
    assert {**after, "evaluations": before["evaluations"]} == before


def test_a_copy_of_a_score_is_no_other_score(world: PublicLog, tmp_path: Path) -> None:
    """Whoever may write into the topic can put a signed record there a thousand times."""
    world.score(1, 0.5)
    archive(world, Folder(tmp_path))
    assert len(json.loads((tmp_path / TASK / "1" / "config.json").read_text())["evaluations"]) == 1


def test_nothing_is_archived_before_it_was_charged(world: PublicLog, tmp_path: Path) -> None:
    """Topics are read one after the other: a privacy record without its last charge would promise too much."""
    world.publish(3, charged=False)
    archive(world, Folder(tmp_path))
    assert not (tmp_path / TASK / "3").exists()
    world.charge(2)
    assert [step.version for step in archive(world, Folder(tmp_path))] == [3]


class Dying(Exception):
    """A process that ends here."""


class Fragile:
    """A store whose process dies at its n-th word, before or after it was carried out."""

    address = "fragile"

    def __init__(self, store: Store, *, at: int, after: bool) -> None:
        self._store, self._at, self._after = store, at, after
        self._words = count()

    def _carry_out(self, word: str, *given: object, **named: object) -> object:
        dies = next(self._words) == self._at
        if dies and not self._after:
            raise Dying
        said = getattr(self._store, word)(*given, **named)
        if dies:
            raise Dying
        return said

    def list_sizes(self, beginning: str = "") -> Iterator[tuple[str, int]]:
        yield from self._carry_out("list_sizes", beginning)  # type: ignore[misc]

    def read(self, name: str) -> Stored | None:
        return self._carry_out("read", name)  # type: ignore[return-value]

    def write(self, name: str, data: bytes) -> None:
        self._carry_out("write", name, data)

    def replace(self, name: str, data: bytes, *, over: Stored | None) -> bool:
        return self._carry_out("replace", name, data, over=over)  # type: ignore[return-value]

    def delete(self, name: str) -> None:
        self._carry_out("delete", name)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_whatever_ends_it_the_next_run_gives_the_same_bytes(tmp_path: Path, *, after: bool) -> None:
    """Killed at each word that it says to its store, started again: no byte differs from an undisturbed run's."""
    world = PublicLog(policy=policy(retention={"models_kept": 2}, staleness={"max_versions": 1}))
    for version in range(3):
        world.publish(version)
    world.score(2, 0.5)
    archive(world, Folder(tmp_path / "calm"))
    for at in count():
        folder = tmp_path / f"killed {at}"
        try:
            archive(world, Fragile(Folder(folder), at=at, after=after))
        except Dying:
            configurations = [name for name in read_all(folder) if name.endswith("config.json")]
            for name in configurations:
                # Written last: where it stands, all stands.
                assert (folder / name).with_name("privacy.log").exists()
            archive(world, Folder(folder))
            assert read_all(folder) == read_all(tmp_path / "calm")
        else:
            assert at > 12
            return


def test_two_side_by_side_give_the_same_bytes(tmp_path: Path) -> None:
    """Neither undoes what the other has written, also where one has read more of the log."""
    world = PublicLog(policy=SHORT)
    for version in range(8):
        world.publish(version)
        world.score(version, version / 8)
    together, alone = tmp_path / "together", tmp_path / "alone"
    workers = [threading.Thread(target=archive, args=(world, Folder(together))) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    archive(world, Folder(alone))
    assert read_all(together) == read_all(alone)


def test_an_older_view_takes_no_score_away(world: PublicLog, tmp_path: Path) -> None:
    """One that has read less of the log leaves what another has written with more of it."""
    store = Folder(tmp_path)
    behind = Archivist(world.log, store, operator=KEY.public_key, deployment=DEPLOYMENT)
    behind.catch_up()
    world.score(1, 0.25, cohort="b")
    archive(world, store)
    before = read_all(tmp_path)
    assert [step for step in behind.step() if isinstance(step, Archived) and step.is_new] == []
    assert read_all(tmp_path) == before
    behind.close()


def test_weights_leave_by_the_policy_and_all_else_stays(tmp_path: Path) -> None:
    """The last three and each fourth; of the others configuration and privacy record, for ever."""
    world, store = PublicLog(policy=SHORT), Folder(tmp_path)
    with closing(Archivist(world.log, store, operator=KEY.public_key, deployment=DEPLOYMENT)) as archivist:
        steps = list[Step]()
        for version in range(8):
            world.publish(version)
            archivist.wait(0.01)
            steps += archivist.step()
    assert [step.version for step in steps if isinstance(step, Removed)] == [1, 2, 3]
    has = {int(path.parent.name) for path in tmp_path.rglob("weights.bin")}
    assert has == {0, 4, 5, 6, 7}
    assert len([*tmp_path.rglob("config.json")]) == len([*tmp_path.rglob("privacy.log")]) == 8


def test_weights_never_leave_before_their_successors_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the log does not give some of the newer models, the older ones stay, though the newest is there."""
    world, store = PublicLog(policy=SHORT), Folder(tmp_path)
    for version in range(3):
        world.publish(version)
    archive(world, store)
    for version in range(3, 8):
        world.publish(version)
    read, kept_back = models.read, [world.bodies[version] for version in (5, 6)]

    def read_some(log: EventLog, ref: BodyRef, **options: Any) -> Floats:
        if ref in kept_back:
            raise LogUnavailable("no broker")
        return read(log, ref, **options)

    monkeypatch.setattr(models, "read", read_some)
    steps = archive(world, store)
    # The third has left the log by the policy, and is there without weights.
    told = [(type(step), step.version) for step in steps]
    assert told == [(Archived, 4), (Waiting, 5), (Waiting, 6), (Archived, 7), (Archived, 3)]
    assert {int(path.parent.name) for path in tmp_path.rglob("weights.bin")} == {0, 1, 2, 4, 7}


def test_what_was_promoted_keeps_its_weights(tmp_path: Path) -> None:
    """What was in production once may be asked for again; a candidate stays while it is one."""
    world, store = PublicLog(policy=SHORT), Folder(tmp_path)
    with closing(Archivist(world.log, store, operator=KEY.public_key, deployment=DEPLOYMENT)) as archivist:
        for version in range(8):
            world.publish(version)
            if version == 1:
                world.announce("promoted", 1, seq=1)
            if version == 2:
                world.announce("canary", 2, seq=2, share=0.5)
            archivist.wait(0.01)
            [*archivist.step()]
        assert {int(path.parent.name) for path in tmp_path.rglob("weights.bin")} == {0, 1, 2, 4, 5, 6, 7}
        world.announce("rolledback", 2, seq=3, to=1)
        archivist.wait(0.01)
        assert [*archivist.step()] == [Removed(task=TASK, version=2)]


def test_a_candidate_that_comes_late_gets_its_weights_back(tmp_path: Path) -> None:
    """The log has kept them for the rollout, and the archive, which could not know, had let them go."""
    world, store = PublicLog(policy=SHORT), Folder(tmp_path)
    for version in range(8):
        world.publish(version)
    archive(world, store)
    assert not (tmp_path / TASK / "2" / "weights.bin").exists()
    before = read_all(tmp_path)
    world.announce("canary", 2, seq=1, share=0.5)
    archive(world, store)
    assert read_all(tmp_path).keys() - before.keys() == {f"{TASK}/2/weights.bin"}


def test_a_version_whose_body_is_gone_is_archived_without_it(tmp_path: Path) -> None:
    """Metadata for ever: the file says that there are no weights, and the step says why."""
    world = PublicLog(policy=SHORT)
    for version in range(3):
        world.publish(version)
    world.drop(1)
    steps = archive(world, Folder(tmp_path))
    assert [(step.version, step.weights) for step in steps if isinstance(step, Archived)] == [
        (0, False),
        (1, False),
        (2, True),
    ]
    assert json.loads((tmp_path / TASK / "1" / "config.json").read_text())["sha256"] is None
    assert "[retention]" in next(step.reason for step in steps if isinstance(step, Archived))


def test_nothing_that_nobody_vouches_for_is_archived(tmp_path: Path) -> None:
    """A stranger's version, and one under the key of another role, are nothing, wherever they stand."""
    world = PublicLog(policy=SHORT)
    world.publish(0)
    append(world.log, PUBLISHED.name, announced("promoted", 0, seq=1, role="evaluator"))
    append(world.log, PUBLISHED.name, b'{"type":"io.fedlog.model.published.v1"}')
    strangers = PublicLog(policy=SHORT, task="other")
    strangers.publish(0)
    with closing(Archivist(strangers.log, Folder(tmp_path), operator=bytes(32), deployment=None)) as archivist:
        archivist.catch_up()
        assert [*archivist.step()] == []
    assert [step.task for step in archive(world, Folder(tmp_path))] == [TASK]


def test_another_deployments_archive_is_not_written_over(tmp_path: Path) -> None:
    """Two deployments may have a task of the same name: what stands there is the other's."""
    world, other = PublicLog(policy=SHORT), PublicLog(policy=PRIVATE, time_ms=1)
    for each in (world, other):
        each.publish(0)
    archive(other, Folder(tmp_path))
    before = read_all(tmp_path)
    with pytest.raises(StoreTaken, match="another deployment"):
        archive(world, Folder(tmp_path))
    assert read_all(tmp_path) == before


def test_one_task_alone(tmp_path: Path) -> None:
    """Others are left out, though they live in the same partition."""
    world = PublicLog(policy=SHORT)
    world.publish(0)
    assert archive(world, Folder(tmp_path), task="elsewhere") == []
    assert [step.version for step in archive(world, Folder(tmp_path), task=TASK)] == [0]


class Away(Folder):
    """A folder that does not answer at first, as a server that is down."""

    is_away = True

    def write(self, name: str, data: bytes) -> None:
        if self.is_away:
            raise StoreAway("away")
        super().write(name, data)


def test_a_store_that_was_away_gets_all_of_it(tmp_path: Path) -> None:
    """Nothing is lost by a store that fails: the same archivist writes it when it answers again."""
    world, store = PublicLog(policy=SHORT), Away(tmp_path)
    world.publish(0)
    with closing(Archivist(world.log, store, operator=KEY.public_key, deployment=DEPLOYMENT)) as archivist:
        archivist.catch_up()
        for _ in range(2):
            with pytest.raises(StoreAway):
                [*archivist.step()]
        store.is_away = False
        assert [step.version for step in archivist.step()] == [0]


def test_what_no_version_changes_stands_once(tmp_path: Path) -> None:
    """Frozen tensors are a file of their task, which each version names with its digest."""
    specs = [("weight", (2, 2), "trained"), ("bias", (2,), "trained"), ("base", (2,), "frozen")]
    tensors = tuple(TensorSpec(name=name, shape=shape, role=role) for name, shape, role in specs)  # type: ignore[arg-type]
    world = PublicLog(frozen=FLAT[:2], tensors=tensors)
    for version in range(2):
        world.publish(version)
    archive(world, Folder(tmp_path))
    raw = (tmp_path / TASK / "frozen.bin").read_bytes()
    config = json.loads((tmp_path / TASK / "1" / "config.json").read_text())
    assert np.frombuffer(raw, "<f4").tolist() == FLAT[:2].tolist()
    assert config["files"]["../frozen.bin"] == hashlib.sha256(raw).hexdigest()
    assert [place["file"] for place in config["tensors"]] == ["weights.bin", "weights.bin", "../frozen.bin"]
    assert archive(world, Folder(tmp_path)) == []
