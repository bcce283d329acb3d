"""The torch learner: a module of the policy's model, trained by the policy's loop or by the user's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from client_agent.learning.allow_list import is_built_in
from client_agent.learning.data import Part, drop_column, take_examples
from client_agent.learning.foreign import LearnerError, call
from client_agent.learning.layout import ModelError
from client_agent.learning.learner import Array, Arrays, Context, Metrics, Parameter, Role
from client_agent.learning.plugins import PluginError, resolve
from client_agent.learning.pytorch.accelerators import explain_failures, find_device, seed_generators
from client_agent.learning.pytorch.batches import Examples, Loaded, convert
from client_agent.learning.pytorch.copying import ModuleCopy, Template
from client_agent.learning.pytorch.lockstep.group import Answer, Lockstep
from client_agent.learning.pytorch.losses import Loss, make_loss
from client_agent.learning.pytorch.modules import (
    HALVES,
    check_unmoved,
    fill_tensor,
    find_role,
    find_roles,
    find_tensors,
    freeze,
    list_tensors,
    make_module,
    read_array,
)
from client_agent.learning.pytorch.scoring import make_metric, score_module
from client_agent.learning.pytorch.training import LocalLoop, compute_factor, make_optimizer
from schemas.policy import Policy, Training

# A process has many devices and few cores: threads inside one small product cost more than they gain.
torch.set_num_threads(1)


class TorchLearner:
    """A `Learner` of a policy's `model`; the module is made once a process, and copied for each training."""

    def __init__(self, policy: Policy, *, accelerator: str = "cpu") -> None:
        self._policy = policy
        self._device = find_device(accelerator)
        self._roles: dict[str, Role] = {}
        self._template: Template | None = None
        self._loss: Loss | None = None
        self._lockstep: Lockstep | None = None

    def count_elements(self) -> int | None:
        """How many elements leave a device, without memory for them; None where only making the model can tell."""
        # A user's own module answers for itself, and need not work without memory.
        if not is_built_in(self._policy.model):
            return None
        with torch.device("meta"):
            tensors = list_tensors(_make_huge(self._policy))
            rules = self._policy.parameters
            return sum(tensor.numel() for name, tensor in tensors if find_role(name, tensor, rules=rules) != "local")

    def initialize(self, seed: int) -> dict[str, Parameter | Array]:
        """The module's tensors, drawn from `seed`. Raises PluginError, ModelError."""
        torch.manual_seed(seed)
        module = make_module(self._policy)
        try:
            self._roles = find_roles(module, self._policy.parameters)
        except ModelError as error:
            raise ModelError(f"model {self._policy.model!r}: {error}") from error
        freeze(module, self._roles)
        # Read before it moves, so that every accelerator starts from the same bytes.
        start = {name: read_array(tensor).copy() for name, tensor in list_tensors(module)}
        # Copies are in this mode, in which most of them are used.
        module.train()
        self._template = Template(_move(module, self._device), self._roles)
        self._open_plugins()
        return {name: Parameter(array, self._roles[name]) for name, array in start.items()}

    def load(self, part: Part) -> Loaded:
        """The examples of the data plugin; for a loop of the user's own just as it gave them. Raises DataError."""
        train, evaluate = self._policy.training.train, self._policy.evaluation.evaluate
        is_raw = bool(train if part.split == "train" else evaluate)
        # Cohorts are told by what the plugin gave, and of the held-out examples alone.
        is_told = part.split == "test" and bool(self._policy.evaluation.cohort)
        reading = partial(self._convert, where=f"data {part.plugin!r} for {part}")
        return Loaded(part.read(), reading, is_raw=is_raw, is_kept=bool(train or evaluate) or is_told)

    def read_given(self, data: Loaded) -> Any:
        """What the data plugin gave, where it is kept."""
        return data.raw

    def subset(self, data: Loaded, places: Sequence[int]) -> Loaded:
        """Some of the held-out examples."""
        reading = partial(self._convert, where="a cohort of the held-out split")
        is_raw = bool(self._policy.evaluation.evaluate)
        return Loaded(take_examples(data.raw, places), reading, is_raw=is_raw, is_kept=is_raw)

    def _convert(self, raw: Any, *, where: str) -> Examples:
        collate, column = self._policy.training.collate, self._policy.evaluation.cohort or ""
        # It says whose an example is, mostly in words, and is no input of the model.
        given = raw if not column or ":" in column else drop_column(raw, column)
        return convert(given, collate=_open_collate(collate) if collate else None, where=where)

    def train(self, start: Arrays, data: Any, *, context: Context) -> tuple[dict[str, Array], Metrics]:
        """Local training from `start`. Raises LearnerError, PluginError."""
        with explain_failures(self._device):
            return self._train(start, data, context=context)

    def _train(self, start: Arrays, data: Any, *, context: Context) -> tuple[dict[str, Array], Metrics]:
        copied = self._fill_copy(start)
        rounded = {
            name: read_array(tensor).copy() for name, tensor in copied.tensors.items() if self._is_rounded(name, tensor)
        }
        tables = {name: read_array(copied.tensors[name]).copy() for name in self._list_tables(copied)}
        seed_generators(self._device, context.seed)
        metrics = self._run_loop(copied, data, context=context)
        # By name once more: code of the user's own may have put other tensors in their place.
        copied = ModuleCopy(copied.module, find_tensors(copied.module, list(copied.tensors)))
        for name, before in tables.items():
            check_unmoved(copied.tensors[name], before, name=name)
        # In the copy's own memory, which nothing else writes to any more.
        sent = {name: read_array(copied.tensors[name]) for name, role in self._roles.items() if role != "frozen"}
        # What half precision cannot hold of a version is no part of what training has changed.
        return sent | {name: start[name] + (sent[name] - before) for name, before in rounded.items()}, metrics

    def train_together(self, start: Arrays, members: Sequence[tuple[Any, Context]]) -> list[Answer | None]:
        """What `train` would give for each of many devices at one version; None for one that it has to be asked for."""
        if self._lockstep is None:
            # A copy for good: it is only ever called with other tensors in the place of its own.
            self._lockstep = Lockstep(self._policy, self._fill_copy(start), roles=self._roles, loss=self._loss)
        if self._lockstep.refusal or not members:
            return [None] * len(members)
        read = [(_take_examples(data), context) for data, context in members]
        alone = partial(self.train, start)
        return self._lockstep.train(start, read, rate=self._find_rate(members[0][1]), alone=alone)

    def evaluate(self, parameters: Arrays, data: Any) -> Metrics:
        """The policy's metrics of a model. Raises LearnerError, PluginError."""
        with explain_failures(self._device):
            return self._evaluate(parameters, data)

    def _evaluate(self, parameters: Arrays, data: Any) -> Metrics:
        copied = self._fill_copy(parameters)
        copied.module.eval()
        if plugin := self._policy.evaluation.evaluate:
            found = call(f"evaluation {plugin!r}", resolve(plugin), copied.module, _take_raw(data))
            return _check_metrics(f"evaluation {plugin!r}", found)
        assert self._loss is not None
        return score_module(copied, _take_examples(data), policy=self._policy, loss=self._loss)

    def _run_loop(self, copied: ModuleCopy, data: Any, *, context: Context) -> Metrics:
        if plugin := self._policy.training.train:
            found = call(f"training {plugin!r}", resolve(plugin), copied.module, _take_raw(data), context)
            return _check_metrics(f"training {plugin!r}", found if found is not None else {})
        assert self._loss is not None
        shared = [tensor for name, tensor in copied.tensors.items() if self._roles[name] == "trained"]
        loop = LocalLoop(copied, self._policy, loss=self._loss, shared=shared)
        return loop.run(_take_examples(data), rate=self._find_rate(context))

    def _find_rate(self, context: Context) -> float:
        return self._policy.training.learning_rate * compute_factor(self._policy.schedule, context.version)

    def _fill_copy(self, arrays: Arrays) -> ModuleCopy:
        if self._template is None:
            raise LearnerError("the model was not initialized")
        copied = self._template.copy()
        if unknown := [name for name in arrays if name not in copied.tensors]:
            raise ModelError(f"the model has no tensor {unknown[0]!r}: is it the same code?")
        if missing := [name for name in copied.tensors if name not in arrays]:
            raise ModelError(f"the version has no tensor {missing[0]!r}: is it the same code?")
        for name, tensor in copied.tensors.items():
            fill_tensor(tensor, arrays[name], name=name)
            if self._roles[name] == "averaged" and name.endswith("running_var"):
                # Noise and averaging may leave a variance below zero, of which a module would take the root.
                tensor.detach().clamp_(min=0.0)
        return copied

    def _is_rounded(self, name: str, tensor: torch.Tensor) -> bool:
        return tensor.dtype in HALVES and self._roles[name] in ("trained", "averaged")

    def _list_tables(self, copied: ModuleCopy) -> list[str]:
        """Buffers that are in no update, and must not learn anything."""
        return [
            name
            for name, role in self._roles.items()
            if role == "frozen" and not isinstance(copied.tensors[name], nn.Parameter)
        ]

    def _open_plugins(self) -> None:
        """Look up what the policy names, so that a wrong name or argument is told before anybody trains."""
        training, evaluation = self._policy.training, self._policy.evaluation
        for plugin in filter(None, (training.train, evaluation.evaluate, training.collate)):
            resolve(plugin)
        # Kept, because looking an argument over takes as long as a small training.
        self._loss = make_loss(training)
        if not training.train:
            _try_optimizer(training)
        for name in (*evaluation.metrics, *(() if training.train else evaluation.report)):
            if name not in ("loss", "perplexity"):
                make_metric(name, self._loss)


def _move(module: nn.Module, device: torch.device) -> nn.Module:
    try:
        return module.to(device)
    except (RuntimeError, TypeError) as error:
        # A constant without values, say, is no better off on the CPU.
        advice = "" if device.type == "cpu" else "; take --accelerator cpu"
        raise PluginError(f"the model cannot be moved to {device}: {error}{advice}") from error


def _make_huge(policy: Policy) -> nn.Module:
    try:
        return make_module(policy)
    except ModelError:
        raise
    except PluginError as error:
        # Each argument is within its own bounds, so it is their product that torch cannot count.
        raise ModelError(f"model_arguments = {policy.model_arguments}: a model of these sizes is too large") from error


def _try_optimizer(training: Training) -> None:
    """Make the optimizer once, of one parameter that stands for all. Raises PluginError."""
    try:
        make_optimizer([nn.Parameter(torch.zeros(1))], training, rate=training.learning_rate)
    except LearnerError as error:
        raise PluginError(str(error)) from error


def _open_collate(plugin: str) -> Any:
    function = resolve(plugin)
    return lambda listed: call(f"collate {plugin!r}", function, listed)


def _take_raw(data: Any) -> Any:
    return data.raw if isinstance(data, Loaded) else data


def _take_examples(data: Any) -> Examples:
    """The examples in what `load` gave, or in arrays that a caller has at hand."""
    if isinstance(data, Loaded):
        return data.read_examples()
    return data if isinstance(data, Examples) else convert(data, where="the data")


def _check_metrics(what: str, found: Any) -> Metrics:
    if not isinstance(found, Mapping):
        raise LearnerError(f"{what} returned {type(found).__name__}, expected metrics by name")
    return found
