"""What is measured of maps: programs that all batches share."""

import numpy as np

import fam_jax
from fam_jax import evaluate
from fam_jax.metrics import drop


def test_batches_of_cases_share_the_programs_that_ask_for_maps_again():
    encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
    rng = np.random.default_rng(0)
    compiled = []
    for _ in range(3):
        images = rng.uniform(size=(4, 8, 8, 3)).astype(np.float32)
        z = np.asarray(encode(images).embeddings)
        batch = evaluate.Batch.of(images, references=z[::-1], background=z)
        evaluate.compare(encode, batch, ["fam"], steps=2)
        compiled.append(drop._coherency._cache_size())
    assert compiled == [compiled[0]] * 3
