"""Every framework's models, made once: no test may change them, that is what is tested."""

import functools

from tests.frameworks.equinox_models import equinox_case
from tests.frameworks.haiku_models import haiku_case
from tests.frameworks.keras_models import keras_case
from tests.frameworks.linen_models import linen_case, linen_in_nnx, linen_method

CASES = {
    "linen-bound": lambda: linen_case("bound"),
    "linen-apply": lambda: linen_case("apply", at="LinenBlock_0/Conv_0"),
    "linen-method": linen_method,
    "linen-in-nnx": linen_in_nnx,
    "haiku-apply": lambda: haiku_case("apply"),
    "haiku-flags": lambda: haiku_case("flags"),
    "haiku-state": lambda: haiku_case("state"),
    "equinox-vmap": lambda: equinox_case("vmap"),
    "equinox-method": lambda: equinox_case("method"),
    "equinox-state": lambda: equinox_case("state"),
    "keras-functional": lambda: keras_case("functional"),
    "keras-sequential": lambda: keras_case("sequential"),
    "keras-subclassed": lambda: keras_case("subclassed"),
}


@functools.cache
def make(name):
    return CASES[name]()
