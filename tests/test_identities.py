"""The identities the formulas imply, on shapes drawn by hypothesis, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import fam_jax
from fam_jax._core.similarity import gradient
from tests import heads
from tests.close import assert_close
from tests.explained import channel_map

few = settings(max_examples=8)

# Few, and one head for each, so that compiled programs serve several examples.
SHAPES = ((1, 1, 2, 5), (3, 3, 4, 2))


@st.composite
def cases(draw, names=("gap",)):
    """(head, activations [b h w c], references [b d]) in float64; embeddings signed or not."""
    b, h, w, c = draw(st.sampled_from(SHAPES))
    seed = draw(st.integers(0, 2**16))
    head = heads.make(draw(st.sampled_from(names)), h, w, c)
    signed = draw(st.booleans())
    A = heads.activations(b, h, w, c, seed + 1, signed).astype(np.float64) + 1e-3 * signed + 0.01
    embeddings = np.stack([head.embed(a) for a in A])
    # A dead hidden layer embeds an image at zero, where a cosine has no direction (its maps are
    # zeros: test_methods.py).
    assume((np.linalg.norm(embeddings, axis=1) > 1e-3).all())
    d = embeddings.shape[1]
    R = np.random.default_rng(seed + 2).normal(size=(b, d))
    return head, A, R if signed else np.abs(R)


def encoded(case):
    head, A, R = case
    return head.encode(jnp.asarray(A)), jnp.asarray(A), jnp.asarray(R)


@few
@given(cases(heads.NAMES))
def test_1_dividing_the_shares_by_the_score_changes_nothing(case):
    with jax.enable_x64(True):
        enc, _, R = encoded(case)

        class Divided:
            def shares(self, z, r):
                s = fam_jax.cosine.score(z, r)
                return fam_jax.cosine.shares(z, r) / jnp.abs(s)[:, None]

            def score(self, z, r):
                return self.shares(z, r).sum(-1)

        assert_close(fam_jax.fam(Divided())(enc, R), fam_jax.fam()(enc, R), rtol=1e-8)


@few
@given(cases())
def test_2_minmax_adds_a_class_agnostic_sum(case):
    """M = (sum_k c_k A_k - c_min sum_k A_k) / (c_max - c_min)."""
    with jax.enable_x64(True):
        enc, A, R = encoded(case)
        c = fam_jax.cosine.shares(enc.embeddings, R)
        low, high = c.min(1)[:, None, None], c.max(1)[:, None, None]
        plain = fam_jax.fam(normalize="none")(enc, R)
        total = fam_jax.activation_sum()(enc, R)
        assert_close(total, A.sum(-1), rtol=1e-10)
        assert_close(fam_jax.fam()(enc, R), (plain - low * total) / (high - low), rtol=1e-7)


@few
@given(cases(heads.NAMES))
def test_3_shares_are_gradient_times_input_with_norms_frozen(case):
    with jax.enable_x64(True):
        enc, _, R = encoded(case)
        z = enc.embeddings
        scale = jax.lax.stop_gradient(1 / (jnp.linalg.norm(z, axis=1) * jnp.linalg.norm(R, axis=1)))
        g = jax.grad(lambda z: ((z * R).sum(1) * scale).sum())(z)
        assert_close(fam_jax.cosine.shares(z, R), z * g, rtol=1e-10)
        assert_close(fam_jax.cosine.frozen_gradient(z, R), g, rtol=1e-10)


@few
@given(cases(("gap", "gap_linear", "flatten")))
def test_4_decomposition_sums_to_the_score_for_linear_heads(case):
    with jax.enable_x64(True):
        enc, _, R = encoded(case)
        for similarity in (fam_jax.cosine, fam_jax.dot, fam_jax.euclidean):
            maps = fam_jax.decomposition(similarity)(enc, R)
            score = similarity.score(enc.embeddings, R)
            assert_close(maps.sum((1, 2)), score, relative_to=maps, rtol=1e-8)


@few
@given(cases())
def test_4_pooled_decomposition_in_closed_form(case):
    """sum over (i, j) of (1 / (|z| h w)) sum_k r^_k A_k = cosine."""
    with jax.enable_x64(True):
        enc, A, R = encoded(case)
        direction = R / jnp.linalg.norm(R, axis=1, keepdims=True)
        norm = jnp.linalg.norm(enc.embeddings, axis=1)
        by_hand = jnp.einsum("bhwc,bc->bhw", A, direction) / (
            norm[:, None, None] * A.shape[1] * A.shape[2]
        )
        assert_close(fam_jax.decomposition()(enc, R), by_hand, rtol=1e-10)


@few
@given(cases(("gap", "gap_linear", "flatten")))
def test_5_true_gradient_of_the_cosine_sums_to_zero(case):
    """Scale invariance: signed gradient x activation of the true cosine says nothing in total."""
    with jax.enable_x64(True):
        enc, A, R = encoded(case)
        G = enc.pullback(gradient(fam_jax.cosine, enc.embeddings, R))
        for terms in G * A:
            assert_close(terms.sum(), 0, relative_to=terms, rtol=1e-10)


@few
@given(cases(heads.NAMES), st.sampled_from((1, 4)))
def test_6_mean_shares_over_neighbours_are_fam_against_their_mean(case, k):
    with jax.enable_x64(True):
        enc, _, _ = encoded(case)
        b, d = enc.embeddings.shape
        bank = jnp.asarray(np.random.default_rng(k).normal(size=(b, k, d)))
        each = [fam_jax.cosine.shares(enc.embeddings, bank[:, n]) for n in range(k)]
        unit = bank / jnp.linalg.norm(bank, axis=-1, keepdims=True)
        w = fam_jax.minmax(sum(each) / k)
        assert_close(fam_jax.fam()(enc, unit.mean(1)), channel_map(enc, w), rtol=1e-8)


@few
@given(cases(("gap", "gap_linear", "flatten")), st.sampled_from((1, 4)))
def test_7_decomposition_of_a_margin_sums_to_the_margin(case, n):
    with jax.enable_x64(True):
        enc, _, R = encoded(case)
        bank = jnp.asarray(np.random.default_rng(n).normal(size=(n, R.shape[1])))
        rival = fam_jax.margin(fam_jax.cosine, bank)
        z = enc.embeddings
        by_hand = fam_jax.cosine.score(z, R) - jnp.stack(
            [fam_jax.cosine.score(z, jnp.broadcast_to(b, z.shape)) for b in bank]
        ).mean(0)
        assert_close(rival.score(z, R), by_hand, relative_to=1, rtol=1e-10)  # cosines
        maps = fam_jax.decomposition(rival)(enc, R)
        assert_close(maps.sum((1, 2)), by_hand, relative_to=maps, rtol=1e-8)


@few
@given(cases(heads.NAMES))
def test_8_maps_do_not_depend_on_the_rest_of_the_batch(case):
    with jax.enable_x64(True):
        head, A, R = case
        for method in (fam_jax.fam(), fam_jax.decomposition(), fam_jax.grad_cam()):
            whole = method(head.encode(jnp.asarray(A)), jnp.asarray(R))
            for n in range(len(A)):
                alone = method(head.encode(jnp.asarray(A[n : n + 1])), jnp.asarray(R[n : n + 1]))
                assert_close(whole[n], alone[0], rtol=1e-12)


@few
@given(cases())
def test_pooled_heads_make_rival_names_of_one_map(case):
    """For pooling, fam(dot) = fam(cosine) and relu(decomposition) = grad_cam up to h w."""
    with jax.enable_x64(True):
        enc, _, R = encoded(case)
        assert_close(fam_jax.fam(fam_jax.dot)(enc, R), fam_jax.fam()(enc, R), rtol=1e-7)
        relu = jax.nn.relu(fam_jax.decomposition()(enc, R))
        assert_close(fam_jax.grad_cam()(enc, R), relu, rtol=1e-9)
