"""Every event that a log line of fedlog may name: the level, and what it says. docs/logs.md is this table.

A test holds it against every call of a logger in the source. An operator's alert on a name must not fall silent because
somebody worded a line otherwise: a name that is here is renamed in a release that says so.
"""

from __future__ import annotations

from collections.abc import Mapping

from actors.hosts.event_log import name_logged
from actors.wiring import ROLES
from schemas.events import DefectFound, Event, InputsDropped, TaskCreated

_ANYWHERE: tuple[type[Event], ...] = (InputsDropped, DefectFound, TaskCreated)
# What a role decides beside these comes by the thousand, and is in metrics and journals.
TURNING_POINTS: Mapping[str, str] = {
    name_logged(kind): f"decided: `{kind.__name__}`"
    for kinds in (*(role.turning_points for role in ROLES.values()), _ANYWHERE)
    for kind in kinds
}
_ACTORS = {
    "actor_discarded": ("error", "an actor is thrown away after an error, and opened anew"),
    "answers_lost": ("warning", "answers to devices could not be sent after a commit; devices ask again"),
    "bodies_deleted": ("info", "bodies below an offset are deleted, because no round needs them any more"),
    "bodies_gone_before_tombstones": ("warning", "a model's chunks were gone before their tombstones were written"),
    "body_not_opened": ("warning", "a shard worker cannot open a sealed body"),
    "budget_misplaced": ("error", "a population's budget stands in another partition than the population"),
    "consumer_died": ("critical", "the consumer of a worker has ended, which ends the worker"),
    "defect": ("critical", "our own code failed on an input, which is skipped; please report it"),
    "drift_reference_unreadable": ("error", "what answers are compared with cannot be read; they are not compared"),
    "epoch_key_lost": ("error", "a key of a sealed or masked task is gone; its rounds are given up"),
    "gap": ("info", "offsets of an input are missing: markers of transactions, or deleted records"),
    "key_expires": ("info", "for how long the key of this role is good"),
    "key_expires_soon": ("warning", "the key of this role ends within thirty days: issue it again"),
    "masks_unusable": ("error", "what helpers said does not take the masks off a sum"),
    "measurement_unreadable": ("warning", "a score cannot be taken from a measurement"),
    "metrics": ("info", "where this process serves Prometheus"),
    "noise_key_missing": ("error", "a round was proposed under a noise key that is not here; it is abandoned"),
    "opened": ("info", "an actor has opened a partition: from which snapshot, decisions, seconds"),
    "shard_discarded": ("warning", "a shard is thrown away after an error, and begun anew"),
    "shard_worker_silent": ("warning", "a shard worker has said nothing; the aggregator does its work"),
    "shards_assigned": ("info", "which partitions this shard worker has"),
    "snapshot_not_stored": ("warning", "a snapshot could not be stored; the next start reads more"),
    "snapshot_not_used": ("warning", "a snapshot does not fit; the journal is read from its beginning"),
    "snapshot_too_large": ("warning", "a state is too large for a snapshot"),
    "sum_not_stored": ("warning", "a shard worker could not store its sum"),
    "task_refused": ("error", "a task is refused by everybody, with its faults"),
    "transaction_hangs": ("warning", "this worker's own transaction hangs; it claims again, which ends it"),
    "worker_failed": ("critical", "the worker ends with this error; its supervisor starts it again"),
}
_HELPERS = {
    "helper_begins_again": ("warning", "a helper begins anew after an error of the log"),
    "journal_broken": ("error", "the aggregator's journal is off its chain; a helper is silent in this partition"),
    "masks_summed": ("info", "a helper has answered for a round"),
    "model_refused": ("error", "a helper does not sign a model, and why"),
    "round_refused": ("warning", "a helper does not answer for a round, and why"),
    "store_behind": ("error", "a helper's folder lacks what it has said: an old copy was put in place"),
    "task_followed": ("info", "a helper takes part in a task"),
}
_SERVERS = {
    "certificate_not_renewed": ("warning", "a replaced certificate does not fit its key; the old one goes on"),
    "certificate_renewed": ("info", "a replaced certificate is served from now on"),
    "following_interrupted": ("warning", "a gateway could not follow the log, and tries again"),
    "registry_broken": ("error", "the journal of enrolments is off its chain; a gateway believes nothing after it"),
    "request": ("info", "a request, with `--access-log`: route, status, milliseconds"),
    "request_failed": ("error", "an error that nobody expected, in a request; please report it"),
    "scored_as_untrained": ("warning", "an evaluator has no arrays of a device's own, and scores without them"),
    "service_levels_unknown": ("warning", "the history does not answer, and service levels are not shown"),
    "source_differs": ("warning", "a module here is not the one that the task names"),
}
_LOG = {
    "broker_away": ("warning", "no broker answers; this process waits"),
    "broker_back": ("warning", "a broker answers again, after so many seconds"),
    "junk_skipped": ("warning", "a record cannot be read and is passed over; counted at powers of two"),
    "reader_left_open": ("warning", "a reader did not close in time"),
    "readers_held_back": ("warning", "an open transaction hides what is written"),
    "setting_unknown": ("warning", "a cluster does not tell a setting that the laws rest on"),
    "still_waiting": ("warning", "a broker answers, and something fails again and again"),
    "waiting_for_broker": ("debug", "what the client of Kafka says of a broker"),
}
_LIBRARIES = {"library_said": ("warning", "what a library logs, with its name; an error may have a traceback")}
_DEVICES = {
    "bodies_lost": ("warning", "bodies could not be stored; the outbox sends them again"),
    "body_not_stored": ("warning", "a gateway did not take a body; it is sent again"),
    "checkin_refused": ("warning", "a gateway refuses a check-in, and why"),
    "device_failed": ("error", "a device cannot go on; the others do"),
    "fleet_stop_failed": ("warning", "Ray did not end in order"),
    "gateway_refuses": ("warning", "a gateway refuses a request"),
    "gateway_unreachable": ("info", "no gateway answers; the device tries again"),
    "given_up": ("warning", "something of a device took longer than it may"),
    "lease_given_up": ("warning", "a device cannot train under its lease, and says so"),
    "lease_rejected": ("debug", "an answer is none to a check-in of this device"),
    "left_to_the_loop": ("debug", "a model is trained one device at a time, and why"),
    "played_by_python": ("debug", "steps of training that torch's interpreter does not take, and why"),
    "metrics_missing": ("warning", "a learner gave fewer metrics than the policy names"),
    "metrics_not_numbers": ("warning", "a learner gave metrics that are no numbers"),
    "no_step": ("warning", "somebody's training has not come to its next step"),
    "outcome_not_kept": ("warning", "an outcome could not be written to disk"),
    "ray_says": ("info", "what Ray's workers print"),
    "records_lost": ("warning", "check-ins could not be sent; devices check in again"),
    "stuck": ("error", "foreign code does not come back; its process ends"),
    "task_unreadable": ("warning", "what is said of a task cannot be read"),
    "trained_one_by_one": ("info", "a model cannot be trained for many devices at once, and why"),
    "training_failed": ("warning", "training raised; with privacy a zero vector is sent"),
    "training_outlasts_lease": ("warning", "training took longer than the lease, and its update comes too late"),
    "update_refused": ("info", "an update is in no round, and why"),
    "waiting_for_task": ("warning", "a fleet waits for a task that is not there"),
}
GROUPS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "decisions": {name: ("info", text) for name, text in TURNING_POINTS.items()},
    "actors": _ACTORS,
    "helpers": _HELPERS,
    "gateway, server, evaluator": _SERVERS,
    "whoever reads or writes the log": _LOG,
    "devices and fleets": _DEVICES,
    "libraries": _LIBRARIES,
}
CATALOGUE: Mapping[str, tuple[str, str]] = {name: entry for group in GROUPS.values() for name, entry in group.items()}


def write_table() -> str:
    """The catalogue as a table of Markdown."""
    lines = ["| event | level | of | says |", "|---|---|---|---|"]
    for group, events in GROUPS.items():
        lines += [f"| `{name}` | {level} | {group} | {text} |" for name, (level, text) in sorted(events.items())]
    return "\n".join(lines)
