"""What every image model of the zoo is: a network from pictures to the embeddings compared."""

from typing import TYPE_CHECKING, Any

from flax import nnx
from jax import Array
from jaxtyping import Float


class Network(nnx.Module):
    """Images [b H W c] -> embeddings [b d]; a family's layers are its attributes."""

    def __call__(self, images: Float[Array, "b H W c"], /) -> Float[Array, "b d"]:
        """Embed normalised images."""
        raise NotImplementedError

    if TYPE_CHECKING:  # which layers there are depends on the name that was asked for

        def __getattr__(self, name: str) -> Any: ...


if TYPE_CHECKING:
    AnyNetwork = Network
else:
    AnyNetwork = nnx.Module  # of a user's own, too: called in the same way, but of no class of ours
