"""Views of pictures and sentences explained, as arrays for a file, and why one has no map."""

from itertools import groupby
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import fam_jax
from fam_jax._core.brief import legible
from fam_jax.methods.explain import explain_encodings, run

pair = jax.jit(explain_encodings)


def of_pictures(encode: fam_jax.Encoder, seen: list, method: fam_jax.Method) -> dict:
    """Pairs of views as arrays for a file; a query that stays the same is encoded once."""
    pairs, last, enc = [], None, None
    for query, reference in seen:
        if query is not last:
            last, enc = query, run(encode, query.input[None], method)
        pairs.append(pair(enc, run(encode, reference.input[None], method), method))
    return jax.tree.map(lambda *parts: np.concatenate(parts), *pairs)._asdict()


def of_sentences(encode: fam_jax.Encoder, seen: list, texts: Array, method: Any) -> dict:
    """The view of every sentence with its embedding, as arrays for a file."""
    parts = []
    for _, same in groupby(range(len(seen)), key=lambda i: id(seen[i][0])):
        rows = list(same)
        image, some = seen[rows[0]][0].input[None], texts[rows[0] : rows[-1] + 1]
        out = fam_jax.explain_all(encode, image, some, method)
        parts.append([np.asarray(part[0]) for part in out])
    maps, scores, valid = map(np.concatenate, zip(*parts, strict=True))
    return {"query_maps": maps, "scores": scores, "valid": valid}


def why(*images: tuple[str, Array]) -> str:
    """What keeps pictures, by their names and embeddings [d], from having a map."""
    for name, z in images:
        if not jnp.all(jnp.isfinite(z)):
            return f"the embedding of {legible(name)} is not finite"
        if not jnp.any(z):
            return f"the embedding of {legible(name)} is zero"
    names = " ~ ".join(legible(name) for name, _ in images)
    return f"no evidence at this layer for {names}; take another with --layer"
