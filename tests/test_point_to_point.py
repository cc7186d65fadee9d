"""`point_to_point`, `correspondences`: a similarity split over all pairs of positions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import fam_jax
from fam_jax import cosine, dot
from fam_jax.methods.pairs import _position_pairs
from tests import heads
from tests.close import assert_close
from tests.programs import on_devices

HEADS = {name: heads.make(name, 2, 3, 5) for name in heads.NAMES}
ENCODE = {name: head.encode for name, head in HEADS.items()}


def pair(name="gap_linear", b=2, dtype=np.float32):
    """Two batches; only pooling heads take maps of different sizes."""
    size = (2, 3) if name == "flatten" else (3, 2)
    A = heads.activations(b, 2, 3, 5).astype(dtype)
    B = heads.activations(b, *size, 5, seed=2).astype(dtype)
    return A, B


def explain(A, B, name="gap_linear", similarity=cosine):
    return fam_jax.position_pairs(ENCODE[name](A), ENCODE[name](B), similarity)


@pytest.mark.parametrize(
    ("name", "similarity"), [("gap", cosine), ("gap_linear", dot), ("flatten", cosine)]
)
def test_linear_heads_the_pairs_sum_to_decomposition_and_score(name, similarity, x64):
    A, B = pair(name, dtype=np.float64)
    p2p = explain(A, B, name, similarity)
    query, reference = ENCODE[name](A), ENCODE[name](B)
    score = similarity.score(query.embeddings, reference.embeddings)
    one = fam_jax.decomposition(similarity)(query, reference.embeddings)
    other = fam_jax.decomposition(similarity)(reference, query.embeddings)
    for axes, expected in (((1, 2, 3, 4), score), ((3, 4), one), ((1, 2), other)):
        assert_close(p2p.sum(axes), expected, relative_to=p2p, rtol=1e-10)


def test_centred_shares_are_those_of_parts_less_their_means(x64):
    A, B = pair("gap", dtype=np.float64)
    centred = fam_jax.centred(explain(A, B, "gap"))
    for image in ((1, 2), (3, 4)):
        mean = centred.mean(image)
        assert_close(mean, np.zeros(mean.shape), relative_to=centred, rtol=1e-12)
    # For a mean over positions the parts are the activations, a sixth of them.
    u, v = (x - x.mean((1, 2), keepdims=True) for x in (A, B))
    norms = np.prod([np.linalg.norm(x.mean((1, 2)), axis=1) for x in (A, B)], axis=0)
    expected = np.einsum("bijk,bxyk->bijxy", u, v) / (36 * norms.reshape(2, 1, 1, 1, 1))
    assert_close(centred, expected, rtol=1e-10)


def test_every_pair_of_positions_against_loops(x64):
    """A head with a kink, by the hand-written pullbacks, one position and dimension at a time."""
    A, B = pair("mlp", dtype=np.float64)
    p2p = explain(A, B, "mlp")
    head = HEADS["mlp"]
    for n in range(2):
        z, r = head.embed(A[n]), head.embed(B[n])
        rows = [(head.pull(A[n], e), head.pull(B[n], e)) for e in np.eye(5)]
        u = np.stack([(G * A[n]).sum(-1) for G, _ in rows], -1)
        # The hand-written pullback spreads over 2 x 3 positions, as many as 3 x 2.
        v = np.stack([(F.reshape(B[n].shape) * B[n]).sum(-1) for _, F in rows], -1)
        expected = np.zeros((2, 3, 3, 2))
        for i, j, x, y in np.ndindex(2, 3, 3, 2):
            expected[i, j, x, y] = u[i, j] @ v[x, y] / (np.linalg.norm(z) * np.linalg.norm(r))
        assert_close(p2p[n], expected, rtol=1e-10)


@pytest.mark.numerics
def test_exchange_chunks_batches_and_jit_agree(x64):
    A, B = pair(dtype=np.float64)
    expected = explain(A, B)
    assert_close(explain(B, A).transpose(0, 3, 4, 1, 2), expected, rtol=1e-10)
    enc, ref = ENCODE["gap_linear"](A), ENCODE["gap_linear"](B)
    part = fam_jax.position_pairs(enc, ref, chunk=4)  # of six dimensions
    assert_close(part, expected, rtol=1e-10)
    one = jax.vmap(lambda a, b: explain(a[None], b[None])[0])
    assert_close(jax.jit(one)(A, B), expected, rtol=1e-10)
    for dtype, digits in ((jnp.float32, 1e-5), (jnp.bfloat16, 0.02)):  # of the largest value
        low = explain(jnp.asarray(A, dtype), jnp.asarray(B, dtype))
        assert low.dtype == jnp.float32
        assert_close(low, expected, rtol=digits)


def test_encodings_of_one_shape_share_a_compilation():
    A, B = pair()
    explain(A, B)
    before = _position_pairs._cache_size()
    explain(2 * A, B + 1)
    assert _position_pairs._cache_size() == before


def test_gradients_match_finite_differences(x64):
    A, B = pair("mlp", 1, np.float64)
    loss = lambda A, B: jnp.sum(jnp.sin(9 * explain(A, B, "mlp")))  # noqa: E731
    arguments = jnp.asarray(A + 0.1), jnp.asarray(B + 0.1)
    check_grads(jax.jit(loss), arguments, order=1, modes=["rev"], rtol=1e-5, atol=1e-7)


def test_sharded_pairs_need_no_communication(x64):
    A, B = pair(b=8, dtype=np.float64)
    p2p = on_devices(explain, A, B)
    assert p2p.sharding.spec[0] == "batch"
    assert_close(p2p, explain(A, B), rtol=1e-10)


def test_nothing_to_say_gives_zeros_and_spares_the_others():
    A, B = pair()
    clean = explain(A, B)
    for bad in (np.nan, 0.0):
        B[1] = bad
        p2p = explain(A, B)
        assert not p2p[1].any()
        assert_close(p2p[0], clean[0])


def test_memory_is_bounded_by_the_chunk():
    """All rows of the Jacobian at once would take d times the activations: 64 MiB here."""
    head = lambda A: A.reshape(1, -1)  # noqa: E731
    encode = fam_jax.encoder(lambda x: x, head)
    image = jax.ShapeDtypeStruct((1, 8, 8, 64), jnp.float32)
    run = jax.jit(lambda a, b: fam_jax.position_pairs(encode(a), encode(b), chunk=8))
    scratch = run.lower(image, image).compile().memory_analysis().temp_size_in_bytes
    assert scratch < 10 * 2**20


def test_a_shifted_image_corresponds_to_itself():
    A = heads.activations(2, 4, 6, 8, signed=True)
    A /= np.linalg.norm(A, axis=-1, keepdims=True)
    encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
    p2p = fam_jax.position_pairs(encode(A), encode(np.roll(A, 2, axis=2)))
    positions = fam_jax.correspondences(p2p)
    rows, columns = np.indices((4, 6))
    np.testing.assert_array_equal(positions[..., 0], np.broadcast_to(rows, (2, 4, 6)))
    np.testing.assert_array_equal(positions[..., 1], np.broadcast_to((columns + 2) % 6, (2, 4, 6)))


SMALL = heads.make("gap", 1, 1, 4).encode(np.ones((2, 1, 1, 4), np.float32))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda e: fam_jax.position_pairs(e, e.embeddings), TypeError, "expected an Encoding"),
        (lambda e: fam_jax.position_pairs(e, e, fam_jax.euclidean), TypeError, "cosine or fam_jax"),
        (lambda e: fam_jax.position_pairs(e, e, chunk=0), ValueError, "chunk: expected a positive"),
        (lambda e: fam_jax.correspondences(e.activations), ValueError, "p2p: expected an array"),
        (lambda e: fam_jax.centred(e.activations), ValueError, "p2p: expected an array"),
        (lambda e: fam_jax.position_pairs(e, SMALL), ValueError, r"expected embeddings \(2, 6\)"),
    ],
)
def test_wrong_arguments_are_refused(call, error, message, unchecked):
    A, _ = pair()
    with pytest.raises(error, match=message):
        call(ENCODE["gap_linear"](A))
