"""An example's policy and learner, trained by a federation in one thread: the real actors, and no Kafka.

    python -m tests.trials.ecosystem.in_memory NAME

trains docs/examples/NAME.toml and prints the scores of its versions as one JSON object.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from client_agent.compression import compress, protect
from client_agent.learning.data import Part
from client_agent.learning.layout import Layout, Model
from client_agent.learning.learner import Context
from client_agent.learning.opening import DataTrainer, TaskLearner, initialize, open_learner
from ops.operator import first_models, models
from schemas.events import ModelPublished
from schemas.policy import Policy, parse
from schemas.tensors import Floats
from schemas.topics import ROUNDS
from tests.root import ROOT
from tests.worlds.federation import Federation

EXAMPLES = ROOT / "docs" / "examples"
DEVICES = 20


@dataclass
class Participant:
    """One device: its data, and what it remembers."""

    name: str
    trainer: DataTrainer
    residual: Floats | None = None
    state: dict[str, Any] = field(default_factory=dict)


def train(policy: Policy, *, devices: int, seed: int = 0) -> list[dict[str, float]]:
    """Train to the policy's last version; the scores of every version."""
    learner = open_task_learner(policy)
    first = first_models.make(policy)
    world = Federation(policy, parameters=first.vector.size, model=first.vector)
    held_out = learner.load(Part(split="test", plugin=policy.data))
    crew = [
        Participant(f"d{index}", learner.make_trainer(Part(index=index, count=devices, plugin=policy.data)))
        for index in range(devices)
    ]
    draw, vector = np.random.default_rng(seed), first.vector
    scores = [learner.evaluate(Model(vector, first.frozen), held_out)]
    for version in range(policy.stop.versions_max):
        cohort = draw.choice(devices, policy.aggregation.updates_per_round, replace=False)
        _hold_round(world, [crew[index] for index in cohort], version=version, model=Model(vector, first.frozen))
        vector = _read_newest(world, version + 1)
        scores.append(learner.evaluate(Model(vector, first.frozen), held_out))
    return scores


def open_task_learner(policy: Policy) -> TaskLearner:
    """The policy's learner at work on the model that it starts with."""
    learner = open_learner(policy)
    parameters = initialize(learner, policy.drawn_by.model)
    layout = Layout.describe_parameters(parameters, averaged_scale=policy.parameters.averaged_scale)
    return TaskLearner(learner, layout, parameters)


def _hold_round(world: Federation, cohort: list[Participant], *, version: int, model: Model) -> None:
    """All check in, train under their leases, clip and compress as devices do, and submit."""
    for participant in cohort:
        world.device(participant.name).check_in()
    world.settle()
    for participant in cohort:
        body = _make_body(world.rules, participant, version=version, model=model)
        world.device(participant.name).submit_body(body, codec=world.rules.compression.codec)
    world.settle()


def _make_body(policy: Policy, participant: Participant, *, version: int, model: Model) -> bytes:
    context = Context(version=version, seed=version, policy=policy, state=dict(participant.state))
    trained = participant.trainer.train(model, context)
    protected = protect(trained.delta, participant.residual, norm=policy.clipping.norm)
    compressed = compress(protected, policy=policy)
    participant.residual, participant.state = compressed.residual, trained.state
    return compressed.body


def _read_newest(world: Federation, version: int) -> Floats:
    published: ModelPublished = world.events(ROUNDS.name, ModelPublished)[-1]
    assert published.version == version
    return models.read(world.log, published.model, parameters=world.parameters)


if __name__ == "__main__":
    os.chdir(EXAMPLES)
    found = train(parse((EXAMPLES / f"{sys.argv[1]}.toml").read_text()), devices=DEVICES)
    print(json.dumps({"scores": found}))  # noqa: T201
