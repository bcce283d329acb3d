"""The history beside an independent reader of the topics: every number that both can tell must be the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ops.history.tables import explaining
from ops.history.tables.answers import Answer
from streams.kafka.settings import KafkaSettings
from tests.judges.plain_reader import PlainLog

Ask = Callable[[str], Answer]
PLACE = 'topic, partition, "offset"'
QUESTIONS: dict[str, tuple[str, Callable[[PlainLog, str], list[tuple[Any, ...]]]]] = {
    "versions": (
        f"version, round_id, client_count, sha256, members_root, epoch_ms(published_at), {PLACE}",
        PlainLog.list_versions,
    ),
    "updates": (
        f"""update_id, outcome, device, cohort, round_id, base_version, staleness, weight / 1048576, clip_scale,
        zeroed, sha256, body_bytes, record_bytes, epoch_ms(granted_at), epoch_ms(submitted_at), epoch_ms(decided_at),
        {PLACE}""",
        PlainLog.list_updates,
    ),
    "rounds": (
        """round_id, status, client_count, noise_scale, rho_total, epsilon, staleness_p50, staleness_p95,
        duration_s, version, weight_sum""",
        PlainLog.list_rounds,
    ),
    "ledger": (
        f"round_id, outcome, noise_multiplier, participations_max, rho_total, epsilon, delta, {PLACE}",
        PlainLog.list_ledger,
    ),
    "devices": (
        """device, cohort, leases, admitted, refused, expired, abandoned, staleness_mean,
        epoch_ms(first_lease_at), epoch_ms(last_lease_at)""",
        PlainLog.list_devices,
    ),
    "leases": (
        """lease, device, base_version, epoch_ms(granted_at), epoch_ms(deadline), outcome, reason, round_id,
        epoch_ms(closed_at)""",
        PlainLog.list_leases,
    ),
    "checkins": ("reason, count", PlainLog.count_checkins),
    "refusals": ("reason, count", PlainLog.count_refusals),
    "evaluations": ("version, cohort, metric, value, samples", PlainLog.list_scores),
}


def list_differences(ask: Ask, kafka: KafkaSettings, tasks: Iterable[str]) -> tuple[list[str], dict[str, int]]:
    """Where the history of these tasks and the topics differ, and how many rows of each table were compared."""
    plain, differences = PlainLog.read(kafka.client(), kafka.topic_prefix), list[str]()
    counts = dict.fromkeys(QUESTIONS, 0)
    for task in tasks:
        for name, (columns, tell) in QUESTIONS.items():
            rows, told = ask(f"SELECT {columns} FROM {name} WHERE task = '{task}'").rows, tell(plain, task)
            # A submission without a decision is in the history, and nobody has told its outcome yet.
            rows = [row for row in rows if name != "updates" or row[1] is not None]
            counts[name] += len(told)
            differences += _differ(f"{name} of {task}", rows, told)
        for version in (row[0] for row in plain.list_versions(task) if row[0]):
            differences += _differ_in_version(ask, plain, task=task, version=version)
    return differences, counts


def _differ_in_version(ask: Ask, plain: PlainLog, *, task: str, version: int) -> Iterator[str]:
    parts = {part.title: part.to_json() for part in explaining.explain(ask, task, version=version)}
    where = f"explain {task}@{version}: "
    published = plain.one("ModelPublished", task=task, version=version)
    assert published is not None
    members = [row for row in plain.list_updates(task) if row[1] == "admitted" and row[4] == published["round"]]
    names = ("update_id", "device", "cohort", "base_version", "staleness", "weight", "clip_scale", "zeroed", "sha256")
    yield from _differ(
        f"{where}members",
        [(*(row[name] for name in names), row["topic"], row["partition"], row["offset"]) for row in parts["members"]],
        [(row[0], row[2], row[3], *row[5:11], *row[16:]) for row in members],
    )
    yield from _differ(
        f"{where}refused",
        [
            (
                row["outcome"],
                row["device"],
                row["update_id"],
                round(row["decided_at"].timestamp() * 1000),
                row["offset"],
            )
            for row in parts["refused meanwhile"]
        ],
        [(*row[:4], row[-1]) for row in plain.list_meanwhile(task, version)],
    )
    charges = [(row[0], row[4]) for row in plain.list_ledger(task) if row[1] == "charged"]
    spent = [
        (charges[n - 1][1] if n else 0, rho) for n, (number, rho) in enumerate(charges) if number == published["round"]
    ]
    told = [(row["rho_before"], row["rho_after"]) for row in parts["ledger"]]
    yield from _differ(f"{where}ledger", told, spent)


def _differ(what: str, rows: list[tuple[Any, ...]], told: list[tuple[Any, ...]]) -> Iterator[str]:
    only_rows = sorted(map(repr, {*rows} - {*told}))
    only_told = sorted(map(repr, {*told} - {*rows}))
    if only_rows or only_told or len(rows) != len(told):
        yield f"{what}: {len(rows)} rows, {len(told)} told; only here {only_rows[:2]}, only there {only_told[:2]}"
