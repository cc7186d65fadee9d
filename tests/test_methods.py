"""Every method under every transformation: jit, vmap, grad, bfloat16, float64, 8 devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import fam_jax
from tests import heads

BANK = np.random.default_rng(9).normal(size=(7, 5)).astype(np.float32)

METHODS = {
    "fam": lambda s: fam_jax.fam(s),
    "fam none": lambda s: fam_jax.fam(s, normalize="none"),
    "fam relu": lambda s: fam_jax.fam(s, normalize="relu"),
    "fam gradient_x_input": lambda s: fam_jax.fam(s, weights="gradient_x_input"),
    "decomposition": lambda s: fam_jax.decomposition(s),
    "grad_cam": lambda s: fam_jax.grad_cam(s),
    "grad_cam free": lambda s: fam_jax.grad_cam(s, norms="free"),
    "layer_cam": lambda s: fam_jax.layer_cam(s),
    "hires_cam": lambda s: fam_jax.hires_cam(s),
    "xgrad_cam": lambda s: fam_jax.xgrad_cam(s),
    "grad_cam_pp": lambda s: fam_jax.grad_cam_pp(s),
    "eigen_cam": lambda s: fam_jax.eigen_cam(s),
    "activation_sum": lambda s: fam_jax.activation_sum(s),
    "cam": lambda s: fam_jax.cam(),
}
SIMILARITIES = {
    "cosine": lambda: fam_jax.cosine,
    "dot": lambda: fam_jax.dot,
    "euclidean": lambda: fam_jax.euclidean,
    "margin": lambda: fam_jax.margin(fam_jax.cosine, jnp.asarray(BANK)),
}
# Methods differ in what they ask of a similarity: its shares, its gradient, or both. One of each
# kind meets every similarity, the others the cosine and what else they are meant for.
PAIRS = (
    *((name, of) for name in ("fam", "decomposition", "grad_cam") for of in SIMILARITIES),
    ("fam none", "margin"),
    ("fam gradient_x_input", "euclidean"),
    *((name, "cosine") for name in METHODS if name not in ("fam", "decomposition", "grad_cam")),
)
every = pytest.mark.parametrize("name", METHODS)
alike = pytest.mark.parametrize(("name", "of"), PAIRS)


def case(b=8, h=3, w=4, c=6, dtype=np.float32):
    head = heads.make("mlp", h, w, c)
    A = jnp.asarray(heads.activations(b, h, w, c).astype(dtype))
    R = jnp.asarray(np.random.default_rng(3).normal(size=(b, 5)).astype(dtype))
    return head, A, R


@alike
def test_jit_and_vmap_and_batches_agree(name, of):
    head, A, R = case()
    method = METHODS[name](SIMILARITIES[of]())
    run = lambda method, A, R: method(head.encode(A), R)  # noqa: E731
    plain = run(method, A, R)
    assert plain.shape == (8, 3, 4)
    assert plain.dtype == jnp.float32
    np.testing.assert_allclose(jax.jit(run)(method, A, R), plain, rtol=1e-5, atol=1e-6)
    one = jax.vmap(lambda a, r: run(method, a[None], r[None])[0])(A, R)
    np.testing.assert_allclose(one, plain, rtol=1e-5, atol=1e-6)


@alike
def test_all_pairs_are_every_single_pair(name, of):
    head, A, R = case(b=2)
    R = jnp.concatenate([R, -R, 2 * R])
    method = METHODS[name](SIMILARITIES[of]())
    maps = fam_jax.all_pairs(method)(head.encode(A), R)
    assert maps.shape == (2, 6, 3, 4)
    for n in range(6):
        one = method(head.encode(A), jnp.broadcast_to(R[n], (2, 5)))
        np.testing.assert_allclose(maps[:, n], one, rtol=1e-5, atol=1e-6)


@alike
def test_bfloat16_accumulates_in_float32(name, of):
    head, A, R = case(b=2, h=4, w=4, c=16)
    method = METHODS[name](SIMILARITIES[of]())
    exact = method(head.encode(A), R)
    maps = method(head.encode(A.astype(jnp.bfloat16)), R.astype(jnp.bfloat16))
    assert maps.dtype == jnp.float32
    # bfloat16 keeps 8 bits; shares near their minimum lose some of them in the difference.
    assert np.abs(maps - exact).max() <= 0.06 * max(1.0, np.abs(exact).max())


@alike
def test_gradients_of_maps_match_finite_differences(name, of, x64):
    head, A, R = case(b=1, h=2, w=3, c=4, dtype=np.float64)
    method = METHODS[name](
        fam_jax.margin(fam_jax.cosine, jnp.asarray(BANK, jnp.float64))
        if of == "margin"
        else SIMILARITIES[of]()
    )
    A = A + 0.1 * (1 + jnp.arange(A.size).reshape(A.shape) / A.size)
    maps = method(head.encode(A), R)
    assert np.all((maps == 0) | (np.abs(maps) > 1e-3)), "too near a kink of ReLU to differentiate"
    loss = jax.jit(lambda A, R: jnp.sum(jnp.sin(method(head.encode(A), R))))
    check_grads(loss, (A, R), order=1, modes=["rev"], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "name", ["fam", "decomposition", "grad_cam free", "xgrad_cam", "grad_cam_pp", "eigen_cam"]
)
def test_second_derivatives(name, x64):
    head, A, R = case(b=1, h=2, w=2, c=3, dtype=np.float64)
    method = METHODS[name](fam_jax.cosine)
    A = A + 0.05 * (1 + jnp.arange(A.size).reshape(A.shape) / A.size)
    loss = jax.jit(lambda A: jnp.sum(jnp.sin(method(head.encode(A), R))))
    check_grads(loss, (A,), order=2, modes=["rev"], rtol=1e-4, atol=1e-6)


@every
def test_float64_stays_float64(name, x64):
    head, A, R = case(dtype=np.float64)
    assert METHODS[name](fam_jax.cosine)(head.encode(A), R).dtype == jnp.float64


@alike
def test_sharded_batches_stay_where_they_are(name, of):
    head, A, R = case(b=16)
    method = METHODS[name](SIMILARITIES[of]())
    run = jax.jit(lambda method, A, R: method(head.encode(A), R))
    expected = run(method, A, R)
    shard = jax.NamedSharding(jax.make_mesh((8,), ("batch",)), jax.P("batch"))
    maps = run(method, jax.device_put(A, shard), jax.device_put(R, shard))
    assert maps.sharding.spec[0] == "batch"
    np.testing.assert_allclose(maps, expected, rtol=1e-5, atol=1e-6)


def test_options_are_compared_by_value():
    """`fam()` made twice shares one compilation, and a new background of one shape none."""
    head, A, R = case(b=2)
    count = 0

    @jax.jit
    def run(method, A, R):
        nonlocal count
        count += 1
        return method(head.encode(A), R)

    for _ in range(3):
        run(fam_jax.fam(), A, R)
    assert count == 1
    run(fam_jax.fam(normalize="relu"), A, R)
    assert count == 2
    for scale in (1, 2, 3):
        run(fam_jax.decomposition(fam_jax.margin(fam_jax.cosine, scale * jnp.asarray(BANK))), A, R)
    assert count == 3


def test_a_users_own_similarity():
    """Any object with score and shares, registered or not; the equal of the built-in one."""

    class Mine:
        def shares(self, z, r):
            return z * r

        def score(self, z, r):
            return (z * r).sum(-1)

    head, A, R = case(b=2)
    enc = head.encode(A)
    mine = Mine()
    for make in (fam_jax.fam, fam_jax.decomposition, fam_jax.grad_cam):
        np.testing.assert_allclose(
            make(mine)(enc, R), make(fam_jax.dot)(enc, R), rtol=1e-5, atol=1e-6
        )
    rival = fam_jax.margin(mine, jnp.asarray(BANK))
    out = fam_jax.explain(head.encode, A, R, fam_jax.decomposition(rival))
    assert out.maps.shape == (2, 3, 4)


@every
@pytest.mark.parametrize("bad", ["nan image", "infinite reference", "zero image", "zero reference"])
def test_nothing_to_say_gives_zeros_and_spares_the_others(name, bad):
    head = heads.make("gap", 3, 4, 5)
    A = heads.activations(3, 3, 4, 5)
    R = np.random.default_rng(3).normal(size=(3, 5)).astype(np.float32)
    clean = METHODS[name](fam_jax.cosine)(head.encode(jnp.asarray(A)), jnp.asarray(R))
    if bad == "nan image":
        A[1, 0, 0, 0] = np.nan
    elif bad == "infinite reference":
        R[1, 2] = np.inf
    elif bad == "zero image":
        A[1] = 0
    else:
        R[1] = 0
    out = fam_jax.explain(
        head.encode, jnp.asarray(A), jnp.asarray(R), METHODS[name](fam_jax.cosine)
    )
    assert not out.maps[1].any()
    assert not out.valid[1]
    others = jnp.array([0, 2])
    np.testing.assert_allclose(out.maps[others], clean[others], rtol=1e-5, atol=1e-6)


def test_negative_evidence_only_is_zeros_and_not_valid():
    """relu of an all-negative map is all zeros, not NaN."""
    A = jnp.ones((1, 2, 2, 3))
    out = fam_jax.explain(
        fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2))),
        A,
        -jnp.ones((1, 3)),
        fam_jax.grad_cam(),
    )
    assert not out.maps.any()
    assert out.valid.tolist() == [False]
    np.testing.assert_allclose(out.scores, -1, rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda enc: fam_jax.fam()(enc, jnp.ones((1, 5))), ValueError, "one reference per image"),
        (lambda enc: fam_jax.fam()(enc, jnp.ones(5)), ValueError, r"references: expected an array"),
        (lambda enc: fam_jax.fam()(enc, jnp.ones((2, 5), int)), TypeError, "got int32"),
        (lambda enc: fam_jax.fam()(enc.embeddings, jnp.ones((2, 5))), TypeError, "an Encoding"),
        (lambda enc: fam_jax.fam(normalize="min-max"), ValueError, "did you mean 'minmax'"),
        (lambda enc: fam_jax.fam(weights="share"), ValueError, "did you mean 'shares'"),
        (lambda enc: fam_jax.fam("cosine"), TypeError, "similarity: expected fam_jax.cosine"),
        (lambda enc: fam_jax.grad_cam(norms="none"), ValueError, "norms: expected one of frozen"),
        (lambda enc: fam_jax.all_pairs(fam_jax.fam), TypeError, "such as fam"),
        (
            lambda enc: fam_jax.all_pairs(fam_jax.fam())(enc, jnp.ones((4, 6))),
            ValueError,
            "embeddings have 5",
        ),
        (lambda enc: fam_jax.margin(fam_jax.dot, jnp.ones(5)), ValueError, "background: expected"),
        (
            lambda enc: fam_jax.margin(fam_jax.dot, jnp.ones((0, 5))),
            ValueError,
            "at least one embedding",
        ),
        (
            lambda enc: fam_jax.fam(fam_jax.margin(fam_jax.dot, jnp.ones((3, 4))))(
                enc, jnp.ones((2, 5))
            ),
            ValueError,
            r"background has shape \(3, 4\), but embeddings have 5",
        ),
    ],
)
def test_wrong_arguments_are_refused(call, error, message, unchecked):
    enc = heads.make("gap", 3, 4, 5).encode(jnp.asarray(heads.activations(2, 3, 4, 5)))
    with pytest.raises(error, match=message):
        call(enc)
