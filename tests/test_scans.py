"""Layers inside scans: "block[2]" is what the third of unrolled layers is, of every framework."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import fam_jax
from fam_jax._core.programs import equations
from tests.scan_models import (
    IMAGES,
    MODELS,
    WEIGHTS,
    WIDTH,
    all_of,
    assert_same,
    block,
    head,
    plain,
    step,
    unrolled,
)


@pytest.mark.parametrize("name", MODELS)
def test_a_step_is_the_unrolled_layer(name):
    """Activations, embeddings and pullbacks at the first step, one within, and the last."""
    at = ("block[0]", "block[2].mlp", "block[-1]")
    flat = ("block0", "block2.mlp", "block3")
    steps = fam_jax.capture(MODELS[name](WEIGHTS), at=at)(IMAGES)
    layers = fam_jax.capture(partial(unrolled, WEIGHTS), at=flat)(IMAGES)
    for enc, other in zip(steps, layers, strict=True):
        both = [(e.activations, e.embeddings, e.pullback(e.embeddings)) for e in (enc, other)]
        assert_same(*both)


def test_a_scan_from_the_end():
    """A step is the row of the parameters, whichever way they are gone through."""
    model = partial(plain, WEIGHTS, reverse=True)
    back = partial(unrolled, WEIGHTS, order=(3, 2, 1, 0))
    for i in (0, 2):
        expected = all_of(fam_jax.capture(back, at=f"block{i}"))
        assert_same(all_of(fam_jax.capture(model, at=f"block[{i}]")), expected)


def test_what_a_scan_collects_is_in_its_place():
    """The outputs of all steps, in both directions."""
    for reverse in (False, True):

        def collected(x, reverse=reverse):
            x, sums = jax.lax.scan(step, x, WEIGHTS, reverse=reverse)
            return sums.T * head(x)[:, :1]

        encode = fam_jax.capture(collected, at=("block[1]", "block[3]"))
        np.testing.assert_allclose(encode(IMAGES)[0].embeddings, collected(IMAGES), rtol=1e-5)


def nested(weights, x):
    inner = lambda x, ws: (jax.lax.scan(step, x, ws)[0], None)  # noqa: E731
    return head(jax.lax.scan(inner, x, weights.reshape(2, 2, WIDTH, WIDTH))[0])


def test_nested_scans_count_from_the_outermost():
    for i in (1, 2):
        expected = all_of(fam_jax.capture(partial(unrolled, WEIGHTS), at=f"block{i}"))
        encode = fam_jax.capture(partial(nested, WEIGHTS), at=f"block[{i // 2}][{i % 2}]")
        assert_same(all_of(encode), expected)


def test_features_replay_and_frozen_gates():
    """What an encoder does at a layer it does at a step."""
    steps, flat = (
        fam_jax.capture(partial(fn, WEIGHTS), at=at, gates="frozen")
        for fn, at in ((plain, "block[1]"), (unrolled, "block1"))
    )
    assert_same(all_of(steps), all_of(flat))
    again = steps.from_features(steps.features(IMAGES))
    assert_same([again.pullback(again.embeddings)], [all_of(flat)[2]])
    A = 2 * steps(IMAGES).activations
    assert_same([steps.replay(IMAGES, A).embeddings], [flat.replay(IMAGES, A).embeddings])


def test_a_map_is_differentiated_by_the_stacked_parameters():
    def loss(weights, fn, at):
        enc = fam_jax.capture(partial(fn, weights), at=at)(IMAGES)
        return (fam_jax.decomposition()(enc, IMAGES.mean((1, 2))) ** 2).sum()

    assert_same(
        [jax.grad(loss)(WEIGHTS, plain, "block[2]")], [jax.grad(loss)(WEIGHTS, unrolled, "block2")]
    )


def test_bfloat16_and_a_function_of_one_image():
    """Its taps under `vmap` are those of the batch, at a step as elsewhere."""
    low = jax.tree.map(lambda x: x.astype(jnp.bfloat16), (WEIGHTS, IMAGES))
    A, _, G = all_of(fam_jax.capture(partial(plain, low[0]), at="block[1]"), low[1])
    assert A.dtype == G.dtype == jnp.bfloat16

    def of_one(x):
        x, _ = jax.lax.scan(lambda x, w: (block(x, w), None), x, WEIGHTS)
        return x.mean((0, 1))

    expected = all_of(fam_jax.capture(partial(plain, WEIGHTS), at="block[1].mlp"))
    assert_same(all_of(fam_jax.capture(jax.vmap(of_one), at="block[1].mlp")), expected)


def sharded(spec_of_weights, kind):
    mesh = jax.make_mesh((2, 4), ("data", "model"), axis_types=(kind, kind))
    put = lambda x, spec: jax.device_put(x, NamedSharding(mesh, spec))  # noqa: E731
    return put(jnp.concatenate([IMAGES, IMAGES[:1]]), P("data")), put(WEIGHTS, spec_of_weights)


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        (P(None, "model"), AxisType.Auto),
        (P(None, None, "model"), AxisType.Auto),
        (P("model"), AxisType.Auto),
        (P(), AxisType.Explicit),
    ],
)
def test_stacked_parameters_may_be_sharded(spec, kind):
    """Over their rows (FSDP), their columns, or the layers themselves."""
    images, weights = sharded(spec, kind)
    found = all_of(fam_jax.capture(partial(plain, weights), at="block[1]"), images)
    one = jnp.concatenate([IMAGES, IMAGES[:1]])
    assert_same(found, all_of(fam_jax.capture(partial(unrolled, WEIGHTS), at="block1"), one))


def test_inside_shard_map():
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))
    images = jnp.tile(IMAGES[:2], (4, 1, 1, 1))

    def pulled(x):
        enc = fam_jax.capture(partial(plain, WEIGHTS), at="block[2]")(x)
        return enc.pullback(enc.embeddings)

    found = jax.shard_map(pulled, mesh=mesh, in_specs=P("d"), out_specs=P("d"))(images)
    assert_same([found], [pulled(images)])


def test_the_program_does_not_grow_with_the_depth():
    def length(depth):
        weights = jnp.ones((depth, WIDTH, WIDTH))
        encode = fam_jax.capture(partial(plain, weights), at="block[3]")
        program = jax.make_jaxpr(lambda x: (e := encode(x)).pullback(e.embeddings))(IMAGES)
        return sum(1 for _ in equations(program))

    assert length(6) == length(48)


def in_while(x):
    body = lambda c: (c[0] + 1, block(c[1], WEIGHTS[0]))  # noqa: E731
    return head(jax.lax.while_loop(lambda c: c[0] < 2, body, (0, x))[1])


def in_cond(x):
    return head(jax.lax.cond(x.sum() > 0, lambda x: block(x, WEIGHTS[0]), lambda x: x, x))


@jax.custom_vjp
def with_rule(x):
    return plain(WEIGHTS, x)


with_rule.defvjp(lambda x: (plain(WEIGHTS, x), x), lambda x, g: (x,))


@pytest.mark.parametrize(
    ("fn", "at", "message"),
    [
        (
            partial(plain, WEIGHTS),
            "block",
            r"a scan of 4 steps; say which: block\[0\] to block\[3]",
        ),
        (partial(plain, WEIGHTS), "block[4]", "the scan around it has 4 steps, 0 to 3"),
        (partial(plain, WEIGHTS), "block[-5]", "the scan around it has 4 steps"),
        (
            partial(plain, WEIGHTS),
            "block[1][0]",
            "names more steps than there are scans around it: leave out the last 1",
        ),
        (partial(plain, WEIGHTS), "blok[1]", r"met no layer 'blok\[1\]'; it met: block.mlp, block"),
        (partial(nested, WEIGHTS), "block[1]", r"a scan of 2 steps; say which: block\[1\]\[0\]"),
        (in_while, "block[0]", "inside `while`"),
        (in_cond, "block[0]", "inside `cond`"),
        (with_rule, "block[0]", "inside `custom_vjp_call`"),
    ],
)
def test_what_has_no_step_is_said(fn, at, message):
    with pytest.raises(ValueError, match=message):
        fam_jax.capture(fn, at=at)(IMAGES)
