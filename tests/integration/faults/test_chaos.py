"""A part of the kill matrix, each fault at least once; the whole is `make chaos`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from streams.kafka.settings import KafkaSettings
from tests.trials.chaos import experiment
from tests.trials.chaos.points import POINTS, cell, matrix
from tests.worlds.stage import say

SERIES = {
    "a worker dies, its reply is lost, its broker dies": (
        "aggregator:publish:kill:1",
        "aggregator:replay:kill:1",
        "aggregator:append:reply:1",
        "aggregator:body:broker:1",
    ),
    "another takes over": ("selector:append:stop:3", "selector:begin:cut:3"),
    "the chain holds without a fence": ("privacy:decide:unfenced:3",),
    "a device comes back": ("device:stored:kill:1",),
    "the history goes on": tuple(f"projector:{point}:kill:1" for point in POINTS["projector"]),
}


BLOWS_MAX = 3  # a blow may miss: see experiment.ZOMBIE_WITHIN_S


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", SERIES)
def test_laws_under_faults(name: str, kafka_settings: KafkaSettings, broker_folder: Path, tmp_path: Path) -> None:
    """Laws 2 to 6: struck at these points the actors publish two more versions, lawfully, and the faults did hit."""
    cells = [cell(one) for one in SERIES[name]]
    for number in range(BLOWS_MAX):
        kafka = replace(kafka_settings, topic_prefix=f"{kafka_settings.topic_prefix}-{number}")
        rows = dict(experiment.run(cells, kafka, broker_folder=broker_folder, folder=tmp_path / f"stage-{number}"))
        say(*(f"{one} {row}\n" for one, row in rows.items()))
        if not any(experiment.NO_ZOMBIE in row.first_violation for row in rows.values()):
            break
    assert {str(one): row.first_violation for one, row in rows.items() if row.violations or not row.hits} == {}
    assert [*rows] == cells
    for one, row in rows.items():
        proofs = {"reply": row.replies_lost, "unfenced": row.zombies, "kill": one.point != "publish" or row.aborted}
        assert proofs.get(one.fault, True), f"{one} left no trace"


def test_the_smoke_is_part_of_the_matrix() -> None:
    """Every cell of the smoke is one of `make chaos`, and between them they show every fault."""
    cells = {cell(one) for series in SERIES.values() for one in series}
    assert cells <= set(matrix())
    assert {one.fault for one in cells} == {one.fault for one in matrix()}
