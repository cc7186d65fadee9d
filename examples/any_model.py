"""One network written in five ways, none of them for fam_jax: the same map from each.

    pip install . equinox keras
    python examples/any_model.py                     # writes any_model.png

Eight colour filters, a rectifier and an average: in flax.nnx, flax.linen, equinox,
Keras (on JAX) and as a plain function. Why is the first picture like the second? Each way is asked
through `fam_jax.capture`; those whose package is not installed are left out.
"""

import argparse
import functools
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import fam_jax

os.environ.setdefault("KERAS_BACKEND", "jax")  # Keras asks at its import


def pictures(side=96):
    """Query and reference, on grey: both have an orange disc, the query has a blue square too."""
    rows, columns = np.mgrid[:side, :side] / side

    def disc(picture, row, column):
        picture[(rows - row) ** 2 + (columns - column) ** 2 < 0.03] = (0.95, 0.55, 0.1)
        return picture

    query, reference = np.full((2, side, side, 3), 0.5, np.float32)
    query[np.maximum(abs(rows - 0.7), abs(columns - 0.7)) < 0.15] = (0.1, 0.3, 0.9)
    return disc(query, 0.3, 0.3), disc(reference, 0.6, 0.5)


def filters():
    """Kernel [3, 3, 3, 8] and bias [8]: one channel answers to each corner of the colour cube."""
    corners = np.array([[r, g, b] for r in (-1, 1) for g in (-1, 1) for b in (-1, 1)])
    kernel = np.broadcast_to(corners.T / 9, (3, 3, 3, 8))
    return jnp.asarray(kernel, jnp.float32), jnp.full(8, -0.2)


def plain_function(kernel, bias):
    def embed(kernel, bias, images):
        axes = ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=axes)
        return fam_jax.tap(jax.nn.relu(x + bias), "relu").mean((1, 2))

    return fam_jax.capture(functools.partial(embed, kernel, bias), at="relu")


def flax_nnx(kernel, bias):
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.layer1 = nnx.Sequential(nnx.Conv(3, 8, (3, 3), rngs=rngs), nnx.relu)

        def __call__(self, images):
            return self.layer1(images).mean((1, 2))

    net = Net(nnx.Rngs(0))
    net.layer1.layers[0].kernel[...] = kernel
    net.layer1.layers[0].bias[...] = bias
    return fam_jax.capture(net, at="layer1")


def flax_linen(kernel, bias):
    from flax import linen

    class Block(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.relu(linen.Conv(8, (3, 3))(x))

    class Net(linen.Module):
        @linen.compact
        def __call__(self, images):
            return Block()(images).mean((1, 2))

    variables = {"params": {"Block_0": {"Conv_0": {"kernel": kernel, "bias": bias}}}}
    return fam_jax.capture(Net().bind(variables), at="Block_0")


def equinox(kernel, bias):
    import equinox as eqx

    class Net(eqx.Module):  # of one image [C, H, W], as is the custom in equinox
        layers: list

        def __call__(self, image):
            for layer in self.layers:
                image = layer(image)
            return image.mean((1, 2))

    conv = eqx.nn.Conv2d(3, 8, 3, padding=1, key=jax.random.key(0))
    weights = kernel.transpose(3, 2, 0, 1), bias[:, None, None]
    conv = eqx.tree_at(lambda conv: (conv.weight, conv.bias), conv, weights)
    net = Net([conv, eqx.nn.Lambda(jax.nn.relu)])
    return fam_jax.capture(eqx.filter_vmap(net), at="layers.1", layout="NCHW")


def keras(kernel, bias):
    import keras

    model = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            keras.layers.Conv2D(8, 3, padding="same", activation="relu", name="conv"),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    model.set_weights([kernel, bias])
    return fam_jax.capture(model, at="conv")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("any_model.png"))
    out = parser.parse_args().out
    query, reference = pictures()
    inputs = [jnp.asarray(picture)[None] - 0.5 for picture in (query, reference)]
    overlays, captions = [query], ["query"]
    for build in (plain_function, flax_nnx, flax_linen, equinox, keras):
        name = build.__name__.replace("_", " ")
        try:
            encode = build(*filters())
        except ModuleNotFoundError as missing:
            print(f"{name:15} left out: {missing.name} is not installed")
            continue
        explained = fam_jax.explain_pairs(encode, *inputs)
        shape, score = explained.query_maps.shape, float(explained.scores[0])
        print(f"{name:15} maps {shape}  similarity {score:.4f}")
        overlays.append(fam_jax.plot.overlay(query, explained.query_maps[0]))
        captions.append(name)
    figure = fam_jax.plot.grid_figure([[*overlays, reference]], captions=[[*captions, "reference"]])
    figure.savefig(out)
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
