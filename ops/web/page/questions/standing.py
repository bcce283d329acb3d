"""How things stand beside the tasks: devices, ledgers, and who writes the journals."""

from __future__ import annotations

from ops.history.tables.facts import FACTS
from ops.web.page.moment import Moment, Row, Rows
from schemas.topics import UPDATES

# As many as one reads; the API has pages for all of them.
DEVICES_MAX, LEASES_MAX, CHARGES_MAX = 100, 30, 60

_DEVICES = """
    FROM devices WHERE ($task = '' OR task = $task) AND ($cohort = '*' OR cohort = $cohort)
    ORDER BY last_lease_at DESC, device, task LIMIT $limit"""
_COUNT = """
    SELECT count(*) AS rows, count(DISTINCT device) AS devices FROM facts.lease_granted
    WHERE $task = '' OR task = $task"""
_OF_DEVICE = "FROM devices WHERE device = $device ORDER BY last_lease_at DESC"
_LEASES = """
    SELECT task, lease, base_version, granted_at, outcome, reason, held_s FROM leases WHERE device = $device
    ORDER BY granted_at DESC, lease LIMIT $limit"""
_UPDATES = """
    SELECT task, version AS base_version, staleness, weight / weight_one AS weight, samples, epoch_ms(at_ms) AS
        decided_at, at_topic AS topic, at_partition AS partition, at_offset AS "offset"
    FROM facts.update_admitted JOIN policies USING (task) WHERE device = $device
    ORDER BY at_ms DESC, "offset" DESC LIMIT $limit"""
_LEDGER = """
    FROM ledger WHERE $task = '' OR task = $task ORDER BY decided_at DESC, "offset" DESC LIMIT $limit"""
# What is spent only grows, and a budget is only ever lowered.
_POPULATIONS = """
    SELECT split_part(task, '.', 1) AS population, max(population_rho) AS rho, min(population_rho_max) AS rho_max,
        max(population_epsilon) AS epsilon, max(delta) AS delta, list_sort(list_distinct(list(task))) AS tasks
    FROM ledger WHERE population_rho_max IS NOT NULL
        AND ($task = '' OR split_part(task, '.', 1) = split_part($task, '.', 1))
    GROUP BY population ORDER BY population"""
_WORKERS = "FROM workers ORDER BY superseded_at IS NOT NULL, actor, partition, claimed_at DESC LIMIT 100"
_DIGESTS = """
    SELECT at_topic AS topic, at_partition AS partition, max(at_offset) AS "offset", arg_max(decisions, at_offset) AS
        decisions, epoch_ms(max(at_ms)) AS appended_at
    FROM facts.state_digest GROUP BY at_topic, at_partition ORDER BY at_topic, at_partition"""
_WAITING = """
    WITH decided AS (
        SELECT at_partition, max(input_offset) AS last FROM (
            SELECT at_partition, input_topic, input_offset FROM facts.update_admitted
            UNION ALL SELECT at_partition, input_topic, input_offset FROM facts.update_refused
            UNION ALL SELECT at_partition, input_topic, input_offset FROM facts.updates_declined
            UNION ALL SELECT at_partition, input_topic, input_offset FROM facts.inputs_dropped
        ) WHERE input_topic = $updates GROUP BY at_partition
    ), released AS (
        SELECT task, round FROM facts.model_published
        UNION ALL SELECT task, round FROM facts.round_abandoned UNION ALL SELECT task, round FROM facts.round_withheld
    )
    SELECT
        (SELECT count(*) FROM facts.submission LEFT JOIN decided USING (at_partition)
            WHERE at_offset > coalesce(last, -1)) AS updates,
        (SELECT count(*) FROM facts.round_proposed ANTI JOIN released USING (task, round)) AS rounds"""
_TOLD = " UNION ALL ".join(
    "SELECT at_topic AS topic, at_partition AS partition, count(*) AS events, max(at_offset) AS last, "
    f"max(at_ms) AS at_ms FROM facts.{table.name} GROUP BY ALL"
    for table in FACTS.values()
)
# Over every table of facts: a topic has many kinds of events.
_JOURNALS = f"""
    SELECT topic, partition, sum(events)::BIGINT AS events, max(last) AS "offset", epoch_ms(max(at_ms)) AS appended_at
    FROM ({_TOLD}) GROUP BY topic, partition ORDER BY topic, partition"""


def list_devices(moment: Moment, *, task: str, cohort: str) -> Rows:
    """Devices by their last lease, the newest first; `cohort` "*" is every one."""
    return moment.ask(_DEVICES, task=task, cohort=cohort, limit=DEVICES_MAX)


def count_devices(moment: Moment, *, task: str) -> int:
    """How many devices were ever granted a lease."""
    return int(moment.ask_one(_COUNT, task=task)["devices"])


def read_device(moment: Moment, device: str) -> Rows:
    """A device in each of its tasks."""
    return moment.ask(_OF_DEVICE, device=device)


def list_leases(moment: Moment, device: str) -> Rows:
    """The newest leases of a device."""
    return moment.ask(_LEASES, device=device, limit=LEASES_MAX)


def list_updates(moment: Moment, device: str) -> Rows:
    """The newest admitted updates of a device."""
    return moment.ask(_UPDATES, device=device, limit=LEASES_MAX)


def list_charges(moment: Moment, *, task: str) -> Rows:
    """The newest rows of the ledger."""
    return moment.ask(_LEDGER, task=task, limit=CHARGES_MAX)


def list_populations(moment: Moment, *, task: str) -> Rows:
    """Each population with a budget under which something was charged, or that of one task."""
    return moment.ask(_POPULATIONS, task=task)


def list_workers(moment: Moment) -> Rows:
    """Claims of journals: those that hold come first."""
    return moment.ask(_WORKERS)


def list_digests(moment: Moment) -> Rows:
    """The newest digest that each actor has recorded of its state."""
    return moment.ask(_DIGESTS)


def count_waiting(moment: Moment) -> Row:
    """What waits for a worker: `updates` without a decision, `rounds` without a release."""
    return moment.ask_one(_WAITING, updates=UPDATES.name)


def list_journals(moment: Moment) -> Rows:
    """How far each partition of each topic is in the history."""
    return moment.ask(_JOURNALS)
