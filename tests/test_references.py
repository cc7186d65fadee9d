"""Reference embeddings: prototypes, the k-NN rule, classifier rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fam_jax
from tests.close import assert_close
from tests.explained import channel_map

RNG = np.random.default_rng(0)
Z = RNG.normal(size=(30, 6)).astype(np.float32)
LABELS = RNG.integers(0, 4, 30).astype(np.int32)


def test_prototypes_are_class_means():
    expected = np.stack([Z[c == LABELS].mean(0) for c in range(4)])
    run = jax.jit(fam_jax.prototypes, static_argnums=2)
    assert_close(run(jnp.asarray(Z), jnp.asarray(LABELS), 4), expected, relative_to=Z)


def test_an_empty_class_has_a_zero_prototype_and_no_valid_map():
    p = fam_jax.prototypes(jnp.asarray(Z), jnp.asarray(LABELS), 5)
    assert not p[4].any()
    A = jnp.abs(jnp.asarray(RNG.normal(size=(1, 2, 2, 6)).astype(np.float32)))
    out = fam_jax.explain(fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2))), A, p[4:])
    assert not out.valid[0]


def test_prototypes_take_gradients_and_bfloat16():
    slope = jax.grad(lambda z: fam_jax.prototypes(z, jnp.asarray(LABELS), 4)[2].sum())(
        jnp.asarray(Z)
    )
    expected = (LABELS == 2)[:, None] / (LABELS == 2).sum() * np.ones((1, 6))
    np.testing.assert_allclose(slope, expected, rtol=1e-6)
    low = fam_jax.prototypes(jnp.asarray(Z, jnp.bfloat16), jnp.asarray(LABELS), 4)
    assert low.dtype == jnp.float32


def knn_by_hand(query, bank, labels, k, temperature):
    """The rule in NumPy, one query at a time."""
    unit = bank / np.linalg.norm(bank, axis=1, keepdims=True)
    predicted, references = [], []
    for z in query / np.linalg.norm(query, axis=1, keepdims=True):
        cosines = unit @ z
        top = np.argsort(-cosines)[:k]
        votes = {c: np.exp(cosines[top][labels[top] == c] / temperature).sum() for c in labels[top]}
        winner = max(votes, key=votes.get)
        predicted.append(winner)
        references.append(unit[top[labels[top] == winner]].mean(0))
    return np.array(predicted), np.stack(references)


@pytest.mark.numerics
@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (5, 0.07), (20, 0.07), (20, 1.0)])
def test_neighbours_follow_the_rule(k, temperature):
    query = RNG.normal(size=(9, 6)).astype(np.float32)
    nearest = fam_jax.neighbours(
        jnp.asarray(query), jnp.asarray(Z), k, jnp.asarray(LABELS), temperature
    )
    labels, references = knn_by_hand(
        query.astype(np.float64), Z.astype(np.float64), LABELS, k, temperature
    )
    np.testing.assert_array_equal(nearest.labels, labels)
    assert_close(nearest.reference, references, relative_to=1)  # means of unit vectors
    assert (np.diff(nearest.similarities, axis=1) <= 0).all()


def test_without_labels_every_neighbour_is_kept():
    nearest = fam_jax.neighbours(jnp.asarray(Z[:3]), jnp.asarray(Z), k=4)
    assert nearest.labels is None
    assert nearest.kept.all()
    assert nearest.indices[:, 0].tolist() == [0, 1, 2]
    unit = Z / np.linalg.norm(Z, axis=1, keepdims=True)
    assert_close(nearest.reference[1], unit[nearest.indices[1]].mean(0), relative_to=1)


def test_fam_against_the_reference_is_fam_of_the_mean_shares(x64):
    Z = RNG.normal(size=(30, 6))
    A = np.abs(RNG.normal(size=(3, 4, 4, 6)))
    enc = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))(A)
    nearest = fam_jax.neighbours(enc.embeddings, jnp.asarray(Z), 7, jnp.asarray(LABELS))
    shares = []
    for q, z in enumerate(enc.embeddings):
        kept = jnp.asarray(Z[nearest.indices[q][nearest.kept[q]]])
        shares.append(fam_jax.cosine.shares(jnp.broadcast_to(z, kept.shape), kept).mean(0))
    expected = channel_map(enc, fam_jax.minmax(jnp.stack(shares)))
    assert_close(fam_jax.fam()(enc, nearest.reference), expected, rtol=1e-10)


def test_neighbours_of_sharded_queries_and_under_vmap():
    query = jnp.asarray(RNG.normal(size=(16, 6)).astype(np.float32))
    run = jax.jit(lambda q: fam_jax.neighbours(q, jnp.asarray(Z), 5, jnp.asarray(LABELS)).reference)
    # Automatic axes: a gather over explicit ones would have to be told its result's sharding.
    mesh = jax.make_mesh((8,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    shard = jax.NamedSharding(mesh, jax.P("batch"))
    assert_close(run(jax.device_put(query, shard)), run(query), relative_to=1)
    one = jax.vmap(lambda q: run(q[None])[0])(query)
    assert_close(one, run(query), relative_to=1)


def test_classifier_rows_are_the_logit_with_dot():
    kernel = jnp.asarray(RNG.normal(size=(6, 4)).astype(np.float32))
    rows = fam_jax.classifier_rows(kernel, jnp.asarray([2, 0]))
    logits = Z[:2] @ kernel
    expected = np.array([logits[0, 2], logits[1, 0]])
    assert_close(fam_jax.dot.score(jnp.asarray(Z[:2]), rows), expected, relative_to=logits)
    assert np.isnan(fam_jax.classifier_rows(kernel, jnp.asarray([4]))).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda z, y: fam_jax.prototypes(z, y[:5], 4),
            ValueError,
            r"one for each of the embeddings",
        ),
        (lambda z, y: fam_jax.prototypes(z, z[:, 0], 4), TypeError, "labels: expected an array of"),
        (lambda z, y: fam_jax.prototypes(z, y, 0), ValueError, "num_classes: expected a positive"),
        (lambda z, y: fam_jax.neighbours(z, z, k=31), ValueError, r"expected 1 to 30 .* got 31"),
        (lambda z, y: fam_jax.neighbours(z, z[:, :3]), ValueError, "dimensions differ"),
        (lambda z, y: fam_jax.classifier_rows(z[0], y), ValueError, "kernel: expected an array"),
    ],
)
def test_wrong_arguments_are_refused(call, error, message, unchecked):
    with pytest.raises(error, match=message):
        call(jnp.asarray(Z), jnp.asarray(LABELS))
