"""Positions on any number of axes: the identities of the formulas, and one formula for all ranks.

Shapes are drawn by hypothesis among 1 to 4 axes; digits are those of float64.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fam_jax
from fam_jax import metrics
from fam_jax._core.similarity import gradient
from tests import positions
from tests.close import along, assert_close
from tests.positions import SPACES, activations, encoder
from tests.programs import on_devices

few = settings(max_examples=6)


def later(*case):
    return pytest.param(*case, marks=pytest.mark.slow)


# Three axes stand for all where a case takes seconds.
ranks = pytest.mark.parametrize("shape", [s if len(s) == 3 else later(s) for s in SPACES], ids=str)
BANK = np.random.default_rng(9).normal(size=(3, positions.DIMENSIONS))


@st.composite
def cases(draw, heads=("linear",)):
    """(encoding, activations, references) on a drawn number of axes."""
    shape, head = draw(st.sampled_from(SPACES)), draw(st.sampled_from(heads))
    return shape, head, draw(st.integers(0, 2**16))


def encoded(case):
    shape, head, seed = case
    A = activations(shape, seed)
    enc = encoder(head)(A)
    R = np.random.default_rng(seed + 1).normal(size=enc.embeddings.shape)
    return enc, A, jnp.asarray(R)


def total(maps):
    return maps.sum(tuple(range(1, maps.ndim)))


@few
@given(cases())
def test_2_minmax_adds_a_class_agnostic_sum(case):
    with jax.enable_x64(True):
        enc, A, R = encoded((case[0], "gap", case[2]))
        c = fam_jax.cosine.shares(enc.embeddings, R)
        as_maps = (slice(None), *[None] * len(case[0]))
        low, high = c.min(1)[as_maps], c.max(1)[as_maps]
        plain = fam_jax.fam(normalize="none")(enc, R)
        maps = (plain - low * A.sum(-1)) / (high - low)
        assert_close(fam_jax.fam()(enc, R), maps, rtol=1e-7)
        by_hand = jnp.stack([a @ w for a, w in zip(A, c, strict=True)])
        assert_close(plain, by_hand, rtol=1e-10)


@few
@given(cases(("gap", "linear", "flatten")))
def test_4_and_7_decompositions_sum_to_the_score_and_to_the_margin(case):
    with jax.enable_x64(True):
        enc, _, R = encoded(case)
        bank = jnp.asarray(np.random.default_rng(3).normal(size=(3, R.shape[1])))
        for similarity in (fam_jax.cosine, fam_jax.margin(fam_jax.cosine, bank)):
            maps = fam_jax.decomposition(similarity)(enc, R)
            assert maps.shape == enc.activations.shape[:-1]
            score = similarity.score(enc.embeddings, R)
            assert_close(total(maps), score, relative_to=maps, rtol=1e-8)


@few
@given(cases(("gap", "linear")))
def test_4_pooled_decomposition_in_closed_form(case):
    """1 / (|z| n) times what a position's own embedding has in common with r^, n positions."""
    with jax.enable_x64(True):
        enc, A, R = encoded(case)
        direction = R / jnp.linalg.norm(R, axis=1, keepdims=True)
        n, norm = math.prod(case[0]), jnp.linalg.norm(enc.embeddings, axis=1)
        own = A if case[1] == "gap" else A @ positions.matrix()
        by_hand = [o @ d / (s * n) for o, d, s in zip(own, direction, norm, strict=True)]
        assert_close(fam_jax.decomposition()(enc, R), jnp.stack(by_hand), rtol=1e-10)


@few
@given(cases(("gap", "linear", "flatten")))
def test_5_true_gradient_of_the_cosine_sums_to_zero(case):
    with jax.enable_x64(True):
        enc, A, R = encoded(case)
        G = enc.pullback(gradient(fam_jax.cosine, enc.embeddings, R))
        for terms in G * A:
            assert_close(terms.sum(), 0, relative_to=terms, rtol=1e-10)


@few
@given(cases(("linear", "tanh")))
def test_8_maps_do_not_depend_on_the_rest_of_the_batch(case):
    with jax.enable_x64(True):
        enc, A, R = encoded(case)
        for method in (fam_jax.fam(), fam_jax.grad_cam(), fam_jax.eigen_cam()):
            alone = method(encoder(case[1])(A[1:2]), R[1:2])
            assert_close(alone[0], method(enc, R)[1], rtol=1e-10)


SMALL = {
    "contrastive": fam_jax.contrastive(jnp.asarray(BANK, jnp.float32)),
    "nmf-concepts": fam_jax.nmf_concepts(k=2, steps=20),
    "rise": fam_jax.rise(masks=8, cells=2),
    "corr-rise": fam_jax.corr_rise(masks=8, patches=1, patch=1),
}
NEEDS_NETWORK = ("relevance-cam", "attention", "chefer", "le-grad", "grad-eclip", "lots")
NAMES = [
    name
    for name in fam_jax.methods.names()
    if not name.startswith(NEEDS_NETWORK) and not name.endswith(("-contrastive", "-free", "minmax"))
]


SOON = ("decomposition", "occlusion", "nmf-concepts", "point-to-point", "rise")
RANDOM = ("rise", "corr-rise", "random-baseline")  # their draws are those of the map's shape


@pytest.mark.parametrize("name", [n if n in SOON else later(n) for n in NAMES])
def test_a_volume_of_one_slice_is_its_picture(name, x64):
    """And a picture of one row a signal: axes of length 1 change nothing."""
    A, B = activations((3, 4)), activations((3, 4), seed=5)
    if name == "occlusion":
        A, B = activations((14, 15)), activations((14, 15), seed=5)
    method = SMALL.get(name) or fam_jax.methods.make(name)
    flat = fam_jax.explain_pairs(encoder("tanh"), A, B, method)
    deep = fam_jax.explain_pairs(encoder("tanh"), A[:, None], B[:, None], method)
    assert flat.query_maps.shape == A.shape[:-1]
    assert deep.query_maps.shape == (len(A), 1, *A.shape[1:-1])
    assert_close(deep.scores, flat.scores, rtol=1e-12)
    if name in RANDOM:
        return
    if name == "centre-baseline":  # in the middle of an axis of one position the distance is 0
        assert_close(deep.query_maps[:, 0], flat.query_maps, rtol=1e-6)
        return
    assert_close(deep.query_maps[:, 0], flat.query_maps, rtol=1e-9)
    assert_close(deep.reference_maps[:, 0], flat.reference_maps, rtol=1e-9)


@ranks
def test_jit_vmap_gradients_bfloat16_and_devices_agree(shape):
    """FAM, the decomposition and Grad-CAM of a head that is not linear, on every rank."""
    methods = {"fam": fam_jax.fam(), "split": fam_jax.decomposition(), "cam": fam_jax.grad_cam()}

    def run(A, R):
        enc = encoder("tanh")(A)
        return {name: method(enc, R) for name, method in methods.items()}

    with jax.enable_x64(True):
        A = activations(shape, batch=8)
        R = jnp.asarray(np.random.default_rng(2).normal(size=(8, positions.DIMENSIONS)))
        plain = run(A, R)
        one = lambda a, r: jax.tree.map(lambda m: m[0], run(a[None], r[None]))  # noqa: E731
        ways = {
            "jit": jax.jit(run)(A, R),
            "vmap": jax.jit(jax.vmap(one))(A, R),
            "devices": on_devices(run, A, R),
        }
        for way in ways.values():
            jax.tree.map(lambda a, b: assert_close(a, b, rtol=1e-10), way, plain)
        assert ways["devices"]["fam"].sharding.spec[0] == "batch"
        u = [jnp.ones_like(A[:1]) / A[0].size, jnp.ones_like(R[:1])]
        f = lambda x: total(run(*x)["split"])  # noqa: E731
        x, step = [A[:1], R[:1]], 1e-6
        ahead, behind = (f([x + t * u for x, u in zip(x, u, strict=True)]) for t in (step, -step))
        slope = along(f, u)(x)
        assert_close(slope, (ahead - behind) / (2 * step), relative_to=[*slope, 1.0], rtol=1e-6)
    narrow = run(A.astype(jnp.bfloat16), R.astype(jnp.bfloat16))
    for name, maps in narrow.items():
        assert maps.dtype == jnp.float32
        assert_close(maps, plain[name], rtol=0.05)


@ranks
def test_every_pair_and_every_step_of_the_way(shape):
    """`explain`, `explain_all` and the two steps by features agree with the method itself."""
    encode = fam_jax.encoder(positions.convolve, lambda A: A.mean(positions.space(A)))
    x, y = (activations(shape, seed, batch=2, dtype=np.float32) for seed in (1, 2))
    out = fam_jax.explain_all(encode, x, y)
    assert out.maps.shape == (2, 2, *shape)
    assert out.valid.shape == (2, 2)
    r = encode(y).embeddings
    assert_close(fam_jax.explain_all(encode, x, r).maps, out.maps, rtol=1e-6)
    for j in range(2):
        each = fam_jax.explain(encode, x, jnp.broadcast_to(r[j], r.shape))
        assert_close(each.maps, out.maps[:, j], rtol=1e-5)
        assert each.valid.tolist() == [True, True]
    again = encode.from_features(encode.features(x))
    assert_close(fam_jax.fam()(again, r), fam_jax.fam()(encode(x), r), rtol=1e-6)
    p2p = fam_jax.position_pairs(encode(x), encode(y))
    assert p2p.shape == (2, *shape, *shape)
    both = fam_jax.explain_pairs(encode, x, y, fam_jax.point_to_point())
    flat = p2p.reshape(2, math.prod(shape), -1)
    assert_close(both.query_maps.reshape(2, -1), flat.sum(2), rtol=1e-5)
    assert_close(both.reference_maps.reshape(2, -1), flat.sum(1), rtol=1e-5)
    best = fam_jax.correspondences(p2p).reshape(2, -1, len(shape))
    nearest = np.ravel_multi_index(np.moveaxis(np.asarray(best), -1, 0), shape)
    assert (nearest == flat.argmax(2)).all()
    middle = fam_jax.centred(p2p)
    assert_close(middle.sum(tuple(range(1, 1 + len(shape)))), 0 * both.reference_maps, p2p, 1e-5)


def test_upsampling_is_linear_along_every_axis():
    """Of a product of lines the product of what each becomes; NumPy's interpolation of one."""
    lines = [np.array(x, np.float32) for x in ((1, 2, 4), (0, 5), (3, 1, 2, 2))]
    size = (6, 5, 9)
    large = [
        np.interp((np.arange(n) + 0.5) * len(x) / n - 0.5, np.arange(len(x)), x)
        for n, x in zip(size, lines, strict=True)
    ]
    product = lambda a: np.einsum("i,j,k->ijk", *a)  # noqa: E731
    maps = jnp.asarray(product(lines))[None]
    assert_close(fam_jax.upsample(maps, size)[0], product(large), rtol=1e-6)
    fused = fam_jax.fuse([maps, 2 * maps], "product", size)
    unit = fam_jax.rescale(fam_jax.upsample(maps, size), axes=(1, 2, 3))
    assert_close(fused, unit**2, rtol=1e-5)


MASKED = ("energy_in", "pointing", "iou", "rank_in")
SCORED = ("deletion", "insertion", "aid", "average_drop", "increase")


@ranks
def test_metrics_of_maps_in_another_order_of_positions(shape):
    """What counts positions, and not neighbours, is the same for a line of all positions."""
    maps = activations(shape, dtype=np.float32)[..., 0] - 0.3
    line = maps.reshape(len(maps), -1)
    masks = np.zeros(shape, bool)
    masks.flat[: masks.size // 2] = True
    masks = jnp.asarray(np.broadcast_to(masks, maps.shape))
    for name in MASKED:
        metric = getattr(metrics, name)
        assert_close(metric(maps, masks), metric(line, masks.reshape(line.shape)), rtol=1e-6)
    assert_close(metrics.complexity(maps), metrics.complexity(line), rtol=1e-6)
    assert_close(metrics.spearman(maps, maps**2), metrics.spearman(line, line**2), rtol=1e-6)
    assert_close(metrics.completeness_error(maps, line.sum(1)), 0 * line[:, 0], line, 1e-6)
    x = activations(shape, 4, dtype=np.float32)
    r = encoder("linear")(x[::-1]).embeddings
    for name in ("deletion", "average_drop"):
        metric = getattr(metrics, name)
        options = {"steps": 4} if name == "deletion" else {}
        flat = metric(encoder("linear"), x.reshape(*line.shape, -1), r, line, **options)
        jax.tree.map(
            lambda a, b: assert_close(a, b, rtol=1e-5),
            metric(encoder("linear"), x, r, maps, **options),
            flat,
        )


def test_insertion_blurs_along_every_axis():
    """A constant volume has nothing to blur, and a volume of equal slices is blurred as one."""
    picture = activations((6, 7), dtype=np.float32)
    volume = jnp.repeat(picture[:, None], 5, axis=1)
    maps = picture[..., 0]
    r = encoder("linear")(picture[::-1]).embeddings
    deep = metrics.insertion(encoder("linear"), volume, r, jnp.repeat(maps[:, None], 5, 1), steps=1)
    flat = metrics.insertion(encoder("linear"), picture, r, maps, steps=1)
    assert_close(deep.values, flat.values, rtol=1e-5)


def test_what_is_of_pictures_refuses_the_rest(unchecked):
    A = activations((2, 3, 2), dtype=np.float32)
    r = encoder("linear")(A).embeddings
    maps = A[..., 0]
    for call in (
        lambda: fam_jax.explain(encoder("linear"), A, r, fam_jax.lots()),
        lambda: metrics.road(encoder("linear"), A, r, maps, jax.random.key(0)),
        lambda: metrics.box_of(maps),
    ):
        with pytest.raises(ValueError, match=r"expected an array \[batch height width"):
            call()
    with pytest.raises(ValueError, match="maps: expected an array of maps"):
        metrics.deletion(encoder("linear"), A, r, maps[:, 0])


@pytest.mark.parametrize("shape", SPACES, ids=str)
def test_ffam_is_the_factors_weighted_by_mean_gradients(shape, x64):
    """M = W H g with g = mean |G|: of activations of rank k nearly sum_c g_c A_c itself."""
    rng = np.random.default_rng(0)
    H = np.eye(2, positions.CHANNELS) + np.eye(2, positions.CHANNELS, 2)  # channels in common
    A, B = (jnp.asarray(rng.random((2, *shape, 2)) @ H) for _ in range(2))
    query, reference = encoder("linear")(A), encoder("linear")(B)
    out = fam_jax.concepts(query, reference, k=2, steps=400)
    W = jnp.moveaxis(out.query_concepts, 1, -1)
    frozen = fam_jax.cosine.frozen_gradient(query.embeddings, reference.embeddings)
    g = jnp.abs(query.pullback(frozen)).mean(tuple(range(1, A.ndim - 1)))
    by_factors = jnp.stack([w @ h @ v for w, h, v in zip(W, out.concepts, g, strict=True)])
    assert_close(out.query_maps, by_factors, rtol=1e-10)
    # What the factors lack of A is all that it lacks of sum_c g_c A_c.
    lack = out.query_maps - jnp.stack([a @ v for a, v in zip(A, g, strict=True)])
    both = jnp.concatenate([x.reshape(2, -1) for x in (A, B)], axis=1)
    most = out.errors * jnp.linalg.norm(both, axis=1) * jnp.linalg.norm(g, axis=1)
    assert (jnp.linalg.norm(lack.reshape(2, -1), axis=1) <= most).all()
    assert (out.errors < 0.01).all()
