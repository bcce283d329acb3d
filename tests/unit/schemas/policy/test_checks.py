"""The task's policy: what cannot hold is refused, with the field, its value and the bound."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from schemas.canonical import encode
from schemas.policy import BOUNDS, NOISE_TAIL_SIGMAS, WEIGHT_ONE, Policy, PolicyError, check_policy, parse
from tests.worlds.builders import policy

FULL = """
model = "client_agent.learning.models:softmax"
[selection]
devices_expected = 200
concurrency = 60
lease_s = 20
cohort_shares = { eu = 0.5, us = 0.5 }
[aggregation]
updates_per_round = 50
[clipping]
norm = 1.0
[staleness]
rule = "hinge"
hinge_a = 10
[privacy]
noise_multiplier = 1.0
rho_max = 9.0
[stop]
versions_max = 40
"""
PRIVATE = {"noise_multiplier": 1.0, "rho_max": 9.0}
USEFUL = {"rule": "utility"}
# What a table that may be left out has to say where it stands.
REQUIRED = {"privacy": PRIVATE, "measure": {"plugin": "a:b", "statistics": {"mean": {"bound": 1.0}}}}


def _refused(rules: Policy) -> str:
    with pytest.raises(PolicyError) as caught:
        check_policy(rules)
    return str(caught.value)


def test_a_file_in_another_encoding_is_told() -> None:
    """Guarantee: a policy that an old editor has saved is no error of fedlog's, and a mark of UTF-8 is no error."""
    with pytest.raises(PolicyError, match="not UTF-8: byte 0xf6 in line 2; save the file as UTF-8"):
        parse("\n# Größe\n".encode("latin-1"))
    assert parse(b"\xef\xbb\xbf" + FULL.encode()) == parse(FULL)


def test_a_policy_is_read_from_toml() -> None:
    """Sections, integers for floats, and defaults for all that is left out."""
    rules = parse(FULL)
    assert rules.lease_ms == 20_000
    assert (rules.staleness.rule, rules.staleness.hinge_a, rules.staleness.hinge_b) == ("hinge", 10.0, 4)
    assert rules.selection.cohort_shares == {"eu": 0.5, "us": 0.5}
    assert (rules.participations_cap, rules.sigma) == (18, WEIGHT_ONE * (1 << 16))
    assert rules.optimizer == msgspec.convert({}, type(rules.optimizer))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model = ", "not TOML"),
        (FULL.replace("rho_max = 9.0", ""), "rho_max"),
        (FULL.replace("devices_expected = 200", ""), "devices_expected"),
        (FULL.replace("versions_max = 40", ""), "versions_max"),
        (FULL.replace('"hinge"', '"steep"'), "staleness.rule"),
        (FULL.replace("lease_s", "lease_seconds"), "lease_seconds"),
        (FULL.replace("= 200", '= "many"'), "selection.devices_expected"),
        (FULL.replace("= 200", "= 200.5"), "selection.devices_expected"),
        (FULL + "\n[privcy]\n", "privcy"),
    ],
    ids=["toml", "no rho_max", "no devices", "no end", "rule", "unknown field", "text", "half a device", "section"],
)
def test_a_file_that_does_not_fit_names_the_field(text: str, expected: str) -> None:
    """A typo, a missing field (a budget without rho_max among them) or a wrong type is refused by name."""
    with pytest.raises(PolicyError, match=expected):
        parse(text)


def _beyond(path: str) -> list[tuple[str, Any]]:
    low, high = BOUNDS[path]
    whole = isinstance(low, int) and path.split(".")[1] not in FLOATS
    beyond: list[Any] = [low - 1, high + 1] if whole else [low - 1.0, high * 2 + 1, float("nan"), float("inf")]
    return [(path, value) for value in beyond if not low <= value <= high]


FLOATS = {
    field.name
    for section in msgspec.inspect.type_info(Policy).fields
    for part in getattr(section.type, "types", (section.type,))
    if isinstance(part, msgspec.inspect.StructType)
    for field in part.fields
    if isinstance(field.type, msgspec.inspect.FloatType)
}


@pytest.mark.parametrize(("path", "value"), [case for path in BOUNDS for case in _beyond(path)])
def test_every_bound_is_kept(path: str, value: Any) -> None:
    """Each number has bounds, NaN and infinity are in none, and the message names field, value and bound."""
    section, field = path.split(".")
    extra = {section: {**REQUIRED.get(section, {}), field: value}}
    message = _refused(policy(**extra))
    assert f"{path} = {value}" in message
    assert "must be from" in message


def test_whole_numbers_are_written_in_full() -> None:
    """A bound can be typed as it stands in the message; only fractions and what no float tells apart are shortened."""
    text = _refused(policy(clipping={"steps": 1, "norm": 1e10}, selection={"lease_s": 2e6}, stop={"idle_s": 0.5}))
    assert "clipping.steps = 1: must be from 16 to 1048576" in text
    assert "must be from 1e-09 to 1000000000" in text
    assert "must be from 1 to 1209600" in text
    assert "selection.lease_s = 1209600)" in _refused(
        policy(selection={"lease_s": 1_209_600.0}, retention={"body_hours": 48.0})
    )


def test_every_number_has_a_bound() -> None:
    """No number of a policy is without bounds: what a new field may be is said when it is added."""
    numbers = {
        f"{section.name}.{field.name}"
        for section in msgspec.inspect.type_info(Policy).fields
        for part in getattr(section.type, "types", (section.type,))
        if isinstance(part, msgspec.inspect.StructType)
        for field in part.fields
        if isinstance(field.type, msgspec.inspect.IntType | msgspec.inspect.FloatType)
    }
    assert numbers == set(BOUNDS)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1 << 64])
def test_arguments_of_a_model_can_be_written(value: Any) -> None:
    """A policy that is accepted can be encoded: the model's own arguments are no exception."""
    message = _refused(msgspec.structs.replace(policy(), model_arguments={"width": value}))
    assert f"model_arguments.width = {value}" in message


REFUSALS: dict[str, tuple[Policy, tuple[str, ...]]] = {
    "K above the devices": (
        policy(aggregation={"updates_per_round": 11}),
        ("aggregation.updates_per_round = 11", "selection.devices_expected = 10"),
    ),
    "a synchronous round wider than the concurrency": (
        policy(staleness={"max_versions": 0}, selection={"concurrency": 2}),
        ("selection.concurrency = 2", "K = 3"),
    ),
    "samples over the count": (
        policy(aggregation={"samples_max": 5}),
        ("aggregation.normalisation = 'count'", "'weight'"),
    ),
    "fewer models than leases may start from": (
        policy(retention={"models_kept": 20}),
        ("retention.models_kept = 20", "staleness.max_versions = 20"),
    ),
    "a target without a metric": (
        policy(stop={"target_value": 0.9}),
        ("stop.target_value = 0.9", "stop.target_metric"),
    ),
    "a sum that overflows": (
        policy(
            aggregation={"updates_per_round": 8, "samples_max": 1 << 20, "normalisation": "weight"},
            clipping={"steps": 1 << 20},
        ),
        ("clipping.steps = 1048576", "2^63.0", "stay below 2^63", "a smaller K"),
    ),
    "median with privacy": (
        policy(aggregation={"rule": "median"}, privacy=PRIVATE, stop={"versions_max": 9}),
        ("aggregation.rule = 'median'", "compares updates", "cannot be combined with privacy"),
    ),
    "trimmed mean with privacy": (
        policy(aggregation={"rule": "trimmed_mean"}, privacy=PRIVATE, stop={"versions_max": 9}),
        ("aggregation.rule = 'trimmed_mean'", "compares updates"),
    ),
    "krum with privacy": (
        policy(aggregation={"rule": "krum"}, privacy=PRIVATE, stop={"versions_max": 9}),
        ("aggregation.rule = 'krum'", "compares updates"),
    ),
    "samples as weights with privacy": (
        policy(aggregation={"samples_max": 5}, privacy=PRIVATE, stop={"versions_max": 9}),
        ("aggregation.samples_max = 5", "staleness only", "take 0"),
    ),
    "normalised by weights with privacy": (
        policy(aggregation={"normalisation": "weight"}, privacy=PRIVATE, stop={"versions_max": 9}),
        ("aggregation.normalisation = 'weight'", "take 'count'"),
    ),
    "a round by time with privacy": (
        policy(aggregation={"round_s": 60}, privacy=PRIVATE, stop={"versions_max": 9}),
        ("aggregation.round_s = 60", "by count alone", "take 0"),
    ),
    "useful devices with privacy": (
        policy(selection=USEFUL, privacy=PRIVATE, stop={"versions_max": 9}, staleness={"max_versions": 0}),
        ("selection.rule = 'utility'", "not with privacy", "take 'uniform'"),
    ),
    "useful devices in order of arrival": (
        policy(selection=USEFUL, evaluation={"report": ["loss"]}),
        ("selection.rule = 'utility'", "synchronous rounds"),
    ),
    "useful devices that report nothing": (
        policy(selection=USEFUL, staleness={"max_versions": 0}),
        ("selection.rule = 'utility'", 'evaluation.report = ["loss"]'),
    ),
    "fewer participations than versions need": (
        policy(selection={"participations_max": 2}),
        ("selection.participations_max = 2", "at most 20 times", "needs 300"),
    ),
    "a least that no round reaches": (
        policy(aggregation={"round_s": 60, "updates_min": 4}),
        ("aggregation.updates_min = 4", "at most K = 3"),
    ),
    "a budget for nothing": (
        policy(privacy={"noise_multiplier": 1.0, "rho_max": 0.4}),
        ("privacy.rho_max = 0.4", "no participation", "0.5"),
    ),
    "more releases than participations": (
        policy(privacy={"noise_multiplier": 1.0, "rho_max": 0.5}, stop={"versions_max": 4}),
        ("stop.versions_max = 4", "12 participations", "10 devices with at most 1 each have 10"),
    ),
    "a share of nothing": (
        policy(selection={"cohort_shares": {"eu": 0.0}}),
        ("selection.cohort_shares.eu = 0.0", "above 0"),
    ),
    "a share above one": (
        policy(selection={"cohort_shares": {"eu": 1.5}}),
        ("selection.cohort_shares.eu = 1.5", "at most 1"),
    ),
    "a share that is NaN": (
        policy(selection={"cohort_shares": {"eu": float("nan")}}),
        ("selection.cohort_shares.eu = nan",),
    ),
    "a model that cannot be called": (
        msgspec.structs.replace(policy(), model="softmax"),
        ("model = 'softmax'", "module:callable"),
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_every_refusal_names_field_value_and_bound(case: str) -> None:
    """Each policy that cannot hold is refused in a line that says which field, its value, and what would hold."""
    rules, expected = REFUSALS[case]
    message = _refused(rules)
    assert [part for part in expected if part not in message] == []
    assert len(message.splitlines()) == (2 if case == "samples as weights with privacy" else 1)


def test_all_faults_are_told_at_once() -> None:
    """Whoever writes a policy learns all that is wrong with it, a line a fault."""
    message = _refused(policy(training={"epochs": 0, "batch_size": 0}, stop={"versions_max": 0}))
    assert len(message.splitlines()) == 3


def test_the_last_policy_before_overflow_is_accepted() -> None:
    """The bound is exact: K w_max C plus the noise's tail stays below 2^63, and one update more does not."""
    fits = {"updates_per_round": 7, "samples_max": 1 << 20, "normalisation": "weight"}
    rules = check_policy(policy(aggregation=fits, clipping={"steps": 1 << 20}))
    assert 7 * rules.weight_max * rules.clipping.steps < 1 << 63 <= 8 * rules.weight_max * rules.clipping.steps


def test_noise_counts_towards_overflow() -> None:
    """With privacy the sum may reach its bound and the noise its tail, at once."""
    rules = check_policy(policy(privacy={"noise_multiplier": 1e4, "rho_max": 1e3}, clipping={"steps": 1 << 20}))
    assert 3 * rules.weight_max * rules.clipping.steps + NOISE_TAIL_SIGMAS * rules.sigma < 1 << 63


def test_an_accepted_policy_can_be_written() -> None:
    """What `parse` accepts has canonical bytes, so that it can be recorded in TaskCreated."""
    assert encode(parse(FULL)) == encode(parse(FULL))


FACTORS = {
    "constant": [1, 1, 1, 1, 1, 1],
    "polynomial": [1, 2**-0.5, 3**-0.5, 0.5, 5**-0.5, 6**-0.5],
    "hinge": [1, 1, 1, 1, 1, 1 / 11],
    "threshold": [1, 1, 1, 1, 1, 0],
}


@pytest.mark.parametrize("rule", FACTORS)
def test_weights_follow_the_rule(rule: str) -> None:
    """The table of integer weights is the staleness rule, rounded once, from staleness 0 to the largest allowed."""
    weights = policy(staleness={"rule": rule, "max_versions": 5}).weights()
    assert weights == tuple(round(WEIGHT_ONE * factor) for factor in FACTORS[rule])
    assert weights[0] == WEIGHT_ONE


def test_no_weight_is_above_the_largest() -> None:
    """`weight_max`, which sensitivity and overflow rest on, bounds every weight of every rule."""
    for rule in FACTORS:
        rules = policy(staleness={"rule": rule, "exponent": 0.0, "hinge_a": 0.0, "max_versions": 50})
        assert max(rules.weights()) <= rules.weight_max


def test_fields_can_be_changed_beside_the_file() -> None:
    """`--set` reaches a field of any table, new ones too, as the TOML value that it reads like, else as a text."""
    text = 'model = "m:f"\n[training]\nepochs = 5\n[stop]\nversions_max = 5\n'
    changes = ["training.epochs=2", "data=rings:data", "selection.devices_expected = 40", "selection.concurrency=20"]
    changes.append("aggregation.updates_per_round=10")
    changed = parse(text, changes=changes)
    assert (changed.training.epochs, changed.data, changed.selection.devices_expected) == (2, "rings:data", 40)
    for wrong in ("epochs", "model.x=1", "training.=1"):
        with pytest.raises(PolicyError, match=r"model\.x|FIELD=VALUE"):
            parse(text, changes=[wrong])
    with pytest.raises(PolicyError, match="epoks"):
        parse(text, changes=["training.epoks=1"])
