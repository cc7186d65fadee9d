"""Projection heads: the small networks that self-supervised training puts on an embedding."""

import re
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from pretrained_ports.models.layers import Stage, batch_norm
from pretrained_ports.models.state import Shapes
from pretrained_ports.models.transformer import gelu, linear

# Where a head's layers are in a model: numbered, so that a plain linear "head.kernel" is none.
LAYER = re.compile(r"head\.(mlp\.)?(\d{1,2})\.\w+")


class ProjectionHead(Stage):
    """Linear layers and batch norms, [b c] -> [b d]; layer i is at "i", as in nn.Sequential.

    Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations" (2020). A
    number without weights is the activation. Nothing is normalised at the end: that is part of the
    loss, and of the cosine similarity.

    A model takes one by an attribute `head` that it calls on its embedding: an empty `Stage` until
    `load(..., head="keep")` finds a head in the file.

    Args:
        shapes: Path -> shape of what is in the layers: "0.kernel" [c d] makes a linear layer (with
            bias if there is "0.bias"), "1.mean" [d] a batch norm (affine if there is "1.scale").
        act: The activation.
        rngs: Random numbers for the initial weights.
        param_dtype: Type of the parameters, and of the computation.

    Examples:
        >>> shapes = {"0.kernel": (8, 6), "1.mean": (6,), "3.kernel": (6, 4), "3.bias": (4,)}
        >>> head = ProjectionHead(shapes, rngs=nnx.Rngs(0))
        >>> head.eval()
        >>> head(jnp.ones((2, 8))).shape, head[3].bias.shape
        ((2, 4), (4,))
    """

    def __init__(
        self,
        shapes: Shapes,
        act: Callable[[Array], Array] = nnx.relu,
        *,
        rngs: nnx.Rngs,
        param_dtype: DTypeLike = jnp.float32,
    ):
        init = {"rngs": rngs, "param_dtype": param_dtype}

        def layer(i: int) -> Callable[[Array], Array]:
            kernel, mean = shapes.get(f"{i}.kernel", ()), shapes.get(f"{i}.mean", ())
            if len(kernel) == 2:  # of others nothing is made: their tensors have no place
                return linear(*kernel, bias=f"{i}.bias" in shapes, **init)
            if len(mean) == 1:
                return batch_norm(*mean, affine=f"{i}.scale" in shapes, **init)
            return act

        last = max(int(path.partition(".")[0]) for path in shapes)
        super().__init__(layer(i) for i in range(last + 1))


class DinoHead(nnx.Module):
    """DINO's head up to its prototypes: layers at "mlp" with GELU, then length 1; [b c] -> [b d].

    Caron et al., "Emerging Properties in Self-Supervised Vision Transformers" (2021).

    Args:
        shapes: As for `ProjectionHead`.
        rngs: Random numbers for the initial weights.
        param_dtype: Type of the parameters, and of the computation.

    Examples:
        >>> head = DinoHead({"0.kernel": (8, 6), "2.kernel": (6, 4)}, rngs=nnx.Rngs(0))
        >>> z = head(jnp.ones((2, 8)))
        >>> z.shape, bool(jnp.allclose((z * z).sum(1), 1))
        ((2, 4), True)
    """

    def __init__(self, shapes: Shapes, *, rngs: nnx.Rngs, param_dtype: DTypeLike = jnp.float32):
        self.mlp = ProjectionHead(shapes, gelu, rngs=rngs, param_dtype=param_dtype)

    def __call__(self, x: Float[Array, "b c"]) -> Float[Array, "b d"]:
        """Apply the head."""
        x = self.mlp(x)
        return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def with_head(build: Callable[..., nnx.Module], shapes: Shapes) -> Callable[..., nnx.Module]:
    """A model's `build`, with the projection head that the shapes of a checkpoint ask for.

    Args:
        build: Makes the model from `rngs=` and `param_dtype=`.
        shapes: Module path -> shape; the head's are at "head.0" ... or "head.mlp.0" ...

    Returns:
        `build` itself if there is no head. A model that takes none (`takes_head`) is made as it is.
    """
    layers = {path.split(".", 1)[1]: s for path, s in shapes.items() if LAYER.fullmatch(path)}
    if not layers:
        return build
    kind = ProjectionHead
    if all(path.startswith("mlp.") for path in layers):
        kind, layers = DinoHead, {p.removeprefix("mlp."): s for p, s in layers.items()}

    def build_both(rngs: nnx.Rngs, param_dtype: DTypeLike) -> nnx.Module:
        model: Any = build(rngs=rngs, param_dtype=param_dtype)
        if takes_head(model):
            model.head = kind(layers, rngs=rngs, param_dtype=param_dtype)
        return model

    return build_both


def takes_head(model: Any) -> bool:
    """Whether a model has a place for a head: an empty `Stage` at "head", called on its embedding.

    Examples:
        >>> from pretrained_ports.models.tiny import Tiny
        >>> takes_head(nnx.eval_shape(lambda: Tiny(rngs=nnx.Rngs(0))))
        True
    """
    place = getattr(model, "head", None)
    return isinstance(place, Stage) and place.is_identity
