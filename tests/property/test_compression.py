"""Error feedback: nothing is lost but what the clip cuts off, and nothing ever grows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_agent.compression import (
    Compressed,
    NotFiniteError,
    clip,
    clip_update,
    compress,
    measure_fidelity,
    measure_norm,
    protect,
    restore,
)
from schemas.policy import Policy
from schemas.policy.metrics import METRIC_ONE, list_report_scales
from schemas.tensors import Floats, body_bytes_max, from_grid, read_update
from tests.worlds import builders

CODECS = st.sampled_from(["float32", "float16", "int8", "int4", "topk"])
ROUNDING = 2.0**-20  # float32's, for vectors about one clip norm long


def policy(codec: str, norm: float, *, error_feedback: bool = True) -> Policy:
    sent = {"codec": codec, "topk_fraction": 0.1, "error_feedback": error_feedback}
    return builders.policy(clipping={"norm": norm}, compression=sent)


@st.composite
def deltas(draw: st.DrawFn) -> Floats:
    """Vectors of several sizes, lengths and shapes, zeros and spikes among them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    size = draw(st.sampled_from([1, 2, 17, 650, 5_000]))
    vector = rng.normal(0, draw(st.sampled_from([0.0, 1e-7, 1e-3, 1.0, 1e4])), size)
    if draw(st.booleans()):
        vector[rng.random(size) < 0.9] = 0
    if draw(st.booleans()):
        vector[0] = 50
    return vector.astype(np.float32)


NORMS = st.sampled_from([0.01, 1.0, 1000.0])


def leave(delta: Floats, residual: Floats | None, *, rules: Policy) -> Compressed:
    """An update as it leaves the device: protected, then compressed."""
    return compress(protect(delta, residual, norm=rules.clipping.norm), policy=rules)


def seen(made: Compressed, rules: Policy) -> Floats:
    """What a server sees of it."""
    assert made.residual is not None
    return from_grid(read_update(made.body, rules, parameters=made.residual.size).grid(), rules.clipping)


@given(CODECS, NORMS, deltas())
def test_seen_and_residual_are_all_there_was(codec: str, norm: float, delta: Floats) -> None:
    """Guarantee: what the server sees plus the new residual is the clipped update with the old residual."""
    rules = policy(codec, norm)
    made = leave(delta, None, rules=rules)
    np.testing.assert_allclose(seen(made, rules) + made.residual, clip(delta, norm), atol=ROUNDING * norm)
    again = leave(delta, made.residual, rules=rules)
    np.testing.assert_allclose(
        seen(again, rules) + again.residual, clip(delta + made.residual, norm), atol=ROUNDING * norm
    )


@given(CODECS, NORMS, deltas())
def test_the_norm_is_bounded(codec: str, norm: float, delta: Floats) -> None:
    """Guarantee: what is sent is at most the clip norm long, up to the codec's rounding; so is the residual."""
    rules = policy(codec, norm)
    residual = None
    for _ in range(5):
        made = leave(delta, residual, rules=rules)
        residual = made.residual
        # int8 and int4 round each element to 1/254 or 1/14 of its block's largest, floats to half a step of the grid.
        rounding = np.sqrt(delta.size) * (norm / (14 if codec == "int4" else 254) + rules.clipping.step)
        assert measure_norm(seen(made, rules)) <= norm + rounding
        assert measure_norm(residual) <= norm * 1.001 + rounding
        assert len(made.body) <= body_bytes_max(rules.compression, delta.size)


@given(CODECS, NORMS, deltas())
def test_a_refusal_returns_what_was_sent(codec: str, norm: float, delta: Floats) -> None:
    """Guarantee: after a refusal the residual is the whole clipped update again."""
    rules = policy(codec, norm)
    made = leave(delta, None, rules=rules)
    back = restore(made.residual, made.body, policy=rules)
    np.testing.assert_allclose(back, clip(delta, norm), atol=ROUNDING * norm)


@given(CODECS, deltas())
def test_without_error_feedback_nothing_stays(codec: str, delta: Floats) -> None:
    """Guarantee: a policy without error feedback carries nothing over, whatever the outcome."""
    rules = policy(codec, 1.0, error_feedback=False)
    made = leave(delta, None, rules=rules)
    assert made.residual is None
    assert not restore(np.zeros_like(delta), made.body, policy=rules).any()


@given(CODECS)
def test_top_k_arrives_in_the_end(codec: str) -> None:
    """Guarantee: with error feedback a constant update arrives in full on average, however little is sent each time."""
    delta = np.linspace(-1e-3, 1e-3, 200).astype(np.float32)
    rules, residual, arrived = policy(codec, 1.0), None, np.zeros(200)
    for _ in range(60):
        made = leave(delta, residual, rules=rules)
        residual, arrived = made.residual, arrived + seen(made, rules)
    assert np.abs(arrived / 60 - delta).max() < 3e-4


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite_is_refused_here(bad: float) -> None:
    """Guarantee: a device sends nothing that is not finite."""
    delta = np.zeros(4, np.float32)
    delta[2] = bad
    with pytest.raises(NotFiniteError):
        protect(delta, None, norm=1.0)


@given(deltas(), NORMS)
def test_clip_keeps_the_direction(delta: Floats, norm: float) -> None:
    """Guarantee: clipping scales; what is short enough is not touched by a bit."""
    clipped = clip(delta, norm)
    if measure_norm(delta) <= norm:
        assert clipped is delta
    else:
        np.testing.assert_allclose(clipped * (measure_norm(delta) / norm), delta, rtol=1e-5, atol=1e-30)
        assert measure_norm(clipped) <= norm * (1 + 1e-6)


@given(CODECS, NORMS, deltas(), st.booleans())
def test_a_device_tells_what_clip_and_codec_left(codec: str, norm: float, delta: Floats, feedback: bool) -> None:
    """Both shares are those of the vectors themselves, with error feedback or without; a clip that bit is never one."""
    rules = policy(codec, norm, error_feedback=feedback)
    protected = clip(delta, norm)
    sent = compress(protected, policy=rules)
    told = measure_fidelity(delta, protected, sent=sent, policy=rules)
    assert (told.kept == METRIC_ONE) == (measure_norm(delta) <= norm)
    if measure_norm(delta) > norm:
        assert told.kept / METRIC_ONE == pytest.approx(norm / measure_norm(delta), abs=2 / METRIC_ONE, rel=1e-3)
    received = from_grid(read_update(sent.body, rules, parameters=delta.size).grid(), rules.clipping)
    lost, whole = measure_norm(protected - received), measure_norm(protected)
    assert told.lost == pytest.approx(lost / whole * METRIC_ONE if whole else 0, abs=1, rel=1e-3)


# --- what is reported under privacy --------------------------------------------------------------------------------

PRIVACY = {"noise_multiplier": 1.0, "rho_max": 9.0}
NORM = 1.0
BOUNDS = {"loss": 4.0, "accuracy": 1.0}


def _rules(share: float = 0.25) -> Policy:
    told = {"report": tuple(BOUNDS), "report_bounds": BOUNDS, "report_share": share}
    return builders.policy(privacy=PRIVACY, evaluation=told, clipping={"norm": NORM})


FINITE = st.floats(-1e6, 1e6, width=32)


@given(
    delta=st.lists(FINITE, min_size=1, max_size=9),
    loss=st.floats(),
    accuracy=st.floats(),
    share=st.sampled_from([0.001, 0.25, 0.9]),
)
def test_nothing_makes_an_update_longer_than_the_clip(
    delta: list[float], loss: float, accuracy: float, share: float
) -> None:
    """Guarantee: what is charged covers update and metrics together, since they are one vector within one norm."""
    made = clip_update(np.array(delta, np.float32), {"loss": loss, "accuracy": accuracy}, policy=_rules(share))
    assert made.size == len(delta) + 2
    assert np.isfinite(made).all()
    assert measure_norm(made) <= NORM * (1 + 1e-6)


@pytest.mark.parametrize(
    ("given_", "told"),
    [
        ({"loss": 2.0, "accuracy": 0.5}, (2.0, 0.5)),
        ({"loss": 9.0, "accuracy": -7.0}, (4.0, -1.0)),
        ({"loss": math.nan, "accuracy": 0.0}, (4.0, 0.0)),
        ({"accuracy": 1.0}, (0.0, 1.0)),
        ({"loss": math.inf, "accuracy": 0.25, "secret": 7.0}, (4.0, 0.25)),
    ],
    ids=["within", "beyond", "no number", "missing", "more than asked"],
)
def test_each_metric_is_cut_to_its_bound(given_: dict[str, float], told: tuple[float, float]) -> None:
    """In its own unit, however long the update is; what the policy does not name stays on the device."""
    rules = _rules()
    made = clip_update(np.full(5, 100.0, np.float32), given_, policy=rules)
    assert tuple(made[5:] / np.array(list_report_scales(rules))) == pytest.approx(told, abs=1e-6)


def test_without_metrics_the_whole_clip_is_the_update_s() -> None:
    """A task that has nothing reported sends what it always sent."""
    delta, rules = np.array([3.0, 4.0], np.float32), builders.policy(privacy=PRIVACY, clipping={"norm": NORM})
    assert clip_update(delta, {"loss": 1.0}, policy=rules).tolist() == pytest.approx([0.6, 0.8])
