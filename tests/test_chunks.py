"""Rows in batches of one size: every row once, one compilation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fam_jax._core.chunks import fold_chunks, map_batches, map_chunks, padded_batches


@pytest.mark.parametrize(("rows", "size"), [(1, 4), (4, 4), (7, 3), (8, 3)])
def test_a_program_sees_one_shape_and_every_row_once(rows, size):
    """Of pytrees; what copies give is left out."""
    x = {"a": np.arange(2.0 * rows).reshape(rows, 2), "b": np.arange(rows)}
    program = jax.jit(lambda batch: (batch["a"].sum(1), batch["b"] * 2))
    sums, doubles = map_batches(
        program, lambda part: {k: v[part] for k, v in x.items()}, rows, size
    )
    np.testing.assert_array_equal(sums, x["a"].sum(1))
    np.testing.assert_array_equal(doubles, x["b"] * 2)
    assert program._cache_size() == 1


def test_a_batch_is_loaded_when_it_is_asked_for():
    loaded = []

    def load(part):
        loaded.append(part)
        return np.arange(10)[part]

    batches = padded_batches(load, 10, 4)
    assert next(batches)[1] == 4
    assert loaded == [slice(0, 4)]
    assert [n for _, n in batches] == [4, 2]
    assert loaded[-1] == slice(8, 10)


@pytest.mark.parametrize(("rows", "chunk", "size"), [(3, 4, 3), (8, 4, 4), (7, 4, 4), (9, 4, 3)])
def test_chunks_of_one_size_inside_a_program(rows, chunk, size):
    """Of pytrees, rows along any axis; a function of one chunk is traced once, remainder or not."""
    x = {"a": jnp.arange(2.0 * rows).reshape(rows, 2), "b": np.arange(rows)}
    sizes = []

    def fn(part):
        sizes.append(len(part["b"]))
        return part["a"].sum(1), jnp.stack([part["b"], 2 * part["b"]])[:, :, None]

    sums, doubles = jax.jit(
        lambda x: (
            map_chunks(lambda p: fn(p)[0], x, chunk),
            map_chunks(lambda p: fn(p)[1], x, chunk, axis=1),
        )
    )(x)
    np.testing.assert_array_equal(sums, x["a"].sum(1))
    np.testing.assert_array_equal(doubles[..., 0], [x["b"], 2 * x["b"]])
    assert sizes == [size, size]


@pytest.mark.parametrize(("rows", "chunk", "size"), [(3, 4, 3), (8, 4, 4), (7, 4, 4), (9, 4, 3)])
def test_a_fold_counts_every_row_once(rows, chunk, size):
    x = np.random.default_rng(0).normal(size=(rows, 2)).astype(np.float32)
    sizes = []

    def add(total, part, valid):
        sizes.append(len(part))
        count, value = total
        return count + valid.sum(), value + jnp.where(valid[:, None], part, 0).sum(0)

    start = jnp.zeros((), jnp.int32), jnp.zeros(2)
    count, value = jax.jit(lambda x: fold_chunks(add, start, x, chunk))(x)
    assert count == rows
    np.testing.assert_allclose(value, x.sum(0), rtol=1e-5)
    assert set(sizes) == {size}
