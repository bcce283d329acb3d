"""Weights in the formats of others: exact there and back, and what does not fit is told."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ops.history.task_view import TaskView, evolve
from ops.operator import models, tasks
from ops.operator.errors import ModelMismatch, VersionUnknown, WeightsUnfit
from ops.operator.model_files import read_files
from ops.operator.models import choose_best
from ops.operator.succession import Weights
from ops.operator.weight_files import FORMATS, read_weights, write_weights
from schemas.events import VersionEvaluated
from streams.memory import MemoryLog
from tests import torch_zoo as zoo
from tests.unit.ops.operator.test_model_files import FLAT, view
from tests.worlds.builders import KEY, model_published
from tests.worlds.ops_journal import PLACE, TASK, created, memory_log

ARRAYS = {
    "0.weight": np.array([[0.1, -2.5e-38, 3e38], [0, 1e-45, -1]], np.float32),
    "0.bias": np.array([0.5, -1], np.float32),
    "scale": np.array(3.25, np.float32),
}
# What safetensors 0.8.0 writes: save({"0.weight": [[0, 1, 2], [3, 4, 5]], "0.bias": [0.5, -1]}, {"format": "np"}).
THEIRS = (
    b'\xa0\x00\x00\x00\x00\x00\x00\x00{"__metadata__":{"format":"np"},"0.bias":{"dtype":"F32","shape":[2],"data_offsets":'
    b'[0,8]},"0.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[8,32]}}       \x00\x00\x00?\x00\x00\x80\xbf'
    b"\x00\x00\x00\x00\x00\x00\x80?\x00\x00\x00@\x00\x00@@\x00\x00\x80@\x00\x00\xa0@"
)


def make_model() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 2))


def write(folder: Path, name: str, arrays: dict[str, Any]) -> Path:
    path = folder / name
    path.write_bytes(write_weights(arrays, path.suffix[1:]))
    return path


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_read_back_is_the_same(form: str, tmp_path: Path) -> None:
    """Guarantee: every bit, shape, type and name survives each format, also where their order does not matter."""
    arrays = {**ARRAYS, "counted": np.array([1, 2**40]), "half": np.array([1.5], np.float16)}
    found = read_weights(write(tmp_path, f"model.{form}", arrays))
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (found[name].shape, found[name].dtype, found[name].tobytes()) == (
            array.shape,
            array.dtype,
            array.tobytes(),
        )


def test_what_others_write_is_read(tmp_path: Path) -> None:
    """Guarantee: files of safetensors itself, and of torch with the wrappers of training scripts, are understood."""
    (tmp_path / "theirs.safetensors").write_bytes(THEIRS)
    found = read_weights(tmp_path / "theirs.safetensors")
    assert found["0.weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["0.bias"].tolist() == [0.5, -1]
    module = make_model()
    torch.save({"epoch": 3, "state_dict": module.bfloat16().state_dict()}, tmp_path / "theirs.pt")
    expected = module.float().state_dict()["0.weight"].numpy()
    assert np.array_equal(read_weights(tmp_path / "theirs.pt")["0.weight"], expected)
    half = (np.array([1.5, -0.25], np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()
    head = b'{"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    (tmp_path / "half.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + half)
    assert read_weights(tmp_path / "half.safetensors")["a"].tolist() == [1.5, -0.25]


class Bomb:
    """What a pickle runs."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("exploded"),)


def test_a_file_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: a pickle in any of the formats is refused before it is run."""
    monkeypatch.chdir(tmp_path)
    torch.save({"0.weight": Bomb()}, tmp_path / "bomb.pt")
    np.savez(tmp_path / "bomb.npz", a=np.array([Bomb()], object))
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Bomb()))
    (tmp_path / "array.pt").write_bytes(b"not a file of torch")
    for name in ("bomb.pt", "plain.pt", "array.pt", "bomb.npz"):
        with pytest.raises(WeightsUnfit, match=name.partition(".")[0]):
            read_weights(tmp_path / name)
    assert not (tmp_path / "exploded").exists()


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    """Guarantee: bytes that lie about lengths and offsets take no memory and give no array."""
    head = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,800]}}'
    bad = {
        "short": THEIRS[:5],
        "long": (1 << 60).to_bytes(8, "little") + THEIRS[8:],
        "cut": THEIRS[:-4],
        "lie": len(head).to_bytes(8, "little") + head + bytes(8),
        "type": THEIRS.replace(b"F32", b"F99"),
        "list": (2).to_bytes(8, "little") + b"[]",
    }
    for name, data in bad.items():
        (tmp_path / f"{name}.safetensors").write_bytes(data)
        with pytest.raises(WeightsUnfit, match="is no safetensors file"):
            read_weights(tmp_path / f"{name}.safetensors")
    for name, told in (("none.pt", "no such file"), ("model.h5", r"read from \.pt, \.npz or \.safetensors")):
        if name == "model.h5":
            (tmp_path / name).write_bytes(b"")
        with pytest.raises(WeightsUnfit, match=told):
            read_weights(tmp_path / name)


def create(log: MemoryLog, path: Path) -> Any:
    rules = zoo.torch_policy(make_model)
    return tasks.create(log, TASK, key=KEY, policy=rules, after=Weights(path=path))


@pytest.mark.parametrize("form", FORMATS)
def test_a_task_starts_from_a_file(form: str, tmp_path: Path) -> None:
    """Guarantee: version 0 has the values of the file, in the order of the model, whatever that of the file was."""
    weights = {name: ARRAYS[name] for name in ("0.bias", "0.weight")}
    log = memory_log()
    made = create(log, write(tmp_path, f"start.{form}", weights))
    flat = models.read(log, made.model, parameters=made.parameters)
    assert [spec.name for spec in made.tensors] == ["0.weight", "0.bias"]
    assert flat.tobytes() == np.concatenate([ARRAYS["0.weight"].ravel(), ARRAYS["0.bias"]]).tobytes()


UNFIT = {
    "missing": ({"0.bias": ARRAYS["0.bias"]}, "the file has no '0.weight'"),
    "unknown": ({**ARRAYS}, "the model has no 'scale'"),
    "shape": (
        {"0.weight": np.zeros((3, 2)), "0.bias": np.zeros(2)},
        r"'0.weight' has shape \(3, 2\), the model's has \(2, 3\)",
    ),
    "whole numbers": ({"0.weight": np.zeros((2, 3), np.int64), "0.bias": np.zeros(2)}, "'0.weight' holds int64"),
    "nan": ({"0.weight": np.full((2, 3), np.nan), "0.bias": np.zeros(2)}, "'0.weight' holds NaN"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_weights_of_another_model_are_told_by_name(case: str, tmp_path: Path) -> None:
    """Guarantee: each tensor that does not fit is named with both sides, and no task comes of it."""
    arrays, told = UNFIT[case]
    log = memory_log()
    with pytest.raises(WeightsUnfit, match=told):
        create(log, write(tmp_path, "start.npz", arrays))
    assert not tasks.find_views(log)


def test_a_measurement_takes_no_weights(tmp_path: Path) -> None:
    """Guarantee: what asks a question has no model to fill."""
    from tests.survey import measuring_policy

    with pytest.raises(ModelMismatch):
        tasks.create(
            memory_log(),
            "asked",
            key=KEY,
            policy=measuring_policy(),
            after=Weights(path=write(tmp_path, "start.npz", ARRAYS)),
        )


@pytest.mark.parametrize("form", FORMATS)
def test_an_export_holds_every_tensor_by_name(form: str, tmp_path: Path) -> None:
    """Guarantee: one file with the version's exact values, which config.json names with its digest."""
    log = memory_log()
    files = read_files(log, view(log), version=1, form=form)
    assert sorted(files) == ["config.json", f"model.{form}", "privacy.log"]
    (tmp_path / f"model.{form}").write_bytes(files[f"model.{form}"])
    arrays = read_weights(tmp_path / f"model.{form}")
    assert np.concatenate([arrays["weight"].ravel(), arrays["bias"]]).tobytes() == (FLAT * 2).tobytes()
    config = json.loads(files["config.json"])
    assert list(config["files"]) == [f"model.{form}"]
    assert {tensor["file"] for tensor in config["tensors"]} == {f"model.{form}"}


def test_the_best_version_is_the_evaluator_s() -> None:
    """Guarantee: most accuracy or least loss, of equals the newest; without scores the message says what makes them."""
    found = TaskView(TASK)
    evolve(found, created())
    with pytest.raises(VersionUnknown, match="no scores"):
        choose_best(found)
    ref = models.store(memory_log(), FLAT, partition=PLACE)
    for version, (accuracy, loss) in enumerate(((0.1, 2.0), (0.9, 0.7), (0.9, 0.8), (0.4, 0.3))):
        evolve(found, model_published(version, round=version - 1 if version else None, model=ref))
        scores = {"accuracy": accuracy, "loss": loss}
        evolve(found, VersionEvaluated(task=TASK, version=version, metrics=scores, samples=9, cohort=""))
    assert choose_best(found) == 2
    assert choose_best(found, "loss") == 3
    with pytest.raises(VersionUnknown, match="no scores 'f1'"):
        choose_best(found, "f1")
