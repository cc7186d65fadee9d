"""The CAM family: what relates its members to each other, to NumPy, and to a classifier's logit.

Under jit, vmap, derivatives, bfloat16 and 8 devices they are in test_methods.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import fam_jax
from tests import heads
from tests.close import assert_close

pytestmark = pytest.mark.numerics


def case(name, signed=False, shape=(2, 3, 4, 6), dtype=np.float64):
    """An encoding with everywhere different gradients (flatten) or the same ones, and references.

    A and R are signed or positive.
    """
    b, h, w, c = shape
    rng = np.random.default_rng(7)
    A, R = rng.normal(size=shape), rng.normal(size=(b, {"gap": c, "flatten": h * w * c}[name]))
    if not signed:
        A, R = np.abs(A), np.abs(R)
    A, R = jnp.asarray(A, dtype), jnp.asarray(R, dtype)
    return heads.make(name, h, w, c).encode(A), A, R


@pytest.mark.parametrize("name", ["gap", "flatten"])
def test_hires_cam_of_the_dot_product_is_the_decomposition(name, x64):
    enc, _, R = case(name, signed=True)
    maps = fam_jax.hires_cam(fam_jax.dot)(enc, R)
    assert_close(maps, fam_jax.decomposition(fam_jax.dot)(enc, R), rtol=1e-10)
    score = fam_jax.dot.score(enc.embeddings, R)
    assert_close(maps.sum((1, 2)), score, relative_to=maps, rtol=1e-10)


def test_hires_cam_of_the_true_cosine_sums_to_zero(x64):
    enc, _, R = case("flatten", signed=True)
    maps = fam_jax.hires_cam(norms="free")(enc, R)
    assert np.abs(maps).sum() > 0.1
    assert_close(maps.sum((1, 2)), np.zeros(2), relative_to=maps, rtol=1e-12)


def test_layer_cam_is_hires_cam_where_nothing_is_negative(x64):
    enc, _, R = case("flatten")
    assert_close(fam_jax.layer_cam()(enc, R), fam_jax.hires_cam()(enc, R), rtol=1e-10)
    enc, _, R = case("flatten", signed=True)
    assert fam_jax.hires_cam()(enc, R).min() < 0 <= fam_jax.layer_cam()(enc, R).min()


def test_xgrad_cam_is_grad_cam_for_a_mean_head(x64):
    enc, _, R = case("gap", signed=True)
    assert fam_jax.grad_cam()(enc, R).any()
    assert_close(fam_jax.xgrad_cam()(enc, R), fam_jax.grad_cam()(enc, R), rtol=1e-10)


def test_xgrad_cam_conserves_what_hires_cam_sums_to(x64):
    """Its first axiom, channel by channel: sum_hw alpha_k A_k = sum_hw G_k A_k."""
    enc, _, R = case("flatten")
    xgrad, hires = fam_jax.xgrad_cam()(enc, R), fam_jax.hires_cam()(enc, R)
    assert_close(xgrad.sum((1, 2)), hires.sum((1, 2)), rtol=1e-10)
    assert np.abs(xgrad - hires).max() > 1e-3


@pytest.mark.parametrize("signed", [False, True])
def test_grad_cam_pp_and_xgrad_cam_by_their_papers_formulas(signed, x64):
    """In NumPy loops, with the gradients of flattening: the reference itself."""
    enc, A, R = case("flatten", signed)
    b, h, w, c = A.shape
    pp, xgrad = np.zeros((2, b, h, w))
    for n in range(b):
        for k in range(c):
            a, g = np.asarray(A)[n, :, :, k], np.asarray(R)[n].reshape(h, w, c)[:, :, k]
            alpha = g**2 / (2 * g**2 + a.sum() * g**3)
            pp[n] += (alpha * np.maximum(g, 0)).sum() * a
            xgrad[n] += (g * a / a.sum()).sum() * a
    assert_close(fam_jax.grad_cam_pp(fam_jax.dot)(enc, R), np.maximum(pp, 0), rtol=1e-10)
    assert_close(fam_jax.xgrad_cam(fam_jax.dot)(enc, R), np.maximum(xgrad, 0), rtol=1e-10)


def test_grad_cam_pp_between_its_limits(x64):
    """G -> 0: half of Grad-CAM with sums for means; G -> infinity: blind to the reference."""
    enc, A, R = case("gap")
    method = fam_jax.grad_cam_pp(fam_jax.dot)
    cells = A.shape[1] * A.shape[2]
    weak = fam_jax.grad_cam(fam_jax.dot)(enc, R) * cells / 2
    assert_close(method(enc, 1e-12 * R) / 1e-12, weak, rtol=1e-8)
    strong = (A / A.mean((1, 2), keepdims=True)).sum(-1)
    assert_close(method(enc, 1e12 * R), strong, rtol=1e-8)


def test_denominators_of_zero_give_no_weight():
    """A channel that sums to 0 (XGrad-CAM), and 2 + G sum A = 0 (Grad-CAM++): others are spared."""
    A = jnp.array([[[[1.0, -1.0, 1.0], [-1.0, -1.0, 1.0]]]])
    enc = heads.make("flatten", 1, 2, 3).encode(A)
    G = jnp.ones((1, 6))
    assert fam_jax.xgrad_cam(fam_jax.dot)(enc, G).tolist() == [[[0.0, 0.0]]]  # -1 + 1
    assert fam_jax.grad_cam_pp(fam_jax.dot)(enc, G).tolist() == [[[1.5, 0.0]]]


def test_the_mean_of_cam_is_the_logit(x64):
    """For pooling; with contrasted rows, the logit less a k-th of the sum of all the others."""
    enc, _, _ = case("gap", signed=True)
    rng = np.random.default_rng(1)
    kernel, bias = jnp.asarray(rng.normal(size=(6, 5))), jnp.asarray(rng.normal(size=5))
    classes, chosen = jnp.array([4, 1]), (np.arange(2), np.array([4, 1]))
    products = np.asarray(enc.embeddings @ kernel)
    mean = lambda rows: fam_jax.cam()(enc, rows).mean((1, 2))  # noqa: E731
    rows = fam_jax.classifier_rows(kernel, classes)
    assert_close(mean(rows) + bias[classes], (products + np.asarray(bias))[chosen], rtol=1e-10)
    others = products.sum(1) - products[chosen]
    rows = jax.jit(fam_jax.classifier_rows, static_argnums=2)(kernel, classes, True)
    assert_close(mean(rows), products[chosen] - others / 5, rtol=1e-10)
    low = fam_jax.classifier_rows(kernel.astype(jnp.bfloat16), classes, contrast=True)
    assert low.dtype == jnp.float32
    assert_close(low, rows, relative_to=kernel, rtol=0.01)
    assert np.isnan(fam_jax.classifier_rows(kernel, jnp.array([5]), contrast=True)).all()


def test_cam_of_a_class_out_of_range_is_not_valid():
    encode = heads.make("gap", 3, 4, 6).encode
    A = jnp.asarray(heads.activations(2, 3, 4, 6))
    rows = fam_jax.classifier_rows(jnp.ones((6, 5)), jnp.array([1, 7]))
    out = fam_jax.explain(encode, A, rows, fam_jax.cam())
    assert out.valid.tolist() == [True, False]
    assert not out.maps[1].any()


def eigen_cam_by_svd(A):
    """One image [h w c] in NumPy; the sign by the correlation with sum_k A_k."""
    X = A.reshape(-1, A.shape[-1])
    X = X - X.mean(0)
    M = X @ np.linalg.svd(X)[2][0]
    return (M * np.sign(M @ X.sum(1))).reshape(A.shape[:2])


@pytest.mark.parametrize("channels", [5, 40], ids=["fewer channels than cells", "more"])
def test_eigen_cam_is_the_svd(channels, x64):
    enc, A, R = case("gap", shape=(3, 3, 4, channels))
    maps = fam_jax.eigen_cam()(enc, R)
    assert_close(maps, np.stack([eigen_cam_by_svd(a) for a in np.asarray(A)]), rtol=1e-9)
    np.testing.assert_array_equal(maps, fam_jax.eigen_cam()(enc, -R))


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_eigen_cam_neither_overflows_nor_vanishes(scale):
    enc, A, R = case("gap", dtype=np.float32)
    large = heads.make("gap", 3, 4, 6).encode(A * scale)
    assert_close(fam_jax.eigen_cam()(large, R) / scale, fam_jax.eigen_cam()(enc, R), rtol=1e-4)


def test_eigen_cam_takes_no_rounding_for_evidence():
    """Activations the same everywhere leave an empty map; a large offset of a channel no trace."""
    _, A, R = case("gap", dtype=np.float32)
    encode = heads.make("gap", 3, 4, 6).encode
    flat = encode(jnp.broadcast_to(A[:, :1, :1], A.shape))
    assert not fam_jax.eigen_cam()(flat, R).any()
    A = jnp.round(A * 64)  # so that the sum below is exact
    offset = 2.0 ** jnp.arange(6, dtype=jnp.float32) * 1000
    maps = fam_jax.eigen_cam()(encode(A + offset.reshape(1, 1, 1, 6)), R)
    assert_close(maps, fam_jax.eigen_cam()(encode(A), R), rtol=1e-4)


def test_eigen_cam_has_derivatives_where_most_eigenvalues_are_zero(x64):
    """Those of `eigh` would be NaN: more channels than cells, two of three dead."""
    _, A, R = case("gap", shape=(1, 2, 3, 9))
    A = A * np.where(np.arange(9) % 3, 0.0, 1.0).reshape(1, 1, 1, 9)
    loss = lambda A: jnp.sum(jnp.sin(fam_jax.eigen_cam()(head.encode(A), R)))  # noqa: E731
    head = heads.make("gap", 2, 3, 9)
    check_grads(jax.jit(loss), (A,), order=1, modes=["rev"], rtol=1e-5, atol=1e-7)
    assert jnp.isfinite(jax.jit(jax.grad(loss))(0 * A + 1)).all(), "constant activations"


@pytest.mark.parametrize("make", [fam_jax.layer_cam, fam_jax.grad_cam_pp])
def test_wrong_arguments_are_refused(make, unchecked):
    with pytest.raises(ValueError, match="norms: expected one of frozen, free, got 'fixed'"):
        make(norms="fixed")
    with pytest.raises(TypeError, match=r"similarity: expected fam_jax\.cosine"):
        make("dot")
