"""A job of pairs: what it was asked, and what is still to be done of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath

from fam_jax._core.checks import check_choice, check_count
from fam_jax._core.encoding import Encoder
from fam_jax.bulk import cluster, loading
from fam_jax.bulk.claim import claim, described, digest
from fam_jax.bulk.drive import Progress, drive
from fam_jax.bulk.encode_once import as_features, columns, encode_pictures, todo
from fam_jax.bulk.inputs import from_features, from_pictures
from fam_jax.bulk.pairs import Grid, Listed, listed
from fam_jax.bulk.paths import absolute
from fam_jax.bulk.programs import Spread, explain_chunk
from fam_jax.bulk.quantise import DTYPES
from fam_jax.bulk.results import MAPS, collect_chunk, map_columns
from fam_jax.bulk.share import Share
from fam_jax.bulk.store import INVALID, Column, Group
from fam_jax.methods import Method, PairMethod, fam

FEATURES = "features"  # what is kept of each picture until the job is done


class Summary(NamedTuple):
    """What a job came to.

    Attributes:
        pairs: rows of the store.
        invalid: how many of them have no maps; the store says why.
        phases: the last `Progress` of each phase of this run.
    """

    pairs: int
    invalid: int
    phases: tuple[Progress, ...]


@dataclass(frozen=True, eq=False)
class Job:
    """Some pairs, a network and a method, and the store that they belong to; see `run`."""

    encode: Encoder
    method: Method | PairMethod
    pairs: Listed | Grid
    path: str
    load: loading.Load
    size: int | None
    dtype: str
    once: bool
    columns: dict[str, Column]
    settings: dict[str, Any]

    @classmethod
    def of(cls, encode, pairs, store, preprocess, method, batch, size, dtype, once, about):
        """A job as `run` is asked for it, checked."""
        if not isinstance(encode, Encoder):
            raise TypeError(
                "encode: expected fam_jax.capture(model, at=layer), or fam_jax.encoder, got "
                f"{type(encode).__name__}"
            )
        if not isinstance(method, Method | PairMethod | None):
            raise TypeError(f"method: expected a Method such as fam(), got {type(method).__name__}")
        check_choice("dtype", dtype, DTYPES)
        check_count("batch", batch)
        if size is not None:
            check_count("size", size)
        method = fam() if method is None else method
        path = absolute(store)
        asked = pairs if isinstance(pairs, Grid) else listed(pairs, batch)
        once = once or isinstance(pairs, Grid)
        load = loading.Load(preprocess)
        shape = jax.eval_shape(
            partial(explain_chunk, size=size, dtype=dtype), encode, method,
            {
                "images": jax.ShapeDtypeStruct((2, *load.shape), load.dtype),
                "query": jax.ShapeDtypeStruct((1,), np.int32),
                "reference": jax.ShapeDtypeStruct((1,), np.int32),
            },
        )  # fmt: skip
        maps = {name: shape[name].shape[1:] for name in MAPS}
        settings = {
            "asked": {
                **(about or {}),
                **asked.facts(),
                "layer": encode.at,
                "parameters_sha256": digest((encode, method)),
                "method": described(method),
                "input": f"{load.dtype} {list(load.shape)}",
                "map_dtype": dtype,
                "map_side": size,
                "batch": batch,
                "once": once,
            },
            "shape": list(asked.shape),
            "chunk_shape": list(asked.chunk_shape),
            "map_shapes": [list(side) for side in maps.values()],
        }
        return cls(
            encode, method, asked, path, load, size, dtype, once, map_columns(dtype, maps), settings
        )

    def run(
        self,
        workers: int = 0,
        on_step: Callable[[Progress], None] | None = None,
        kept: tuple[Group, Sequence[str]] | None = None,
    ) -> Summary:
        """Do what is missing; `kept` are features that are there already, and of what."""
        claim(self.path, self.settings, self.pairs.FILES, self.pairs.save)
        cluster.first(self._open)
        group = self._open()
        missing = todo(group)
        chosen = self.pairs.opened(epath.Path(self.path))
        phases, rows = [], int(np.prod(self.pairs.shape))
        if len(missing):
            spread = Spread(
                lambda parameters, inputs: explain_chunk(
                    parameters[0], parameters[1], inputs, size=self.size, dtype=self.dtype
                ),
                (self.encode, self.method),
                jax.devices(),
            )
            share = Share(missing, spread)
            if self.once and kept is None:
                paths = chosen.pictures()
                kept = features, paths = self._features(len(paths)), paths
                phases.append(
                    encode_pictures(
                        features, paths, self.encode, self.load, keep=FEATURES,
                        workers=workers, on_step=on_step,
                    )
                )  # fmt: skip
                cluster.meet("features")
            if kept is not None:
                assemble = partial(as_features, self.encode, self.load)
                inputs = from_features(share, chosen, *kept, assemble)
            else:
                inputs = from_pictures(share, chosen, self.load, workers)
            collect = partial(collect_chunk, group)
            phases.append(drive("pairs", rows, group, share, inputs, spread, collect, on_step))
        cluster.meet("pairs")
        bad = cluster.first(lambda: self._end(group), np.zeros((), np.int64))
        return Summary(rows, int(bad), tuple(phases))

    def _open(self) -> Group:
        return Group(self.path, self.pairs.shape, self.pairs.chunk_shape, self.columns, write=True)

    def _features(self, rows: int) -> Group:
        batch = int(np.prod(self.pairs.chunk_shape))
        kept = columns(self.encode, self.load, batch, FEATURES)
        path = f"{self.path}/{FEATURES}"
        group = partial(Group, path, (rows,), (batch,), kept, write=True)
        cluster.first(group)
        return group()

    def _end(self, group: Group) -> np.ndarray:
        """Clear away what is not needed any more; how many rows have no maps."""
        features = epath.Path(self.path) / FEATURES
        if features.exists():
            features.rmtree()
        bad = sum(int(np.sum(status == INVALID)) for _, status in group.each("status"))
        return np.asarray(bad, np.int64)
