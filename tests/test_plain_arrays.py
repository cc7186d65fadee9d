"""A NumPy array in another order of bytes, or behind a mask, is refused wherever one is taken.

JAX refuses them only where it has to compile: a function that has met a plain array of the same
type and shape reads the bytes of the next one as they lie. So every call is made twice here.
"""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import fam_jax
from fam_jax import bulk, metrics, plot, training
from fam_jax.methods import make
from pretrained_ports import load

RNG = np.random.default_rng(0)
KEY = jax.random.key(0)
KERNEL = RNG.normal(size=(3, 5)).astype(np.float32)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def features(x):
    return jnp.maximum(x.reshape(len(x), 4, 2, 4, 2, 3).mean((2, 4)) @ KERNEL, 0)


def embed(x):
    return features(x).mean((1, 2))


encode = fam_jax.encoder(features, lambda A: A.mean((1, 2)))
IMAGES, OTHERS = normal(2, 3, 8, 8, 3)
Z, R = np.abs(normal(2, 3, 5))
BANK, LABELS = np.abs(normal(4, 5)), np.array([0, 1, 1, 0], np.int32)
MAPS, MORE = np.abs(normal(2, 3, 4, 4))
LARGE, LARGER = np.abs(normal(2, 3, 8, 8))
MASKS = RNG.random((3, 4, 4)) > 0.5
BOXES = np.array([[0.1, 0.1, 0.6, 0.7]] * 3, np.float32)
PAIRS, FIELD = np.abs(normal(3, 4, 4, 4, 4)), normal(3, 4, 4, 2)
SCORES, SAME = normal(6), np.array([True, False] * 3)


def tapped(x):
    return fam_jax.tap(fam_jax.tap(features(x), "a") + 1, "b").mean((1, 2))


class Norm(nnx.Module):
    def __init__(self):
        self.norm = nnx.BatchNorm(3, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.norm(x).mean((1, 2))


def replayed(activations):
    """From features of a user's own file."""
    return encode.from_features(jax.tree.map(lambda _: activations, encode.features(IMAGES)))


def explained(method):
    return fam_jax.explain(encode, IMAGES, R, method).maps


# Of every public function that takes arrays: a call, and its arrays.
CALLS = {
    "encoder": (encode, IMAGES),
    "replay": (encode.replay, IMAGES, np.asarray(features(IMAGES))),
    "backbone": (lambda x: fam_jax.capture(load("tiny"))(x), normal(1, 32, 32, 3)),
    "several layers": (lambda x: fam_jax.capture(tapped, at=("a", "b"))(x), IMAGES),
    "with_state": (lambda x: fam_jax.capture(Norm(), at="norm").with_state(x), IMAGES),
    "features": (encode.features, IMAGES),
    "from_features": (replayed, np.asarray(features(IMAGES))),
    "explain": (lambda x, r: fam_jax.explain(encode, x, r), IMAGES, R),
    "explain_pairs": (lambda x, y: fam_jax.explain_pairs(encode, x, y), IMAGES, OTHERS),
    "explain_all": (lambda x, y: fam_jax.explain_all(encode, x, y), IMAGES, OTHERS),
    "explain_all, of embeddings": (lambda x, r: fam_jax.explain_all(encode, x, r), IMAGES, R),
    "a method": (lambda r: fam_jax.fam()(encode(IMAGES), r), R),
    "all_pairs": (lambda r: fam_jax.all_pairs(fam_jax.fam())(encode(IMAGES), r), R),
    "contrastive": (lambda b: explained(fam_jax.contrastive(b)), BANK),
    "make": (lambda b: explained(make("contrastive", fam_jax.cosine, b)), BANK),
    "fggb": (lambda t: explained(fam_jax.fggb(threshold=t)), SCORES[:3]),
    "occlusion": (lambda v: explained(fam_jax.occlusion(window=2, fill=v)), SCORES[:3]),
    "integrated_position_pairs": (
        lambda x, y: fam_jax.integrated_position_pairs(encode, x, y, steps=2),
        IMAGES,
        OTHERS,
    ),
    "margin": (lambda b, z, r: fam_jax.margin(fam_jax.dot, b).score(z, r), BANK, Z, R),
    "cosine": (fam_jax.cosine.score, Z, R),
    "dot": (fam_jax.dot.shares, Z, R),
    "euclidean": (fam_jax.euclidean.score, Z, R),
    "normalize": (fam_jax.normalize, Z),
    "minmax": (fam_jax.minmax, Z),
    "rescale": (fam_jax.rescale, MAPS),
    "upsample": (lambda maps: fam_jax.upsample(maps, (8, 8)), MAPS),
    "fuse": (lambda *maps: fam_jax.fuse(maps), MAPS, MORE),
    "prototypes": (lambda z, c: fam_jax.prototypes(z, c, 2), BANK, LABELS),
    "classifier_rows": (fam_jax.classifier_rows, KERNEL.T, LABELS),
    "neighbours": (lambda z, b, c: fam_jax.neighbours(z, b, 2, c), Z, BANK, LABELS),
    "centred": (fam_jax.centred, PAIRS),
    "correspondences": (fam_jax.correspondences, PAIRS),
    **{
        name: (partial(getattr(metrics, name), embed), IMAGES, R, LARGE)
        for name in ("aid", "average_drop", "increase", "masked_scores", "fewshot_fidelity")
    },
    **{
        name: (partial(getattr(metrics, name), embed, steps=2), IMAGES, R, LARGE)
        for name in ("deletion", "insertion")
    },
    **{
        name: (partial(getattr(metrics, name), embed, steps=2), IMAGES, OTHERS, LARGE, LARGER)
        for name in ("deletion_pairs", "insertion_pairs")
    },
    **{
        name: (partial(getattr(metrics, name), embed, key=KEY), IMAGES, R, LARGE)
        for name in ("road", "road_combined")
    },
    "coherency": (lambda x: metrics.coherency(lambda y: encode(y).activations[..., 0], x), IMAGES),
    "max_sensitivity": (
        lambda x: metrics.max_sensitivity(lambda y: encode(y).activations[..., 0], x, KEY),
        IMAGES,
    ),
    "box_hit": (metrics.box_hit, MAPS, BOXES),
    "box_iou": (metrics.box_iou, BOXES, BOXES),
    "box_masks": (lambda boxes: metrics.box_masks(boxes, (4, 4)), BOXES),
    "box_of": (metrics.box_of, MAPS),
    "completeness_error": (metrics.completeness_error, MAPS, SCORES[:3]),
    "complexity": (metrics.complexity, MAPS),
    "eer_threshold": (metrics.eer_threshold, SCORES, SAME),
    "verification_accuracy": (partial(metrics.verification_accuracy, threshold=0.1), SCORES, SAME),
    "endpoint_error": (metrics.endpoint_error, FIELD, FIELD, MASKS),
    **{
        name: (getattr(metrics, name), MAPS, MASKS)
        for name in ("energy_in", "iou", "pointing", "rank_in")
    },
    "left_out": (metrics.left_out, SCORES),
    "mean_and_error": (lambda values: metrics.mean_and_error(values, KEY), SCORES),
    "paired_difference": (lambda a, b: metrics.paired_difference(a, b, KEY), SCORES, SCORES[::-1]),
    "spearman": (metrics.spearman, MAPS, MORE),
    "crop": (lambda maps, boxes: training.crop(maps, boxes, (4, 4)), MAPS, BOXES),
    "disagreement": (training.disagreement, MAPS, MORE),
    "energy_outside": (training.energy_outside, MAPS, MASKS),
    "total_variation": (training.total_variation, MAPS),
    "search": (lambda queries, bank: bulk.search(queries, bank, 2), Z, BANK),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_is_not_plain_is_refused(unchecked, name):
    call, *arrays = CALLS[name]
    jax.block_until_ready(call(*arrays))
    for i, x in enumerate(arrays):
        others = [
            (np.ma.masked_array(x, np.zeros(x.shape, bool)), "expected an array without a mask; ")
        ]
        if x.itemsize > 1:  # one byte has no order
            others.append((x.astype(x.dtype.newbyteorder()), "expected this machine's order of "))
        for other, message in others:
            with pytest.raises(TypeError, match=message):
                call(*arrays[:i], other, *arrays[i + 1 :])


def test_pictures_behind_a_mask_are_refused():
    pictures = np.ma.masked_greater(RNG.integers(0, 256, (2, 40, 40, 3)).astype(np.uint8), 250)
    encode = fam_jax.capture(load("tiny"))
    for given in (pictures, list(pictures)):
        with pytest.raises(TypeError, match="queries: expected an array without a mask"):
            fam_jax.explain_pairs(encode, given, given)


class Dense(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(5, name="dense")(x).mean((1, 2))


def of_weights(weights):
    return fam_jax.capture(Dense().bind(weights), at="dense")


def test_weights_are_plain_arrays_too(unchecked):
    weights = jax.tree.map(np.asarray, Dense().init(KEY, IMAGES))
    of_weights(weights)(IMAGES)
    swapped = jax.tree.map(lambda w: w.astype(w.dtype.newbyteorder()), weights)
    with pytest.raises(TypeError, match="weights: expected this machine's order of bytes"):
        of_weights(swapped)
    masked = jax.tree.map(np.ma.masked_invalid, weights)
    with pytest.raises(TypeError, match="weights: expected an array without a mask"):
        of_weights(masked)


def test_what_the_message_says_helps():
    swapped = MAPS.astype(MAPS.dtype.newbyteorder())
    with pytest.raises(TypeError, match=r"maps\.astype\('float32'\) has it"):
        fam_jax.rescale(swapped)
    np.testing.assert_array_equal(fam_jax.rescale(swapped.astype("float32")), fam_jax.rescale(MAPS))


def test_every_function_that_takes_arrays_is_asked():
    taking = {
        name
        for module in (fam_jax, fam_jax.methods, metrics, training)
        for name, of in vars(module).items()
        if inspect.isfunction(of) and not name.startswith("_")
        if "ndarray" in str(inspect.signature(of))
    }
    assert len(taking) > 40
    assert taking - set(CALLS) == set()


@pytest.mark.parametrize("kind", ["map", "image", "shares", "signal", "volume", "p2p"])
def test_figures_hide_no_mask(unchecked, kind):
    given = {
        "map": (plot.overlay, LARGE[0] / LARGE.max(), MAPS[0]),
        "image": (plot.overlay, LARGE[0] / LARGE.max(), MAPS[0]),
        "shares": (partial(plot.sentence, ["a", "dog", "on"]), SCORES[:3]),
        "signal": (plot.signal, SCORES, SCORES[:3]),
        "volume": (plot.volume, MAPS, MAPS),
        "p2p": (partial(plot.points_figure, LARGE[0], LARGE[0]), PAIRS[0]),
    }
    call, *arrays = given[kind]
    at = ["image", "map"].index(kind) if kind in ("image", "map") else 0
    arrays[at] = np.ma.masked_greater(arrays[at], 1)
    with pytest.raises(TypeError, match=f"{kind}: expected an array without a mask"):
        call(*arrays)
