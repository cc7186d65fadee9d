"""Every method under every transformation: jit, vmap, grad, bfloat16, float64, 8 devices."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fam_jax
from tests import heads
from tests.close import along, assert_close, assert_slopes
from tests.programs import counted, on_devices

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
    "cosine": lambda dtype: fam_jax.cosine,
    "dot": lambda dtype: fam_jax.dot,
    "euclidean": lambda dtype: fam_jax.euclidean,
    "margin": lambda dtype: fam_jax.margin(fam_jax.cosine, jnp.asarray(BANK, dtype)),
}
# Methods differ in what they ask of a similarity: its shares, its gradient, or both. One of each
# kind meets every similarity, the others the cosine and what else they are meant for.
PAIRS = (
    *((name, of) for name in ("fam", "decomposition", "grad_cam") for of in SIMILARITIES),
    ("fam none", "margin"),
    ("fam gradient_x_input", "euclidean"),
    *((name, "cosine") for name in METHODS if name not in ("fam", "decomposition", "grad_cam")),
)
# One similarity for each method, every one for FAM: the others' slopes wait for the slow tests.
FEW = tuple(pair for pair in PAIRS if pair[0] == "fam" or "cosine" in pair)
SMOOTH = ("fam", "decomposition", "grad_cam free", "xgrad_cam", "grad_cam_pp", "eigen_cam")
every = pytest.mark.parametrize("name", METHODS)
alike = pytest.mark.parametrize("pair", PAIRS, ids=" ".join)


def case(b=8, h=3, w=4, c=6, dtype=np.float32):
    head = heads.make("mlp", h, w, c)
    A = jnp.asarray(heads.activations(b, h, w, c).astype(dtype))
    R = jnp.asarray(np.random.default_rng(3).normal(size=(b, 5)).astype(dtype))
    return head, A, R


def methods(dtype):
    return {(name, of): METHODS[name](SIMILARITIES[of](dtype)) for name, of in PAIRS}


def run(methods, A, R, call=lambda method, enc, R: method(enc, R)):
    """Maps of all methods: one program is compiled sooner than one for each."""
    enc = heads.make("mlp", *A.shape[1:]).encode(A)
    return {pair: call(method, enc, R) for pair, method in methods.items()}


@pytest.fixture(scope="module")
def plain():
    """Of every method in float64, as formulas stand."""
    with jax.enable_x64(True):
        _, A, R = case(dtype=np.float64)
        return jax.jit(run)(methods(np.float64), A, R)


@pytest.fixture(scope="module")
def maps():
    """Under every transformation, and by hand."""
    with jax.enable_x64(True):
        _, A, R = case(dtype=np.float64)
        these, compiled = methods(np.float64), jax.jit(run)
        one = lambda a, r: jax.tree.map(lambda m: m[0], run(these, a[None], r[None]))  # noqa: E731
        every = jax.jit(partial(run, call=lambda method, *args: fam_jax.all_pairs(method)(*args)))
        return {
            "plain": run(these, A, R),
            "jit": compiled(these, A, R),
            "vmap": jax.jit(jax.vmap(one))(A, R),
            "devices": on_devices(run, A, R, shared=(these,)),
            "all pairs": every(these, A, R[:3]),
            "pair by pair": [compiled(these, A, jnp.broadcast_to(r, R.shape)) for r in R[:3]],
        }


@alike
def test_jit_vmap_and_devices_agree(pair, maps):
    """And batches stay on their devices, without a word between these."""
    plain = maps["plain"][pair]
    assert plain.shape == (8, 3, 4)
    assert plain.dtype == jnp.float64
    for way in ("jit", "vmap", "devices"):
        assert_close(maps[way][pair], plain, rtol=1e-10)
    assert maps["devices"][pair].sharding.spec[0] == "batch"


@alike
def test_all_pairs_are_every_single_pair(pair, maps):
    single = [by_method[pair] for by_method in maps["pair by pair"]]
    assert_close(maps["all pairs"][pair], np.stack(single, axis=1), rtol=1e-10)


@pytest.fixture(scope="module")
def narrow():
    _, A, R = case()
    compiled = jax.jit(run)
    return {
        dtype: compiled(methods(np.float32), A.astype(dtype), R.astype(dtype))
        for dtype in (jnp.float32, jnp.bfloat16)
    }


@pytest.mark.numerics
@alike
def test_bfloat16_accumulates_in_float32(pair, narrow, plain):
    """Digits of the largest value of the maps, to which a small one is a difference of terms."""
    exact = plain[pair]
    for dtype, digits in ((jnp.float32, 1e-5), (jnp.bfloat16, 0.02)):
        assert narrow[dtype][pair].dtype == jnp.float32
        assert_close(narrow[dtype][pair], exact, rtol=digits)


@pytest.fixture(scope="module")
def slopes():
    """Losses of maps of some of the pairs, at a point with two directions."""
    with jax.enable_x64(True):
        _, A, R = case(b=1, h=2, w=3, c=4, dtype=np.float64)
        x = [A + 0.1 * (1 + jnp.arange(A.size).reshape(A.shape) / A.size), R]
        draw = np.random.default_rng(0).normal
        u, v = ([draw(size=y.shape) for y in x] for _ in range(2))
        these = methods(np.float64)

    def losses(pairs, x):
        maps = run({pair: these[pair] for pair in pairs}, *x)
        return jnp.stack([jnp.sum(jnp.sin(maps[pair])) for pair in pairs])

    return losses, x, u, v


@pytest.mark.parametrize(
    "pairs", [FEW, pytest.param(PAIRS, marks=pytest.mark.slow)], ids=["few", "all"]
)
def test_gradients_of_maps_match_finite_differences(pairs, slopes, x64):
    losses, x, u, _ = slopes
    these = {pair: method for pair, method in methods(np.float64).items() if pair in pairs}
    for maps in jax.jit(run)(these, *x).values():
        kink = "too near a kink of ReLU to differentiate"
        assert np.all((maps == 0) | (np.abs(maps) > 1e-3)), kink
    assert_slopes(partial(losses, pairs), x, u)


@pytest.mark.parametrize(
    "names", [SMOOTH[:2], pytest.param(SMOOTH, marks=pytest.mark.slow)], ids=["few", "all"]
)
def test_second_derivatives(names, slopes, x64):
    losses, x, u, v = slopes
    smooth = [(name, "cosine") for name in names]
    assert_slopes(along(partial(losses, smooth), u), x, v, rtol=1e-4, atol=1e-6)


def test_options_are_compared_by_value():
    """`fam()` made twice shares one compilation, and a new background of one shape none."""
    head, A, R = case(b=2)
    run, traces = counted(lambda method, A, R: method(head.encode(A), R))
    for _ in range(3):
        run(fam_jax.fam(), A, R)
    assert len(traces) == 1
    run(fam_jax.fam(normalize="relu"), A, R)
    assert len(traces) == 2
    for scale in (1, 2, 3):
        run(fam_jax.decomposition(fam_jax.margin(fam_jax.cosine, scale * jnp.asarray(BANK))), A, R)
    assert len(traces) == 3


def test_a_users_own_similarity(x64):
    """Any object with score and shares, registered or not; the equal of the built-in one."""

    class Mine:
        def shares(self, z, r):
            return z * r

        def score(self, z, r):
            return (z * r).sum(-1)

    head, A, R = case(dtype=np.float64)
    enc = head.encode(A)
    mine = Mine()
    for make in (fam_jax.fam, fam_jax.decomposition, fam_jax.grad_cam):
        assert_close(make(mine)(enc, R), make(fam_jax.dot)(enc, R), rtol=1e-12)
    rival = fam_jax.margin(mine, jnp.asarray(BANK, jnp.float64))
    out = fam_jax.explain(head.encode, A, R, fam_jax.decomposition(rival))
    assert out.maps.shape == (8, 3, 4)


BAD = ("nan image", "infinite reference", "zero image", "zero reference")


@pytest.fixture(scope="module")
def explained():
    """What `explain` says of three images by every method: all good, or the middle one bad."""
    head = heads.make("gap", 3, 4, 5)
    makers = {name: METHODS[name](fam_jax.cosine) for name in METHODS}
    one = lambda method, A, R: fam_jax.explain(head.encode, A, R, method)  # noqa: E731
    program = jax.jit(lambda A, R: {name: one(method, A, R) for name, method in makers.items()})
    out = {}
    for bad in ("", *BAD):
        A = heads.activations(3, 3, 4, 5)
        R = np.random.default_rng(3).normal(size=(3, 5)).astype(np.float32)
        if bad == "nan image":
            A[1, 0, 0, 0] = np.nan
        elif bad == "infinite reference":
            R[1, 2] = np.inf
        elif bad:
            {"zero image": A, "zero reference": R}[bad][1] = 0
        out[bad] = program(A, R)
    return out


@pytest.mark.numerics
@every
@pytest.mark.parametrize("bad", BAD)
def test_nothing_to_say_gives_zeros_and_spares_the_others(name, bad, explained):
    out, clean = explained[bad][name], explained[""][name]
    assert not out.maps[1].any()
    assert not out.valid[1]
    for other in (0, 2):
        assert_close(out.maps[other], clean.maps[other])


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
