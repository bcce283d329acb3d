"""A model as a body in the log: stored, read, and found by its version."""

from __future__ import annotations

import numpy as np
import pytest

from ops.history.task_view import TaskView
from ops.operator import models
from ops.operator.errors import ModelGone, VersionUnknown
from streams.log import TopicPartition
from tests.unit.ops.history.test_projections import published
from tests.worlds.ops_journal import PLACE, TASK, memory_log

FLAT = np.arange(6, dtype=np.float32)


def test_a_stored_model_reads_back() -> None:
    """The vector comes back bit for bit."""
    log = memory_log()
    ref = models.store(log, FLAT, partition=PLACE)
    assert models.read(log, ref, parameters=6).tobytes() == FLAT.tobytes()


def test_a_model_that_retention_took_is_named() -> None:
    """The message says where the body stood and which policy section keeps more."""
    log = memory_log()
    ref = models.store(log, FLAT, partition=PLACE)
    log.delete_records(TopicPartition("models", PLACE), 1)
    with pytest.raises(ModelGone, match=r"models\[\d\]@0 is gone .*\[retention\]"):
        models.read(log, ref, parameters=6)


def test_the_newest_version_is_the_default() -> None:
    """Without a number the newest version is meant; a number that the task does not have is refused."""
    view = TaskView(TASK, published={0: published(0, None), 1: published(1, 0)})
    assert (models.choose_version(view, None), models.choose_version(view, 0)) == (1, 0)
    with pytest.raises(VersionUnknown, match="no version 7; it has 0 to 1"):
        models.choose_version(view, 7)
    with pytest.raises(VersionUnknown, match="none yet"):
        models.choose_version(TaskView(TASK), None)
