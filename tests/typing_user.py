"""What a type checker sees of the names that a user touches; never run, only checked."""

from collections.abc import Callable
from typing import Any, assert_type

import numpy as np
from flax import nnx
from jax import Array
from matplotlib.figure import Figure
from PIL import Image

import fam_jax
import pretrained_ports
from fam_jax._core.encoder import LayersEncoder
from fam_jax._core.features import Features
from fam_jax.metrics import Curve, Estimate


def encoders(model: nnx.Module, images: Array) -> None:
    encode = assert_type(fam_jax.capture(model, at="layer4"), fam_jax.Encoder)
    assert_type(fam_jax.capture(model, "layer4", (1, None), layout="NCHW"), fam_jax.Encoder)
    layers = assert_type(fam_jax.capture(model, at=("layer3", "layer4")), LayersEncoder)
    assert_type(fam_jax.capture(model, at=["layer3"]), LayersEncoder)
    assert_type(layers(images), tuple[fam_jax.Encoding, ...])
    assert_type(encode.with_state(images), tuple[fam_jax.Encoding, Any])
    features = assert_type(encode.features(images), Features)
    assert_type(features.values, tuple[Array, ...])
    assert_type(encode.from_features(features), fam_jax.Encoding)
    watched = fam_jax.capture(model, at=["layer3"]).watch(images)
    assert_type(watched.values, tuple[Array, ...])
    assert_type(watched.pullback(watched.embeddings), tuple[Array, ...])


def encodings(enc: fam_jax.Encoding) -> None:
    assert_type(enc.activations, Array)
    assert_type(enc.embeddings, Array)
    assert_type(enc.pullback, Callable[[Array], Array])
    assert_type(enc.pullback(enc.embeddings), Array)


def methods(enc: fam_jax.Encoding, references: np.ndarray) -> None:
    rival = fam_jax.margin(fam_jax.cosine, references)
    assert_type(rival.background, Array | np.ndarray)
    for method in (fam_jax.fam(rival), fam_jax.decomposition(), fam_jax.contrastive(references)):
        assert_type(method, fam_jax.Method)
        assert_type(method(enc, references), Array)
        assert_type(fam_jax.all_pairs(method)(enc, references), Array)
        assert_type(method.pair(enc, enc), tuple[Array, Array])
    assert_type(fam_jax.interaction_cam(), fam_jax.Method)


def explanations(encode: fam_jax.Encoder, images: np.ndarray, references: Array) -> None:
    out = assert_type(fam_jax.explain(encode, images, references), fam_jax.Explanation)
    assert_type((out.maps, out.scores, out.valid), tuple[Array, Array, Array])
    assert_type(fam_jax.explain_all(encode, images, references), fam_jax.Explanation)
    pairs = assert_type(fam_jax.explain_pairs(encode, images, images), fam_jax.PairExplanation)
    assert_type(pairs.query_maps, Array)
    assert_type(fam_jax.upsample(out.maps, images.shape[1:3]), Array)
    assert_type(fam_jax.rescale(out.maps), Array)
    assert_type(fam_jax.fuse([out.maps, out.maps]), Array)
    assert_type(fam_jax.neighbours(references, references).reference, Array)


def later(encode: fam_jax.Encoder, images: Array, maps: Array, picture: Image.Image) -> None:
    references = encode(images).embeddings
    curve = assert_type(fam_jax.metrics.deletion(encode, images, references, maps), Curve)
    assert_type(curve.area, Array)
    assert_type(fam_jax.metrics.mean_and_error(curve.area, references), Estimate)
    assert_type(fam_jax.plot.overlay(picture, maps[0]), np.ndarray)
    assert_type(fam_jax.plot.pair_figure(picture, picture, maps[0], maps[1]), Figure)
    assert_type(fam_jax.io.pictures.read("picture.png"), Image.Image)
    assert_type(fam_jax.training.total_variation(maps), Array)


def backbones(images: Array, picture: Image.Image) -> None:
    backbone = assert_type(pretrained_ports.load("tiny"), pretrained_ports.Backbone)
    assert_type(backbone.model(images), Array)
    assert_type(backbone.preprocess(picture), np.ndarray)
    assert_type((backbone.layer, backbone.embedding_dim, backbone.source), tuple[str, int, str])
    assert_type(fam_jax.relevance(backbone.model), pretrained_ports.Network)
    at, tokens = backbone.layer, backbone.tokens
    assert_type(fam_jax.capture(backbone.model, at, tokens), fam_jax.Encoder)
