"""Every metric of a map: compiled, sharded, one image or many, bfloat16, float64, NaN."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import fam_jax
from fam_jax import metrics
from fam_jax._core.checks import wide
from tests.close import assert_close
from tests.programs import collectives

KEY = jax.random.key(0)
WEIGHTS = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5)), jnp.float32)


def embed(images):
    (images,) = wide(images)
    pooled = jnp.tanh(images).mean((1, 2)) + images[:, 2, 3] ** 2
    return pooled @ WEIGHTS.astype(images.dtype)


def explain(images):
    return jnp.abs(images).sum(-1) + images[..., 0]


def along(metric, **options):
    def run(x):
        out = metric(embed, x["images"], x["references"], x["maps"], steps=3, chunk=3, **options)
        return jnp.concatenate([out.values, out.area[:, None]], axis=1)

    return run


def along_both(metric):
    def run(x):
        sides = (x["images"], x["images"][:, ::-1], x["maps"], x["maps"][:, :, ::-1])
        return metric(embed, *sides, steps=3, chunk=4).values

    return run


def on_images(metric, *args, **options):
    return lambda x: metric(embed, x["images"], x["references"], x["maps"], *args, **options)


def on_masks(metric, **options):
    return lambda x: metric(x["maps"], x["masks"], **options)


METRICS = {
    "deletion": along(metrics.deletion),
    "insertion": along(metrics.insertion, order="least"),
    "deletion_pairs": along_both(metrics.deletion_pairs),
    "insertion_pairs": along_both(metrics.insertion_pairs),
    "road": on_images(metrics.road, KEY, percentiles=(30, 80), chunk=2),
    "average_drop": on_images(metrics.average_drop),
    "increase": on_images(metrics.increase),
    "coherency": lambda x: metrics.coherency(explain, x["images"]),
    "complexity": lambda x: metrics.complexity(x["maps"]),
    "max_sensitivity": lambda x: metrics.max_sensitivity(explain, x["images"], KEY, samples=3),
    "fewshot_fidelity": lambda x: metrics.fewshot_fidelity(
        embed, x["images"], WEIGHTS.astype(x["images"].dtype), x["maps"]
    ),
    "energy_in": on_masks(metrics.energy_in),
    "iou": on_masks(metrics.iou),
    "rank_in": on_masks(metrics.rank_in),
    "pointing": on_masks(metrics.pointing, tolerance=1),
    "box_of": lambda x: metrics.box_of(x["maps"]),
    "box_hit": lambda x: metrics.box_hit(x["maps"], x["boxes"]),
    "spearman": lambda x: metrics.spearman(x["maps"], x["maps"] ** 2),
    "completeness_error": lambda x: metrics.completeness_error(x["maps"], x["references"][:, 0]),
    "endpoint_error": lambda x: metrics.endpoint_error(
        jnp.stack([x["maps"]] * 2, axis=3), x["images"][:, :3, :4], x["masks"]
    ),
}
BOOLEAN = ("pointing", "box_hit")
BY_IMAGE = ("coherency", "max_sensitivity")  # they make the maps themselves
every = pytest.mark.parametrize("name", METRICS)


def case(dtype=np.float32):
    rng = np.random.default_rng(1)
    floats = {
        "images": rng.normal(size=(8, 6, 7, 2)),
        "references": rng.normal(size=(8, 5)),
        "maps": rng.normal(size=(8, 3, 4)),
        "boxes": np.tile([0, 0, 3, 3], (8, 1)),
    }
    arrays = {name: x.astype(dtype) for name, x in floats.items()}
    return arrays | {"masks": rng.random((8, 3, 4)) < 0.5}


def part(x, rows):
    return {name: value[rows] for name, value in x.items()}


@jax.jit
def everything(x):
    """The metrics in one program, which is compiled sooner than one for each."""
    return {name: metric(x) for name, metric in METRICS.items()}


@pytest.fixture(scope="module")
def once():
    """All values of the case in float64; compiled again for eight devices, which must not talk."""
    shard = jax.NamedSharding(jax.make_mesh((8,), ("batch",)), jax.P("batch"))
    x = case(np.float64)
    with jax.enable_x64(True):
        compiled = everything.lower(jax.device_put(x, shard)).compile()
        assert not collectives(compiled.as_text())
        return everything(x), lambda x: compiled(jax.device_put(x, shard))


@pytest.fixture(scope="module")
def sharded(once):
    """Values of the case; among seven other images; with a NaN in a map; with one in an image."""
    run, x = once[1], case(np.float64)
    others = {key: np.roll(value[::-1], 1, 0) for key, value in x.items()}
    in_map, in_image = (jax.tree.map(np.array, x) for _ in range(2))
    for key in x:
        others[key][5] = x[key][5]
    in_map["maps"][2, 0, 0], in_map["masks"][2, 0, 0] = np.nan, True
    in_image["images"][2, 0, 0] = np.nan
    with jax.enable_x64(True):
        return run(x), run(others), run(in_map), run(in_image)


@every
def test_on_eight_devices_each_image_for_itself(name, once, sharded):
    """Other images of the batch change nothing; a NaN stays where it is."""
    expected = np.asarray(once[0][name])
    plain, others, in_map, in_image = (values[name] for values in sharded)
    assert plain.sharding.spec[0] == "batch"
    assert expected.shape[0] == 8
    assert np.isfinite(expected).all()
    assert expected.dtype == (np.bool_ if name in BOOLEAN else np.float64)
    assert_close(plain, expected, rtol=1e-8)
    assert_close(np.asarray(others)[5], expected[5], relative_to=expected, rtol=1e-8)

    values = np.asarray(in_image if name in BY_IMAGE else in_map)
    assert not values[2].any() if name in BOOLEAN else np.isnan(values[2]).all()
    rest = np.arange(8) != 2
    assert_close(values[rest], expected[rest], rtol=1e-8)


def test_at_least_float32():
    for name, out in jax.eval_shape(everything, case(jnp.bfloat16)).items():
        assert out.dtype == (jnp.bool_ if name in BOOLEAN else jnp.float32), name


@pytest.mark.numerics
@pytest.mark.parametrize("name", ["insertion_pairs", "coherency"])
def test_bfloat16_is_float32_inside(name):
    """Only the images' own rounding, 8 bits, is left: of the blur, the product."""
    x = part(case(jnp.bfloat16), slice(0, 2))
    exact = jax.tree.map(lambda v: v if v.dtype == bool else v.astype(np.float32), x)
    metric = jax.jit(METRICS[name])
    assert_close(metric(x), metric(exact), relative_to=1, rtol=0.02)  # cosines, correlations


def test_one_image_is_a_batch(once, x64):
    one = METRICS["insertion"](part(case(np.float64), slice(5, 6)))
    assert_close(one, once[0]["insertion"][5:6], rtol=1e-8)


@pytest.mark.parametrize("name", ["insertion", "road"])
def test_gradients_match_finite_differences(name, x64):
    """A metric of the network can be trained on; the order of the pixels is a constant."""
    x = part(case(np.float64), slice(0, 1))
    loss = lambda images: METRICS[name](x | {"images": images}).sum()  # noqa: E731
    check_grads(jax.jit(loss), (x["images"],), order=1, modes=["rev"], rtol=1e-5, atol=1e-7)


def test_parameters_are_arguments():
    """A second network of the same shapes compiles nothing; nor do equal options."""
    count = 0

    def network(weights, images):
        nonlocal count
        count += 1
        return images.mean((1, 2)) @ weights

    x = case()
    values = [
        metrics.deletion(
            partial(network, scale * WEIGHTS), x["images"], x["references"], x["maps"], steps=4
        ).area
        for scale in (1.0, -1.0)
    ]
    assert count == 1
    assert_close(values[0], -values[1])


def test_an_encoder_is_an_embedding_function(x64):
    weights = np.asarray(WEIGHTS, np.float64)
    encode = fam_jax.encoder(jnp.tanh, lambda A: A.mean((1, 2)) @ weights)
    x = case(np.float64)
    args = (x["images"], x["references"], x["maps"])
    plain = metrics.average_drop(lambda images: jnp.tanh(images).mean((1, 2)) @ weights, *args)
    assert_close(metrics.average_drop(encode, *args), plain, rtol=1e-10)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: metrics.deletion(embed, *x, steps=43), ValueError, "steps: expected an int"),
        (lambda x: metrics.deletion(embed, *x, steps=0), ValueError, "steps: expected an int"),
        (lambda x: metrics.insertion(embed, *x, chunk=0), ValueError, "chunk: expected a positive"),
        (lambda x: metrics.insertion(embed, *x, order="mst"), ValueError, "did you mean 'most'"),
        (lambda x: metrics.aid(5, *x), TypeError, "embed: expected a function"),
        (lambda x: metrics.aid(embed, *x, "cosine"), TypeError, "similarity: expected"),
        (lambda x: metrics.aid(embed, x[0], x[1][:3], x[2]), ValueError, "references have shape"),
        (lambda x: metrics.aid(embed, x[0], x[1], x[2][0]), ValueError, "maps: expected an array"),
        (lambda x: metrics.road(embed, *x, KEY, percentiles=(0,)), ValueError, "percentiles: exp"),
        (lambda x: metrics.road(embed, *x, KEY, noise=-1), ValueError, "noise: expected 0 or"),
        (
            lambda x: metrics.deletion_pairs(embed, x[0], x[0][:1], x[2], x[2]),
            ValueError,
            "reference_images have shape",
        ),
        (lambda x: metrics.fewshot_fidelity(embed, *x, fraction=2.0), ValueError, "fraction: exp"),
        (lambda x: metrics.iou(x[2], x[2] > 0, 0.0), ValueError, "threshold: expected a number ab"),
        (lambda x: metrics.pointing(x[2], x[2] > 0, -1.0), ValueError, "tolerance: expected 0 or"),
        (lambda x: metrics.spearman(x[2], x[2][:, :1]), ValueError, "upsample one of them first"),
        (lambda x: metrics.coherency(embed, x[0]), ValueError, r"explain\(images\): expected"),
        (lambda x: metrics.coherency("fam", x[0]), TypeError, "explain: expected a function"),
        (lambda x: metrics.box_iou(x[1], x[1]), ValueError, r"expected boxes \[batch, 4\]"),
        (lambda x: metrics.completeness_error(x[2], x[1][:2, 0]), ValueError, "scores have shape"),
        (lambda x: metrics.endpoint_error(x[0], x[0], x[2]), TypeError, "valid: expected booleans"),
        (lambda x: metrics.endpoint_error(x[0], x[0], x[2] > 0), ValueError, "valid: expected a"),
        (lambda x: metrics.mean_and_error(x[1] > 0, KEY), TypeError, "values: expected an array"),
        (lambda x: metrics.mean_and_error(x[1], KEY, samples=1), ValueError, "samples: expected"),
        (lambda x: metrics.paired_difference(x[1], x[2], KEY), ValueError, "b has shape"),
        (lambda x: metrics.eer_threshold(x[1][:, 0], x[1][:, 0]), TypeError, "same: expected boo"),
        (lambda x: metrics.random_map(KEY, (7,)), ValueError, "shape: expected"),
        (lambda x: metrics.randomised(embed, "fc", KEY), TypeError, "model: expected a flax.nnx"),
    ],
)
def test_wrong_arguments_are_refused(call, error, message, unchecked):
    x = case()
    with pytest.raises(error, match=message):
        call((x["images"], x["references"], x["maps"]))
