"""A network that sees colours, and folders of coloured pictures: everything is known beforehand."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from PIL import Image

import fam_jax
from fam_jax.evaluate.network import Network
from pretrained_ports import Backbone, Preprocess

COLOURS = {
    "red": (230, 20, 20),
    "green": (20, 230, 20),
    "blue": (20, 20, 230),
    "yellow": (220, 220, 20),
}


class Colours(nnx.Module):
    """The mean colour of every 4 x 4 pixels, and the mean of those: images [b H W 3] -> [b 3]."""

    def __init__(self):
        kernel = jnp.zeros((4, 4, 3, 3)).at[:, :, jnp.arange(3), jnp.arange(3)].set(1 / 16)
        self.conv = nnx.Conv(
            3, 3, (4, 4), 4, use_bias=False, kernel_init=lambda *_: kernel, rngs=nnx.Rngs(0)
        )

    def __call__(self, images):
        return self.conv(images).mean((1, 2))


class Attentive(Colours):
    """Patches that attend to each other by their colours, before the mean."""

    def __init__(self):
        super().__init__()
        self.attn_drop = nnx.Dropout(0.0)

    def __call__(self, images):
        x = self.conv(images)
        x = x.reshape(len(x), -1, 3)
        A = self.attn_drop(jax.nn.softmax(x @ x.swapaxes(1, 2))[:, None])
        return (A[:, 0] @ x).mean(1)


def network(size=16, similarity=fam_jax.cosine, model=Colours):
    backbone = Backbone(
        name="colours",
        model=model(),
        layer="conv",
        tokens=None,
        preprocess=Preprocess((size, size), None, mean=(0.0,) * 3, std=(1.0,) * 3),
        embedding_dim=3,
        source="by hand",
    )
    return Network(backbone, fam_jax.capture(backbone, at="conv"), similarity)


def picture(colour, rng, side=24):
    noise = rng.integers(-15, 15, size=(side, side, 3))
    return Image.fromarray(np.uint8(np.clip(np.array(colour) + noise, 0, 255)))


def folder(root, each=6):
    """A folder per colour."""
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (root / name).mkdir(parents=True)
        for i in range(each):
            picture(colour, rng).save(root / name / f"{i}.png")
    return root


def key():
    return jax.random.key(0)
