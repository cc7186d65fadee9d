"""Rows in batches of one size: every row once, one compilation."""

import jax
import numpy as np
import pytest

from fam_jax._core.chunks import map_batches, padded_batches


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
