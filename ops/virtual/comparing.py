"""Policies beside each other on one split, each with several seeds, by virtual time; `fedlog compare` calls it.

By virtual time nothing differs but the policy, the seed and the noise of a private one: not what else the machine does,
nor which process came first. What has been trained stands in the folder, so that a comparison goes on where it was
interrupted.
"""

from __future__ import annotations

import csv
import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import msgspec

from ops.history.plots import figures
from ops.history.plots.series import Ask, Series, read_series
from ops.operator.deployments import find_viewer
from ops.processes.running import RunFailed, RunOptions, name_after, read_policy, seed_all
from ops.settings import Settings
from ops.virtual.running import NotRepeatable, VirtualRun, require_repeatable
from schemas.errors import EXIT_USAGE, FedlogError
from streams.exported import ExportedLog

RUNS, TASK = "runs", "compared"
# Each run has a key of its own, so that its noise protects what it releases; but nobody adds up several ledgers.
_PRIVATE = (
    "{name} is private: each seed draws noise of its own, which comes out differently another time. Of real data all "
    "{seeds} runs are releases, and what they spend adds up; no ledger of one of them says so."
)
_COLUMNS = ("policy", "seed", "version", "uploads", "seconds", "metric", "value")


class Incomparable(FedlogError):
    """Policies that were named for a comparison cannot be compared; the message says why."""

    exit_code = EXIT_USAGE
    code = "incomparable"


@dataclass(frozen=True, slots=True)
class Spread:
    """What the seeds have come to: their mean, the smallest and the largest."""

    mean: float
    least: float
    most: float

    def make_columns(self, name: str) -> dict[str, float]:
        """It as columns of a row."""
        return {name: self.mean, f"{name}_min": self.least, f"{name}_max": self.most}


@dataclass(frozen=True, slots=True)
class Contender:
    """One policy with all its seeds.

    What is `to_target` is until the policy's own target was reached; None where some seed never did, or it has none.
    """

    policy: str
    runs: Sequence[Series]
    metric: str
    score: Spread
    versions: Spread
    uploads: Spread
    seconds: Spread
    staleness: Spread | None
    uploads_to_target: Spread | None
    seconds_to_target: Spread | None


class Comparison:
    """What to compare, checked before anything is trained: names, devices and data. Raises Incomparable."""

    def __init__(
        self, settings: Settings, policies: Sequence[Path], folder: Path, *, devices: int | None, changes: Sequence[str]
    ) -> None:
        self._settings, self._folder, self._changes = settings, folder, changes
        self._files = {name_after(file): file for file in policies}
        if len(self._files) < len(policies) or not policies:
            raise Incomparable("Name policies in files of different names: each is called by its file's.")
        self._devices = devices
        self._require_one_split()

    def train(self, seeds: int, *, say: Callable[[str], None]) -> list[Contender]:
        """Each policy with the seeds 1 to `seeds`, in turn. Raises RunFailed, which names both."""
        for name in self._list_private():
            say(_PRIVATE.format(name=name, seeds=seeds))
        found: dict[str, list[Series]] = {name: [] for name in self._files}
        # Seed by seed, so that an interrupted comparison has all policies with as many.
        for seed in range(1, seeds + 1):
            for name in self._files:
                one = self._train(name, seed=seed)
                score = f"{one.metric} {one.values[-1]:.4g}" if one.values else "no score"
                say(f"{name}, seed {seed}: {score} after {max(one.released, default=0)} versions")
                found[name].append(one)
        return [self._judge(name, runs) for name, runs in found.items()]

    def write(self, contenders: Sequence[Contender]) -> list[Path]:
        """The curves as CSV, and drawn as PNG and SVG. Returns the files."""
        table = self._folder / "compare.csv"
        with table.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(_COLUMNS)
            for one in contenders:
                for seed, run in enumerate(one.runs, 1):
                    columns = (run.versions, run.uploads, run.seconds, run.values)
                    for version, uploads, seconds, value in zip(*columns, strict=True):
                        writer.writerow((one.policy, seed, version, uploads, f"{seconds:.3f}", one.metric, value))
        pictures = [self._folder / "compare.png", self._folder / "compare.svg"]
        for path in pictures:
            figures.draw_comparison({one.policy: one.runs for one in contenders}, path)
        return [table, *pictures]

    def _list_private(self) -> list[str]:
        return [name for name in self._files if self._make_options(name, seed=1).policy.privacy is not None]

    def _require_one_split(self) -> None:
        options = {name: self._make_options(name, seed=1) for name in self._files}
        for name, each in options.items():
            try:
                require_repeatable(each, self._settings, draws_noise=True)
            except NotRepeatable as error:
                raise Incomparable(
                    f"{name} cannot be compared by virtual time, as `compare` trains. {error}"
                ) from error
        # A split over 20 devices and one over 40 are two tasks, and so are two sets of data.
        asked = {name: each.devices or each.policy.selection.devices_expected for name, each in options.items()}
        _require_equal("devices", asked, advice="give --devices N")
        _require_equal("data", {name: each.policy.data for name, each in options.items()}, advice="name the same data")

    def _make_options(self, name: str, *, seed: int) -> RunOptions:
        file = self._files[name]
        policy = read_policy(file, [*seed_all(seed), *self._changes])
        # One name for all, because what happens to a device is drawn from it: only the policy shall make a difference.
        return RunOptions(policy=policy, name=TASK, devices=self._devices, seed=seed, cwd=file.parent)

    def _train(self, name: str, *, seed: int) -> Series:
        options = self._make_options(name, seed=seed)
        kept = self._folder / RUNS / f"{name}-{seed}.json"
        digest = hashlib.sha256(msgspec.json.encode([options.policy, options.devices])).hexdigest()
        if kept.exists() and (found := _read(kept)) is not None and found.digest == digest:
            return found.series
        home = kept.with_suffix("")
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        settings = self._settings.move(home)
        with VirtualRun(settings, options, draws_noise=True) as run:
            try:
                for _ in run.follow():
                    pass
            except RunFailed as error:
                raise RunFailed(f"{name}, seed {seed}: {error}") from error
        with _open_history(settings, run.log_folder) as ask:
            series = replace(read_series(ask, TASK), name=name)
        # Last of all: what was interrupted before this is trained anew.
        kept.write_bytes(msgspec.json.encode(_Kept(digest, series)))
        return series

    def _judge(self, name: str, runs: Sequence[Series]) -> Contender:
        scored = [one for one in runs if one.values]
        if len(scored) < len(runs):
            raise Incomparable(f"{name} was not scored: name `model` and data with a held-out part, or an `evaluate`.")
        stop = self._make_options(name, seed=1).policy.stop
        reached = [_find_reached(one, stop.target_value) for one in scored] if stop.target_metric else [None]
        return Contender(
            policy=name,
            runs=runs,
            metric=scored[0].metric,
            score=_spread(one.values[-1] for one in scored),
            versions=_spread(one.versions[-1] for one in scored),
            uploads=_spread(one.uploads[-1] for one in scored),
            seconds=_spread(one.seconds[-1] for one in scored),
            staleness=_spread_if_all(one.staleness_mean for one in scored),
            uploads_to_target=_spread_if_all(at and at[0] for at in reached),
            seconds_to_target=_spread_if_all(at and at[1] for at in reached),
        )


class _Kept(msgspec.Struct, frozen=True):
    """What a run has come to, and the digest of what it was."""

    digest: str
    series: Series


def _require_equal(what: str, values: Mapping[str, object], *, advice: str) -> None:
    if len(set(values.values())) > 1:
        listed = ", ".join(f"{name} {value}" for name, value in values.items())
        raise Incomparable(f"Without the same {what} there is no one split ({listed}); {advice}.")


def _read(path: Path) -> _Kept | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Kept)
    # Half a file, or another release's: it is trained again.
    except msgspec.MsgspecError:
        return None


@contextmanager
def _open_history(settings: Settings, folder: Path | None) -> Iterator[Ask]:
    from ops.history.tables import duckdb_file, syncing

    assert folder is not None  # a virtual run that has ended has written its log
    log = ExportedLog(folder)
    with duckdb_file.make_transient() as history:
        syncing.sync(log, history, viewer=find_viewer(settings, log))
        yield history.ask


def _find_reached(one: Series, target: float) -> tuple[int, float] | None:
    """How many uploads, and how many seconds, it took."""
    along = zip(one.uploads, one.seconds, one.values, strict=True)
    return next(((uploads, seconds) for uploads, seconds, value in along if value >= target), None)


def _spread(values: Iterable[float]) -> Spread:
    found = [*values]
    return Spread(fmean(found), min(found), max(found))


def _spread_if_all(values: Iterable[float | None]) -> Spread | None:
    found = [*values]
    # The mean of the seeds that came so far would make a policy that often fails look quick.
    given = [value for value in found if value is not None]
    return _spread(given) if len(given) == len(found) else None


def list_rows(contenders: Sequence[Contender]) -> list[Mapping[str, object]]:
    """A row a policy, for a table or as JSON."""
    return [_make_row(one) for one in contenders]


def _make_row(one: Contender) -> dict[str, object]:
    row: dict[str, object] = {"policy": one.policy, "seeds": len(one.runs), "metric": one.metric}
    given = {
        "score": one.score,
        "versions": one.versions,
        "uploads": one.uploads,
        "virtual_s": one.seconds,
        "staleness": one.staleness,
        "uploads_to_target": one.uploads_to_target,
        "virtual_s_to_target": one.seconds_to_target,
    }
    for name, spread in given.items():
        row |= {name: None, f"{name}_min": None, f"{name}_max": None} if spread is None else spread.make_columns(name)
    return row
