"""What attention matrices and their gradients say of each token: closed forms, loops by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fam_jax.methods import attention_rules as rules

pytestmark = pytest.mark.numerics

HEADS, N, C = 2, 7, 8


def matrices(layers, rows=5, seed=0):
    """Attention matrices [2 3 n n] of every layer, and gradients of both signs."""
    rng = np.random.default_rng(seed)
    A = rng.dirichlet(np.ones(rows), size=(layers, 2, 3, rows))
    return A, rng.normal(size=A.shape)


def rows(n, read=None, batch=1):
    """How much every row counts: one's alone, or the mean's."""
    one = np.full(n, 1 / n) if read is None else np.eye(n)[read]
    return jnp.asarray(np.tile(one, (batch, 1)))


@pytest.mark.parametrize("layers", [1, 4])
def test_rollout_of_uniform_attention_is_uniform_and_of_none_is_nothing(layers):
    uniform = rules.rollout((jnp.full((1, 3, 5, 5), 0.2),) * layers, None, rows(5, 0), prefix=1)
    np.testing.assert_allclose(uniform[0, 1:], (1 - 0.5**layers) / 5, rtol=1e-6)
    itself = rules.rollout((jnp.eye(5)[None, None],) * layers, None, rows(5, 0), prefix=1)
    assert itself[0].tolist() == [1, 0, 0, 0, 0]


def test_rollout_is_the_sum_over_paths(x64):
    """In every layer half of a token stays, half is mixed; read is the mean row."""
    A, _ = matrices(2)
    expected = np.zeros((2, 5))
    for n in range(2):
        one, two = A[:, n].mean(1)
        for start in range(5):
            for middle in range(5):
                for end in range(5):
                    step = (two[start, middle] + (start == middle)) / 2
                    expected[n, end] += step * (one[middle, end] + (middle == end)) / 2 / 5
    rolled = rules.rollout(tuple(jnp.asarray(A)), None, rows(5, batch=2), 0)
    np.testing.assert_allclose(rolled, expected, rtol=1e-12)


@pytest.mark.parametrize("row", [None, 0, 3])
def test_chefer_by_loops(row, x64):
    """One block: mean_h relu(A dA); two: C1 + C2 + C2 C1."""
    A, dA = matrices(2)
    C1, C2 = np.zeros((2, 2, 5, 5))
    for n in range(2):
        for i in range(5):
            for j in range(5):
                for h in range(3):
                    C1[n, i, j] += max(A[0, n, h, i, j] * dA[0, n, h, i, j], 0) / 3
                    C2[n, i, j] += max(A[1, n, h, i, j] * dA[1, n, h, i, j], 0) / 3
    read = lambda R: R.mean(1) if row is None else R[:, row]  # noqa: E731
    A, dA = tuple(jnp.asarray(A)), tuple(jnp.asarray(dA))
    one = rules.propagate(A[:1], dA[:1], rows(5, row, 2), 1)
    np.testing.assert_allclose(one, read(C1), rtol=1e-12)
    two = np.stack([C1[n] + C2[n] + C2[n] @ C1[n] for n in range(2)])
    both = rules.propagate(A, dA, rows(5, row, 2), 1)
    np.testing.assert_allclose(both, read(two), rtol=1e-12)


def test_le_grad_by_loops(x64):
    _, dA = matrices(2)
    expected = np.zeros((2, 5))
    for n in range(2):
        for at in np.ndindex(2, 3, 5, 5):
            expected[n, at[3]] += max(dA[at[0], n, *at[1:]], 0) / (2 * 3 * 5)
    relevance = rules.gradient_mean((), tuple(jnp.asarray(dA)), rows(5, 0, 2), prefix=1)
    np.testing.assert_allclose(relevance, expected, rtol=1e-12)


def test_signed_it_is_what_speaks_for_less_what_speaks_against(x64):
    """x = relu(x) - relu(-x)."""
    _, dA = matrices(2)
    both = [rules.gradient_mean((), tuple(s * jnp.asarray(dA)), rows(5, 0, 2), 1) for s in (1, -1)]
    signed = rules.signed_gradient_mean((), tuple(jnp.asarray(dA)), rows(5, 0, 2), 1)
    assert (both[1] > 0).all()
    np.testing.assert_allclose(signed, both[0] - both[1], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("prefix", "row"), [(0, None), (1, 0), (2, 3)])
def test_grad_eclip_by_its_definition(prefix, row, x64):
    """With v and the gradient of the attention's output, of which the rule needs neither."""
    rng = np.random.default_rng(0)
    q, k, v, g = rng.normal(size=(4, 1, N, C))
    by_head = lambda x: x.reshape(N, HEADS, -1)  # noqa: E731
    dA = np.einsum("jhc,ihc->hji", by_head(g), by_head(v))[None]
    qkv = np.concatenate([q, k, v], -1)
    watched = (jnp.asarray(qkv), jnp.asarray(dA))  # the gradient by qkv is not read, nor is A
    rule = jax.jit(rules.value_gradient, static_argnums=3)
    relevance = rule(watched, watched, rows(N, row), prefix)
    total = np.zeros(N)
    read = range(N) if row is None else [row]
    for j in read:
        cosines = [
            q[0, j] @ k[0, i] / np.linalg.norm(q[0, j]) / np.linalg.norm(k[0, i])
            for i in range(prefix, N)
        ]
        near = (np.array(cosines) - min(cosines)) / (max(cosines) - min(cosines))
        for i in range(prefix, N):
            total[i] += near[i - prefix] * (g[0, j] @ v[0, i]) / len(read)
    assert (total < 0).any()
    np.testing.assert_allclose(relevance[0], np.maximum(total, 0), rtol=1e-10)
