"""A fleet whose data turn bad makes a version bad, and the rollout takes it back by itself: no score is faked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from schemas.events import Promoted, RolledBack
from schemas.topics import PUBLISHED, ROLLOUTS
from streams.kafka.settings import KafkaSettings
from streams.log import TopicPartition, scan
from tests.judges.logbook import read
from tests.places import home_of
from tests.trials.regression.story import EVALUATOR, TASK, Story
from tests.worlds.stage import staged

PLANTED = 5


@pytest.mark.timeout(240)
def test_a_version_that_the_fleet_makes_bad_comes_back(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    """Guarantee: what is worse for one cohort is rolled back, killed or not, with the cohort's scores as the reason."""
    with staged(kafka_settings, tmp_path) as stage:
        story = Story(stage, planted=PLANTED, seed=1)
        with story.begin():
            story.train(kills=["selector", "aggregator", "privacy"])
            for name in ("rollout", EVALUATOR):
                story.kill(name)
            standing = story.until_back()
            rows = story.query("SELECT version, reason, evidence FROM rollouts WHERE step = 'rolled back'")
        stage.until_lawful(home_of(TASK))
        book = read(stage.log, home_of(TASK), operator=stage.key.public_key, deployment=stage.deployment)
        [back] = book.journals[ROLLOUTS.name].events(RolledBack)
        assert (back.version, back.reason, back.to) == (PLANTED, "drop", standing["promoted"])
        assert PLANTED not in [event.version for event in book.journals[ROLLOUTS.name].events(Promoted)]
        values = {(each.version, each.cohort): each.value for each in back.evidence}
        assert values[PLANTED, "west"] < 0.5 < values[back.to, "west"]
        assert [(row["version"], row["reason"]) for row in rows] == [(PLANTED, "drop")]
        records = scan(stage.log, TopicPartition(PUBLISHED.name, home_of(TASK)))
        said = [json.loads(record.value or b"") for record in records]
        [announced] = [event["data"] for event in said if event["type"].endswith("rolledback.v1")]
        assert (announced["version"], announced["evidence"][0]["cohort"]) == (PLANTED, "west")
