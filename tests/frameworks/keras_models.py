"""Models of Keras, as their users write them."""

import functools

import numpy as np
import pytest

from tests.frameworks.case import Case


def keras_layers(dtype=None):
    keras = pytest.importorskip("keras")
    L = keras.layers
    keras.utils.set_random_seed(0)
    return keras, {
        "stem": L.Conv2D(8, 3, padding="same", name="stem", dtype=dtype),
        "norm": L.BatchNormalization(name="norm", dtype=dtype),
        "drop": L.Dropout(0.5, name="drop", dtype=dtype),
        "conv": L.Conv2D(8, 3, padding="same", activation="tanh", name="conv", dtype=dtype),
        "pool": L.GlobalAveragePooling2D(name="pool", dtype=dtype),
        "fc": L.Dense(6, name="fc", dtype=dtype),
    }


def keras_case(form):
    keras, layers = keras_layers()
    shape = (None, None, 3)
    order = list(layers.values())
    if form == "sequential":
        model = keras.Sequential([keras.Input(shape), *order])
    elif form == "functional":
        first_ = inputs = keras.Input(shape)
        for layer in order[:4]:
            first_ = layer(first_)
        backbone = keras.Model(inputs, first_, name="backbone")
        outer = keras.Input(shape)
        model = keras.Model(outer, order[5](order[4](backbone(outer))))
    else:

        class Net(keras.Model):
            def __init__(self):
                super().__init__()
                self.parts = order

            def call(self, x, training=False):
                for part in self.parts:
                    drop = {"training": training} if part.name in ("norm", "drop") else {}
                    x = part(x, **drop)
                return x

        model = Net()
        model(np.zeros((1, 8, 8, 3), np.float32))
    rng = np.random.default_rng(0)
    model.set_weights([w.value + rng.uniform(0, 0.2, w.shape) for w in model.weights])
    frozen = [[w.value for w in layer.weights] for layer in order]

    def run(begin, end):  # with the weights as they are now
        def call(x):
            for layer, weights in list(zip(order, frozen, strict=True))[begin:end]:
                if layer.name != "drop":
                    x, _ = layer.stateless_call(
                        weights[: len(layer.trainable_variables)],
                        weights[len(layer.trainable_variables) :],
                        x,
                    )
            return x

        return call

    return Case(
        functools.partial(model, training=False) if form == "subclassed" else model,
        "backbone.conv" if form == "functional" else "conv",
        run(0, 4),
        run(4, 6),
        model,
        lambda: [w.value for w in model.weights],
    )
