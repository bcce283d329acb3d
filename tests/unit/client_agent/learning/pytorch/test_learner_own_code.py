"""The torch learner with code of the user's own: loops, evaluations, and the data that they read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from client_agent.learning.data import DataError, Part
from client_agent.learning.foreign import LearnerError
from client_agent.learning.opening import TaskLearner
from ops.services.cohorts import find_cohorts
from tests import torch_zoo as zoo

ROWS = zoo.make_rows()


def open_zoo(model: Any, **sections: Any) -> TaskLearner:
    training = {"batch_size": 1000, "learning_rate": 0.5}
    return zoo.open_torch(zoo.torch_policy(model, **{"training": training, **sections}))


def test_a_loop_of_the_users_own_trains() -> None:
    """Guarantee: `train(model, data, context)` gets data as they are, a module to change, and a state that lasts."""
    learner = open_zoo(zoo.linear, training={"train": zoo.name_plugin(zoo.own_training)})
    first = zoo.train_once(learner, ROWS, version=7)
    assert first.metrics["version"] == 7
    assert np.abs(first.delta).max() == pytest.approx(0.15, rel=0.1)
    assert first.state["own"] == {"trainings": 1}
    assert zoo.train_once(learner, ROWS, state=first.state).state["own"] == {"trainings": 2}


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (0, r"training 'tests\.torch_zoo:bad_training': KeyError: 'no such feature' \(.*torch_zoo\.py:\d+\)"),
        (1, "bad_training' returned Linear, expected metrics by name"),
    ],
)
def test_a_loop_that_fails_is_named_with_its_line(label: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Guarantee: what a user's loop raises, returns or prints is told as its own, and keeps standard output clean."""
    learner = open_zoo(zoo.linear, training={"train": zoo.name_plugin(zoo.bad_training)})
    with pytest.raises(LearnerError, match=message):
        zoo.train_once(learner, (ROWS[0], np.full(12, label)))
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "a word for people\n")


def test_a_loop_may_return_nothing() -> None:
    """Guarantee: metrics are a loop's to give or not."""
    learner = open_zoo(zoo.linear, training={"train": zoo.name_plugin(zoo.bad_training)})
    assert zoo.train_once(learner, (ROWS[0], np.full(12, 2))).metrics == {}


def test_an_evaluation_of_the_users_own_scores() -> None:
    """Guarantee: `evaluate(model, data)` gets the data as they are, and a module in evaluation mode."""
    learner = open_zoo(zoo.linear, evaluation={"evaluate": zoo.name_plugin(zoo.own_evaluation)})
    found = learner.evaluate(zoo.find_start(learner), ROWS)
    assert set(found) == {"mean", "training"}
    assert found["training"] == 0


def write_data(folder: Path, rows: Any = ROWS) -> Part:
    for name in ("data", "test"):
        np.savez(folder / f"{name}.npz", x=rows[0], y=rows[1])
    return zoo.part_in(folder)


def test_data_are_loaded_for_whoever_reads_them(tmp_path: Path) -> None:
    """Guarantee: own code gets what the data plugin gave, fedlog's gets examples, and both count examples."""
    part = write_data(tmp_path)
    own_train = {"train": zoo.name_plugin(zoo.own_training)}
    own_evaluate = {"evaluate": zoo.name_plugin(zoo.own_evaluation)}
    for sections in (
        {},
        {"training": own_train},
        {"evaluation": own_evaluate},
        {"training": own_train, "evaluation": own_evaluate},
    ):
        learner = open_zoo(zoo.linear, **sections)
        for split in ("train", "test"):
            data = learner.load(Part(folder=tmp_path, plugin=part.plugin, split=split))  # type: ignore[arg-type]
            assert len(data) == 12
            assert zoo.train_once(learner, data).delta.any()
            assert learner.evaluate(zoo.find_start(learner), data)


def test_data_that_do_not_fit_are_refused_when_they_are_loaded(tmp_path: Path) -> None:
    """Guarantee: a device learns at its start, not under a lease, that its data are no examples or none at all."""
    learner = open_zoo(zoo.linear)
    part = write_data(tmp_path, (ROWS[0] * np.nan, ROWS[1]))
    with pytest.raises(DataError, match=r"folder_npz' for device 0 of 1 in .*: array 1: row 0, column 0 is nan"):
        learner.load(part)
    empty = write_data(tmp_path, (ROWS[0][:0], ROWS[1][:0]))
    assert learner.make_trainer(empty).sample_count == 0
    (tmp_path / "data.npz").rename(tmp_path / "test.npz")
    with pytest.raises(DataError, match="no examples"):
        learner.load(replace(empty, split="test"))


SITES = ["west"] * 5 + ["east"] * 7


def sited(part: Part) -> Any:
    """Arrays by name, and whose each example is."""
    del part
    return {"input": ROWS[0], "labels": ROWS[1], "site": SITES}


def sited_one_by_one(part: Part) -> Any:
    """The same as examples."""
    return [{name: column[place] for name, column in sited(part).items()} for place in range(12)]


@pytest.mark.parametrize("plugin", [sited, sited_one_by_one])
def test_a_column_that_names_cohorts_is_no_input(plugin: Any) -> None:
    """Guarantee: devices train and the evaluator scores without it, and a cohort is scored on its examples alone."""
    learner = open_zoo(zoo.linear, evaluation={"cohort": "site"})
    without, name, start = open_zoo(zoo.linear), zoo.name_plugin(plugin), zoo.find_start(open_zoo(zoo.linear))
    trained = zoo.train_once(learner, learner.load(Part(plugin=name)))
    assert (trained.delta == zoo.train_once(without, ROWS).delta).all()
    held_out = learner.load(Part(plugin=name, split="test"))
    assert learner.evaluate(start, held_out) == without.evaluate(start, ROWS)
    for places in (range(5), range(5, 12)):
        part = learner.subset(held_out, places)
        assert len(part) == len(places)
        alone = without.evaluate(start, (ROWS[0][list(places)], ROWS[1][list(places)]))
        assert learner.evaluate(start, part) == alone
    assert find_cohorts(learner.read_given(held_out), "site", count=12) == {
        "east": list(range(5, 12)),
        "west": list(range(5)),
    }


def test_an_evaluation_of_the_users_own_gets_a_cohort_as_it_was_given() -> None:
    """Guarantee: own code sees the examples of a cohort in the form of its data plugin, the column included."""
    own = {"cohort": "site", "evaluate": zoo.name_plugin(count_sites)}
    learner = open_zoo(zoo.linear, evaluation=own)
    held_out = learner.load(Part(plugin=zoo.name_plugin(sited), split="test"))
    found = learner.evaluate(zoo.find_start(learner), learner.subset(held_out, range(4, 12)))
    assert found == {"east": 7.0, "west": 1.0}


def count_sites(model: nn.Module, data: Any) -> dict[str, float]:
    """How many examples each site has."""
    del model
    return {site: float(data["site"].count(site)) for site in ("east", "west")}


class Moving(nn.Linear):
    """Keeps a mean by putting a new tensor in the old one's place, as many modules do."""

    def __init__(self) -> None:
        super().__init__(4, 3)
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("steps", torch.tensor(0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = super().forward(x)
        if self.training:
            self.mean, self.steps = self.mean + 1.0, self.steps + 1
        return out


def replace_weight(model: nn.Module, data: Any, context: Any) -> None:
    """Another parameter in the old one's place."""
    del data, context
    model.weight = nn.Parameter(model.weight.detach() + 1.0)  # type: ignore[operator]


def remove_weight(model: nn.Module, data: Any, context: Any) -> None:
    """No parameter in its place."""
    del data, context
    model.weight = None  # type: ignore[assignment]


def test_tensors_that_were_replaced_are_what_was_trained() -> None:
    """Guarantee: a new tensor in the old one's place is sent, kept or refused as the old one would be."""
    averaged = open_zoo(Moving, parameters={"averaged": ["mean"]})
    trained = zoo.train_once(averaged, ROWS)
    np.testing.assert_array_equal(zoo.read_delta(averaged, trained)["mean"], 1.0)
    assert trained.state["local"] == {"steps": 1}
    with pytest.raises(LearnerError, match="buffer 'mean' changes in training"):
        zoo.train_once(open_zoo(Moving), ROWS)
    learner = open_zoo(zoo.linear, training={"train": zoo.name_plugin(replace_weight)})
    delta = zoo.read_delta(learner, zoo.train_once(learner, ROWS))
    np.testing.assert_allclose(next(iter(delta.values())), 1.0, atol=1e-6)
    with pytest.raises(LearnerError, match=r"has no .*weight' any more"):
        zoo.train_once(open_zoo(zoo.linear, training={"train": zoo.name_plugin(remove_weight)}), ROWS)
