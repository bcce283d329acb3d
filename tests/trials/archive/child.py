"""An archivist as a process of its own, to be killed: over a log in memory that is the same in every process.

`python -m tests.trials.archive.child s3://BUCKET/PREFIX URL`; it ends when all is archived.
"""

from __future__ import annotations

import sys
import time
from contextlib import closing

import numpy as np

from ops.archive.archivist import Archivist
from ops.archive.s3 import open_bucket
from ops.archive.stores import StoreAway
from ops.console import say
from schemas.events import TensorSpec
from tests.worlds.builders import DEPLOYMENT, KEY
from tests.worlds.ops_journal import policy
from tests.worlds.releasing.public_log import PublicLog

VERSIONS = 14
# Above the 5 MiB of a part, so that weights go in several.
PARAMETERS = 1_600_000


def make_world() -> PublicLog:
    """Versions, charges and scores: the same bytes in every process."""
    rules = policy(
        privacy={"noise_multiplier": 1.0, "rho_max": 900.0},
        retention={"models_kept": 5, "milestone_every": 6},
        staleness={"max_versions": 2},
        stop={"versions_max": 5},
    )
    flat = np.random.default_rng(1).standard_normal(PARAMETERS).astype(np.float32)
    tensors = (TensorSpec(name="large", shape=(PARAMETERS,)),)
    world = PublicLog(flat=flat, tensors=tensors, parameters=PARAMETERS, policy=rules)
    for version in range(VERSIONS):
        world.publish(version)
        world.score(version, version / 10)
        if version == 2:
            world.announce("promoted", 2, seq=1)
    return world


def main(address: str, url: str) -> None:
    """Archive all, however often the store is away meanwhile."""
    world = make_world()
    bucket = open_bucket(address, endpoint=url, request_s=5)
    say("ready")
    with closing(Archivist(world.log, bucket, operator=KEY.public_key, deployment=DEPLOYMENT)) as archivist:
        archivist.catch_up()
        while True:
            try:
                for _ in archivist.step():
                    pass
            except StoreAway:
                time.sleep(0.2)
                continue
            return


if __name__ == "__main__":
    main(*sys.argv[1:])
