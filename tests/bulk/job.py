"""A job of the toy network, to be run in a process of its own.

A line goes to LOG whenever this process has a step's results in its hands, before they are written.
"""

import os
import time

import jax

from fam_jax import bulk
from fam_jax.apps import hosts
from fam_jax.bulk._programs import DeviceProgram
from tests.bulk import toy

fetch = DeviceProgram.fetch


def main(table, store, log, port=None, process=0, processes=1):
    """How many pairs were explained, how many of them are not valid, and on how many devices."""
    if port is not None:
        hosts.join(f"127.0.0.1:{port}", processes, process)

    def fetch_and_log(self, outputs):
        results = fetch(self, outputs)
        with open(log, "a") as file:
            file.write("step\n")
        return results

    DeviceProgram.fetch = fetch_and_log
    pause = float(os.environ.get("PAUSE", "0"))
    done = bulk.run(
        toy.encoder(),
        table,
        store,
        preprocess=toy.Preprocess(),
        batch=4,
        dtype="float32",
        once="ONCE" in os.environ,
        on_step=lambda progress: time.sleep(pause),
    )
    return done.pairs, done.invalid, len(jax.devices())
