"""The mosaic game: of four pictures in one, does the map point at the one the reference matches?"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

import fam_jax
from fam_jax.evaluate.asking import made
from fam_jax.metrics import energy_in, pointing

METHODS = (
    *("fam", "fam-contrastive", "decomposition", "contrastive", "grad-cam-free"),
    "activation-sum",
)


def players(background: Float[Array, "n d"]) -> dict[str, fam_jax.Method]:
    """The methods that play, by name; `background` is what the contrastive ones subtract."""
    return {name: made(name, fam_jax.cosine, background) for name in METHODS}


@jax.jit
def play(
    encode: fam_jax.Encoder,
    players: dict[str, fam_jax.Method],
    mosaics: Float[Array, "n H W 3"],
    references: Float[Array, "n h w 3"],
    masks: Bool[Array, "n H W"],
) -> dict[str, tuple[Float[Array, "n a b"], Float[Array, " n"], Bool[Array, " n"]]]:
    """Maps, mass in the right cell (chance 0.25) and hits of every method, by its name.

    The network's layer must be one whose positions do not straddle two cells; `masks` are the right
    ones. Mosaics and references are preprocessed.
    """
    enc, targets = encode(mosaics), encode(references).embeddings
    stride = mosaics.shape[1] // enc.activations.shape[1]
    small = jnp.asarray(masks)[:, stride // 2 :: stride, stride // 2 :: stride]
    maps = {name: method(enc, targets) for name, method in players.items()}
    return {name: (m, energy_in(m, small), pointing(m, small)) for name, m in maps.items()}
