"""`capture` on Keras models: what is refused, and that the layers stay as they were."""

import numpy as np
import pytest

import fam_jax
from tests.frameworks.keras_models import keras_layers

pytestmark = pytest.mark.numerics


def test_of_several_outputs_of_a_keras_layer_one_is_asked_for(images):
    keras, layers = keras_layers()

    class Pair(keras.layers.Layer):
        def call(self, x):
            return x, 2 * x

    inputs = keras.Input((None, None, 3))
    pair = Pair(name="pair")
    model = keras.Model(inputs, layers["pool"](pair(inputs)[1]))
    with pytest.raises(ValueError, match=r"^the layer 'pair' gives a .* take one of pair:0 "):
        fam_jax.capture(model, at="pair")(images)
    np.testing.assert_array_equal(
        fam_jax.capture(model, at="pair:1")(images).activations, 2 * images
    )
    assert "call" not in vars(pair)


def test_a_keras_layer_is_as_before_when_the_forward_pass_raises(images):
    keras, layers = keras_layers()

    class Refuses(keras.layers.Layer):
        ready = True

        def call(self, x):
            if not self.ready:
                raise RuntimeError("not today")
            return x

    refuses = Refuses(name="refuses")
    model = keras.Sequential([keras.Input((8, 12, 3)), layers["stem"], refuses, layers["pool"]])
    refuses.ready = False
    attributes = [dict(vars(layer)) for layer in model.layers]
    for at in ("stem", "refuses"):
        with pytest.raises(RuntimeError, match="not today"):
            fam_jax.capture(model, at=at)(images)
    assert [dict(vars(layer)) for layer in model.layers] == attributes


def test_an_unbuilt_keras_model_is_refused():
    keras, layers = keras_layers()
    with pytest.raises(ValueError, match="no weights yet; call it on images once"):
        fam_jax.capture(keras.Sequential(list(layers.values())), at="conv")


def test_a_keras_model_on_another_backend_is_refused(monkeypatch):
    keras, layers = keras_layers()
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    model = keras.Sequential(list(layers.values()))
    with pytest.raises(ValueError, match=r"Keras runs on torch here; set .* KERAS_BACKEND=jax"):
        fam_jax.capture(model, at="conv")
