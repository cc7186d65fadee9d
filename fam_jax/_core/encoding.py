"""Encoding: the activations A, the embedding z and the pullback v -> (dz/dA)^T v, in one pass.

    z, pullback = jax.vjp(d -> network(images, A + d), 0)

Only the head between A and z is differentiated; the network below costs its forward pass.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

from jaxtyping import Array, Float

from fam_jax._core.leaf import Leaf
from fam_jax._core.pytree import pytree_dataclass
from fam_jax._core.watch import Pull

# Which of a network's layers: their names, or a function that picks them out of all there are.
LayerChoice: TypeAlias = tuple[str, ...] | Callable[[tuple[str, ...]], tuple[str, ...]]


@pytree_dataclass("names")
class Layers:
    """Outputs of further layers, as the layers give them, and the embedding's gradients there.

    The pullback gives (dz/dx)^T v of cotangents [b, d] for every layer, shaped like `values`.
    """

    names: tuple[str, ...]
    values: tuple[Leaf[Array], ...]
    pullback: Leaf[Pull]

    def pick(self, choice: LayerChoice) -> "Layers":
        """Those of a choice, in its order."""
        names = chosen(choice, self.names)
        values = dict(zip(self.names, self.values, strict=True))
        return Layers(names, tuple(values[n] for n in names), self.pullback.of(names))


@pytree_dataclass()
class Encoding:
    """What a method needs to know about a batch of images.

    Attributes:
        activations: A, [b, h, w, c].
        embeddings: z, [b, d].
        pullback: cotangents [b, d] -> [b, h, w, c], the product with (dz/dA)^T.
        images: the images themselves [b, H, W, c], where a method reads them; else None.
        encoder: the `Encoder` that encoded them, where a method reads the images.
        layers: the `Layers` that a method reads beside `activations`.
    """

    activations: Leaf[Float[Array, "b h w c"]]
    embeddings: Leaf[Float[Array, "b d"]]
    pullback: Leaf[Callable[[Float[Array, "b d"]], Float[Array, "b h w c"]]]
    images: Any = None
    encoder: Any = None
    layers: Any = None


def chosen(choice: LayerChoice, names: tuple[str, ...]) -> tuple[str, ...]:
    """The layers of a choice among those there are."""
    return choice(names) if callable(choice) else choice
