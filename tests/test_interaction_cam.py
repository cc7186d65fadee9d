"""`interaction_cam`, which needs the other image: its formula, and where that is accepted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import fam_jax
from tests import heads
from tests.close import assert_close
from tests.programs import on_devices

HEADS = {name: heads.make(name, 2, 3, 5) for name in ("mlp", "flatten")}
ENCODE = {name: head.encode for name, head in HEADS.items()}


def pair(b=2, dtype=np.float32):
    A, B = (heads.activations(b, 2, 3, 5, seed).astype(dtype) for seed in (1, 2))
    return A, B


def run(A, B, name="mlp"):
    return fam_jax.explain_pairs(ENCODE[name], A, B, fam_jax.interaction_cam())


@pytest.mark.parametrize("name", ["mlp", "flatten"])
def test_the_formula_by_loops(name, x64):
    head = HEADS[name]
    A, B = pair(dtype=np.float64)
    out = run(A, B, name)
    for own, other, maps in ((A, B, out.query_maps), (B, A, out.reference_maps)):
        for n in range(2):
            z, r = head.embed(own[n]), head.embed(other[n])
            G = head.pull(own[n], r / (np.linalg.norm(z) * np.linalg.norm(r)))
            expected = np.zeros((2, 3))
            for k in range(5):
                both = own[n, :, :, k].mean() * other[n, :, :, k].mean()
                expected += own[n, :, :, k] * both * np.maximum(G[:, :, k], 0)
            assert_close(maps[n], expected, rtol=1e-10)


def test_a_channel_that_is_dark_in_the_other_image_counts_for_nothing(x64):
    """What tells it from positive gradients alone: with `dot`, those do not depend on A."""
    A, B = pair(dtype=np.float64)
    B[..., 2] = 0
    dark = A * (np.arange(5) != 2)
    encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)) + 1)  # the gradient is not zero
    method = fam_jax.interaction_cam(fam_jax.dot)
    with_it, without = (fam_jax.explain_pairs(encode, x, B, method) for x in (A, dark))
    assert_close(with_it.query_maps, without.query_maps, rtol=1e-12)
    assert with_it.valid.all()


@pytest.mark.numerics
def test_transformations_agree(x64):
    A, B = pair(dtype=np.float64)
    expected = run(A, B).query_maps
    assert_close(run(B, A).reference_maps, expected, rtol=1e-10)
    one = jax.vmap(lambda a, b: run(a[None], b[None]).query_maps[0])
    assert_close(jax.jit(one)(A, B), expected, rtol=1e-10)
    for dtype, digits in ((jnp.float32, 1e-5), (jnp.bfloat16, 0.03)):  # of the largest value
        low = run(jnp.asarray(A, dtype), jnp.asarray(B, dtype)).query_maps
        assert low.dtype == jnp.float32
        assert_close(low, expected, rtol=digits)


def test_gradients_match_finite_differences(x64):
    A, B = pair(1, np.float64)
    loss = lambda A, B: jnp.sum(jnp.sin(9 * run(A, B).query_maps))  # noqa: E731
    arguments = jnp.asarray(A + 0.1), jnp.asarray(B + 0.1)
    check_grads(jax.jit(loss), arguments, order=1, modes=["rev"], rtol=1e-5, atol=1e-7)


def test_sharded_pairs_need_no_communication(x64):
    A, B = pair(8, np.float64)
    go = jax.jit(lambda A, B: run(A, B).query_maps)
    expected = go(A, B)
    maps = on_devices(go, A, B)
    assert maps.sharding.spec[0] == "batch"
    assert_close(maps, expected, rtol=1e-10)


def test_nothing_to_say_gives_zeros_and_is_not_valid():
    A, B = pair()
    clean = run(A, B)
    A[1, 0, 0, 0] = np.nan
    out = run(A, B)
    assert out.valid.tolist() == [True, False]
    assert not out.query_maps[1].any()
    assert not out.reference_maps[1].any()
    assert_close(out.query_maps[0], clean.query_maps[0])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda e, x, m: fam_jax.explain(e, x, x[:, 0, 0], m), TypeError, "use explain_pairs"),
        (lambda e, x, m: fam_jax.explain_all(e, x, x[:, 0, 0], m), TypeError, "give images"),
        (
            lambda e, x, m: fam_jax.all_pairs(m)(e(x), e(x).embeddings),
            TypeError,
            "looks at the other image, too",
        ),
        (lambda e, x, m: m.pair(e(x), e(x[:1])), ValueError, "reference: expected embeddings"),
        (lambda e, x, m: m.pair(e(x), x), TypeError, "expected an Encoding"),
        (lambda e, x, m: fam_jax.interaction_cam(norms="none"), ValueError, "norms: expected one"),
        (lambda e, x, m: fam_jax.interaction_cam("dot"), TypeError, "similarity: expected"),
        (lambda e, x, m: fam_jax.explain_pairs(e, x, x, "cam"), TypeError, "such as fam"),
    ],
)
def test_wrong_arguments_are_refused(call, error, message, unchecked):
    A, _ = pair()
    with pytest.raises(error, match=message):
        call(ENCODE["mlp"], A, fam_jax.interaction_cam())
