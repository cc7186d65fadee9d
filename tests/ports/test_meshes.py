"""Ports on meshes: parameters and batch in parts give what one device gives, and move no more.

FSDP spreads parameters over the batch's axis "data", tensor parallelism over "model".
"""

import re
from collections import Counter
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import P
from jax.sharding import AxisType, NamedSharding

import fam_jax
from pretrained_ports.models.cifar_resnet import CifarResNet
from pretrained_ports.models.vit import VisionTransformer
from pretrained_ports.models.vit_variants import VARIANTS
from tests.close import assert_close
from tests.ports.network import filled
from tests.programs import COLLECTIVES

IMAGES = np.random.default_rng(0).normal(size=(2, 8, 16, 16, 3)).astype(np.float32)
ROWS = ("attn.proj.kernel", "mlp.fc2.kernel")  # of products whose columns are spread before


@cache
def model(name, dtype="float32"):
    if name == "resnet":
        return filled(CifarResNet, 8, dtype=dtype)
    variant = VARIANTS["vit-mini-patch8"]._replace(dim=16, depth=2, heads=2, grid=2)
    return filled(VisionTransformer, variant, dtype=dtype)


def encoder(name, dtype="float32"):
    if name == "resnet":
        return fam_jax.capture(model(name, dtype), at="layer3")
    return fam_jax.capture(model(name, dtype), at="blocks.1.norm1", tokens=fam_jax.TokenGrid(1))


def spec(keys, x, layout):
    """Where a parameter lies: its largest axis over "data", its columns or rows over "model"."""
    axes, path = [None] * x.ndim, jax.tree_util.keystr(keys, simple=True, separator=".")
    if x.ndim > 1 and "tensor" in layout:
        axes[0 if path.removesuffix(".value").endswith(ROWS) else -1] = "model"
    if x.ndim > 1 and "fsdp" in layout:
        free = [i for i, n in enumerate(x.shape) if axes[i] is None and n % 4 == 0]
        if free:
            axes[max(free, key=lambda i: x.shape[i])] = "data"
    return P(*axes)


def placed(encode, mesh, layout):
    specs = jax.tree_util.tree_map_with_path(lambda keys, x: spec(keys, x, layout), encode)
    place = lambda x, spec: jax.device_put(x, NamedSharding(mesh, spec))  # noqa: E731
    encode = jax.tree.map(place, encode, specs)
    if layout:
        parts = [x for x in jax.tree.leaves(encode) if not x.sharding.is_fully_replicated]
        assert len(parts) >= 6, "nothing is spread"
    return encode, specs


def explained(encode, x, y):
    out = fam_jax.explain_pairs(encode, x, y, fam_jax.decomposition())
    return encode(x).embeddings, out.query_maps, out.reference_maps, out.scores


def everything(explained, encode, x, y):
    """Embeddings, maps, scores, and a loss's gradients by the parameters."""

    def loss(encode):
        out = explained(encode, x, y)
        return sum(jnp.sum(jnp.sin(part)) for part in out), out

    slopes, out = jax.grad(loss, has_aux=True, allow_int=True)(encode)
    return out, slopes


@cache
def alone(name):
    return jax.jit(partial(everything, explained))(encoder(name, "float64"), *IMAGES.astype(float))


def assert_same(found, name):
    """In float64, to more digits than are asked for."""
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(alone(name)), strict=True):
        if other.dtype != jax.float0:
            assert_close(one, other, rtol=1e-9)


def on_mesh(name, kind, layout):
    over = jax.make_mesh((4, 2), ("data", "model"), axis_types=(kind, kind))
    encode, specs = placed(encoder(name, "float64"), over, layout)
    return over, encode, specs, jax.device_put(tuple(IMAGES.astype(float)), split(over))


def split(over):
    return NamedSharding(over, P("data"))


NAMES = ["vit", "resnet"]


def each(*some):
    """Every network and layout, those but `some` in the slow run."""
    every = [(name, layout) for name in NAMES for layout in ("fsdp", "tensor", "fsdp, tensor")]
    return pytest.mark.parametrize(
        ("name", "layout"),
        [pytest.param(*of, marks=[] if of in some else pytest.mark.slow) for of in every],
    )


BOTH, FSDP = ("vit", "fsdp, tensor"), ("resnet", "fsdp")


@each(BOTH, FSDP)
def test_parameters_in_parts(x64, name, layout):
    """On an Auto mesh: nothing has to be said."""
    _, encode, _, images = on_mesh(name, AxisType.Auto, layout)
    assert_same(jax.jit(partial(everything, explained))(encode, *images), name)


@pytest.mark.parametrize("name", ["vit", pytest.param("resnet", marks=pytest.mark.slow)])
def test_a_batch_in_parts_on_an_explicit_mesh(x64, name):
    """With whole parameters nothing has to be said: class token and positions lie as images do."""
    _, encode, _, images = on_mesh(name, AxisType.Explicit, "")
    assert_same(jax.jit(partial(everything, explained))(encode, *images), name)


def gathered(encode, x, y):
    return explained(jax.tree.map(lambda w: jax.sharding.reshard(w, P()), encode), x, y)


def automatic(encode, x, y):
    return jax.sharding.auto_axes(explained, out_sharding=(P("data"),) * 4)(encode, x, y)


@each(BOTH)
@pytest.mark.parametrize("way", [pytest.param(gathered, marks=pytest.mark.slow), automatic])
def test_parameters_in_parts_on_an_explicit_mesh(x64, way, name, layout):
    """The two ways that docs/PODS.md names."""
    over, encode, _, images = on_mesh(name, AxisType.Explicit, layout)
    with jax.set_mesh(over):
        assert_same(jax.jit(partial(everything, way))(encode, *images), name)


def needs_slopes_of_erf(over):
    """In jax 0.12.0.1 erf, and so GELU, has no derivative inside a shard_map that checks axes."""
    slopes = jax.shard_map(
        jax.grad(lambda x: jax.lax.erf(x).sum()), mesh=over, in_specs=P("data"), out_specs=P("data")
    )
    try:
        jax.jit(slopes)(jnp.ones(8))
    except ValueError as error:
        if "Primitive polynomial requires varying manual axes to match" not in str(error):
            raise
        pytest.skip(f"needs another version of jax than {jax.__version__}: {error}")


@each(BOTH)
def test_parameters_in_parts_inside_shard_map(x64, name, layout):
    """Over the batch's axis, parameters gathered there; "model" is left to the compiler."""
    over, encode, specs, images = on_mesh(name, AxisType.Auto, layout)
    if name == "vit":
        needs_slopes_of_erf(over)
    only = lambda spec: P(*(axis if axis == "data" else None for axis in spec))  # noqa: E731
    specs = jax.tree.map(only, specs)

    def whole(w, spec):
        axes = [i for i, axis in enumerate(spec) if axis == "data"]
        return jax.lax.all_gather(w, "data", axis=axes[0], tiled=True) if axes else w

    inside = jax.shard_map(
        lambda encode, x, y: explained(jax.tree.map(whole, encode, specs), x, y),
        mesh=over,
        axis_names={"data"},
        in_specs=(specs, P("data"), P("data")),
        out_specs=P("data"),
    )
    assert_same(jax.jit(partial(everything, inside))(encode, *images), name)


def cut(name, model, images):
    """Activations of the layer, and the head, by the network's own modules."""
    if name == "resnet":
        x = nnx.relu(model.bn1(model.conv1(images)))
        return model.layer3(model.layer2(model.layer1(x))), lambda A: A.mean((1, 2))
    first, last = model.blocks
    x = first(model._tokens(model.patch_embed(images)))

    def head(A):
        y = x + last.attn(A)
        return model.norm((y + last.mlp(last.norm2(y)))[:, :1]).mean(1)

    return last.norm1(x), head


def collectives(fn, *args):
    """Kinds and shapes of what the compiled program moves between devices."""
    text = jax.jit(fn).lower(*args).compile().as_text()
    moves = re.findall(rf"= (.*?) ({'|'.join(COLLECTIVES)})(?:-start)?\(", text)
    arrays = [(kind, shape) for out, kind in moves for shape in re.findall(r"\w+\[[\d,]*\]", out)]
    return Counter(kind for _, kind in moves), Counter(arrays)


@each(BOTH, FSDP)
def test_a_map_moves_what_the_forward_pass_and_its_transposed_head_move(name, layout):
    """Besides, where the embedding lies in parts, sums over it: a number an image or a position."""
    over = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    encode, _ = placed(encoder(name), over, layout)
    graph, state = nnx.split(model(name))
    state, _ = placed(state, over, layout)
    images = jax.device_put(tuple(IMAGES), split(over))

    def by_hand(state, x, y):
        both = [cut(name, nnx.merge(graph, state), images) for images in (x, y)]
        (z, pull), (r, push) = (jax.vjp(head, A) for A, head in both)
        return [A for A, _ in both], pull(r), push(z)

    expected, arrays = collectives(by_hand, state, *images)
    for method in (fam_jax.fam(), fam_jax.decomposition()):
        run = lambda encode, x, y, m=method: fam_jax.explain_pairs(encode, x, y, m)  # noqa: E731
        found, moved = collectives(run, encode, *images)
        more = found - expected
        if "tensor" not in layout:
            assert moved == arrays  # the compiler may put sums together in another way
            assert expected["all-gather"] > 4, "nothing is spread"
        assert set(more) <= {"all-reduce"}
        sizes = [re.findall(r"\d+", shape.partition("[")[2]) for _, shape in moved - arrays]
        assert max([np.prod(list(map(int, size))) for size in sizes], default=0) <= 2 * 4 * 4
