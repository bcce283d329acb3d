"""What the trial of the DAG trains, and what it asks devices."""

from __future__ import annotations

from tests.trials.regression.story import DEVICES

# The question is asked again and again, for as long as somebody answers.
ANSWERS_MAX = 1_000
# What devices answer the question with: nearly all labels are low, and later nearly all high.
ANSWERS = """

def _draw(part, high):
    draw = np.random.default_rng([part.index, high])
    return draw.normal(size=(100, 2)), np.where(draw.random(100) < 0.9, 3 if high else 0, 1)

def answer(part): return _draw(part, False)
def answer_otherwise(part): return _draw(part, True)
"""


def write_policy(module: str) -> str:
    """A task that is rolled out: two versions, and no more once they are there."""
    return f"""
learner = "{module}:Sites"
[selection]
devices_expected = {DEVICES}
concurrency = {DEVICES}
retry_after_s = 0.2
[aggregation]
updates_per_round = 3
[clipping]
norm = 8.0
[compression]
codec = "float32"
[evaluation]
quorum = 1
cohort = "site"
metric = "accuracy"
[[rollout.stages]]
share = 0.5
hold_s = 0.2
[[rollout.gates]]
metric = "accuracy"
at_least = 0.8
[stop]
versions_max = 2
"""


def write_measure(devices: int) -> str:
    """A question about labels, whose devices name their data themselves; each answer is of all of them."""
    return f"""
kind = "measure"
[measure]
plugin = "client_agent.learning.measuring.questions:histogram"
plugin_arguments = {{ column = "labels" }}
[measure.statistics]
histogram = {{ bound = 1024, shape = [4] }}
examples = {{ bound = 1024 }}
[clipping]
norm = 4.0
steps = 1048576
[compression]
codec = "float32"
error_feedback = false
[staleness]
rule = "constant"
max_versions = 0
[selection]
devices_expected = {devices}
concurrency = {devices}
retry_after_s = 0.2
lease_s = 5.0
[aggregation]
updates_per_round = {devices}
[stop]
versions_max = {ANSWERS_MAX}
"""
