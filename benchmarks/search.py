"""What a search costs: the nearest of a million embeddings, beside reading their bytes once.

    python benchmarks/search.py            # two minutes on two CPU cores, 3 GB of memory
    python benchmarks/search.py --quick    # tiny sizes, to see that it runs

The embeddings lie in memory in float16. A plain sum of the same bytes by XLA, on all cores, and a
plain copy by NumPy say what the memory gives; all take turns in one process. A similarity of one's
own is scored pair by pair, as all were once: on a part, its time multiplied.
"""

import argparse
import statistics
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
from rich.console import Console
from rich.table import Table
from timing import duration, in_turns, machine, ready, table

import fam_jax
from fam_jax import bulk


@dataclass(frozen=True)
class Sizes:
    """How large everything is."""

    rows: int = 1_000_000
    dimensions: int = 384
    queries: int = 32
    hits: int = 5
    part: int = 20  # one of so many for what is scored pair by pair
    rounds: int = 5


QUICK = Sizes(20_000, 32, 4, 5, 2, 1)


class OwnCosine:
    """The cosine as a similarity of a user's own."""

    score = staticmethod(fam_jax.cosine.score)
    shares = staticmethod(fam_jax.cosine.shares)


def embeddings(sizes: Sizes) -> np.ndarray:
    """Random directions, a part at a time: in float32 they would take twice the memory."""
    rng, step = np.random.default_rng(0), 1 << 14
    out = np.empty((sizes.rows, sizes.dimensions), np.float16)
    for start in range(0, sizes.rows, step):
        part = out[start : start + step]
        part[...] = rng.standard_normal(part.shape, np.float32)
    return out


def search(sizes: Sizes) -> Table:
    bank = embeddings(sizes)
    words, copy = bank.view(np.uint32), np.empty_like(bank)
    on_device = jax.device_put(words)
    queries = np.random.default_rng(1).normal(size=(sizes.queries, sizes.dimensions))
    queries = queries.astype(np.float32)
    some = bank[: sizes.rows // sizes.part]
    find = partial(bulk.search, queries, k=sizes.hits)
    sum_, own = "plain sum (XLA)", f"pair by pair, on 1/{sizes.part}, cosine"
    jobs = {
        sum_: ready(jax.jit(lambda x: x.sum(1)), on_device),
        "plain copy (NumPy)": lambda: np.copyto(copy, bank),
        "search, cosine": lambda: find(bank),
        "search, dot": lambda: find(bank, similarity=fam_jax.dot),
        "search, euclidean": lambda: find(bank, similarity=fam_jax.euclidean),
        own: lambda: find(some, similarity=OwnCosine()),
    }
    seconds = in_turns(jobs, sizes.rounds)
    seconds[own] = [s * sizes.part for s in seconds[own]]
    out = table(
        f"The {sizes.hits} nearest of {sizes.rows:,} x {sizes.dimensions} float16, "
        f"{sizes.queries} queries (aim: 1.5 s)",
        *("job", "time", "bytes of the embeddings a second", "of the sum's"),
    )
    for name, times in seconds.items():
        rate = bank.nbytes / statistics.median(times) / 1e9
        share = statistics.median(s / t for s, t in zip(seconds[sum_], times, strict=True))
        out.add_row(name, duration(times), f"{rate:.2f} GB", f"{share:.1%}")
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes; the numbers mean nothing")
    options = parser.parse_args()
    console = Console(width=120, highlight=False)
    console.print(machine())
    console.print()
    console.print(search(QUICK if options.quick else Sizes()))


if __name__ == "__main__":
    main()
