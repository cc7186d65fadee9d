"""Encoders: of a model and the name of a layer (`capture`), of two functions (`encoder`)."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, overload, runtime_checkable

import jax
from jaxtyping import Array

from fam_jax._core.brief import brief
from fam_jax._core.checks import check_choice, check_plain
from fam_jax._core.encoder import Encoder, LayersEncoder
from fam_jax._core.frameworks import tapped_model
from fam_jax._core.frameworks.arrays import as_pytree
from fam_jax._core.gates import GATES
from fam_jax._core.outputs import Chosen
from fam_jax._core.pytree import pytree_dataclass
from fam_jax._core.tap import tap
from fam_jax._core.tokens import TokenGrid, as_token_grid


@runtime_checkable
class Backbone(Protocol):
    """A network that says where it is to be explained, as `pretrained_ports.load` gives it."""

    @property
    def model(self) -> Any:
        """The network, as `capture` takes one."""

    @property
    def layer(self) -> str:
        """Where maps are taken."""
        ...

    @property
    def tokens(self) -> Any:
        """Where the patches are, for layers that give tokens."""


@overload
def capture(
    model: Callable | Backbone,
    at: str | None = None,
    tokens: TokenGrid | tuple | None = None,
    layout: str = "NHWC",
    gates: str | None = None,
    output: str | int | Callable[[Any], Any] | None = None,
) -> Encoder: ...
@overload
def capture(
    model: Callable | Backbone,
    at: Sequence[str],
    tokens: TokenGrid | tuple | None = None,
    layout: str = "NHWC",
    gates: str | None = None,
    output: str | int | Callable[[Any], Any] | None = None,
) -> LayersEncoder: ...
def capture(
    model: Callable | Backbone,
    at: str | Sequence[str] | None = None,
    tokens: TokenGrid | tuple | None = None,
    layout: str = "NHWC",
    gates: str | None = None,
    output: str | int | Callable[[Any], Any] | None = None,
) -> Encoder | LayersEncoder:
    """An encoder from a model and the name of one of its layers; the model stays as it is.

    Args:
        model: images -> embeddings, used as it is now (no array is copied; make a new encoder
            after an update), in evaluation mode: one in training mode is warned of, unless the
            encoder's `with_state` is called. Its arrays become the encoder's leaves. One of:

            - a `flax.nnx` module;
            - a `flax.linen` module with its variables: `module.bind(variables)`, or
              `functools.partial(module.apply, variables)`;
            - an `equinox` module that takes a batch; `equinox.filter_vmap(module)` for one that
              takes an image. A module with a state (batch statistics) needs one around it that
              holds the state and calls it;
            - a built Keras 3 model, with KERAS_BACKEND=jax;
            - haiku: `functools.partial(net.apply, params, rng)`, with the state behind params where
              there is one;
            - a method bound to one of these, or a `functools.partial` with its keywords
              (`train=False`);
            - a pure function that calls `fam_jax.tap(x, at)`; arrays that its closure, its object,
              a partial or the globals it names hold are its parameters. Programs are compiled for
              the function, not for what it says: one that is made anew for every call (a lambda, a
              function in a loop) compiles anew each time, and what was compiled stays in memory.
              Define it once, and pass new parameters by `functools.partial`. Of a module,
              encoders that are made anew share their programs;
            - a backbone of `pretrained_ports`, which brings its own layer, tokens and
              preprocessing: its encoder takes pictures of 8 bits as well, that of a text tower
              sentences, a list of strings.
        at: the layer: a path as the framework writes it, joined by dots ("layer4.2", "blocks.10",
            "Block_0.Conv_1", a Keras layer's name), or a tap's name. With several of them the
            encoder gives a tuple, an `Encoding` of each, from one forward pass (see `fuse`). In a
            scan (`nn.scan`, `nnx.scan`, `lax.scan`, `fori_loop`) it is the layer at one step, as
            its parameters are stacked: "encoderblock[10].MlpBlock_0", "[-1]" for the last, from the
            outermost scan inwards. Of a layer that gives several arrays "block:1" is one; without a
            number, the only one of three axes or more. Only a backbone has a layer of its own. A
            name that is none raises ValueError with the names that there are; for linen, which
            makes its layers as it runs, on the first call.
        tokens: where the patches are, for layers that give tokens [b, n, c] of images, volumes or
            video: a `TokenGrid`, or a tuple (prefix, shape). A layer that gives a map, with as many
            axes as its input, needs none.
        gates: "frozen" holds what attention, norms and gated units multiply by constant in the
            backward pass, so that a transformer is affine in its tokens and its maps sum to the
            score less the biases' part; the forward pass is the same. If None: a backbone's own,
            else "free".
        output: which array is the embedding, where the model returns several: a key, an index, a
            path of them ("pooler_output", 0, "text.0"), or a function of what it returns. If None:
            the only one of shape [b, d].
        layout: "NCHW" for a model that takes images and gives maps channels first, whatever their
            number of axes. The encoder itself takes and gives [b, h, w, c] all the same.

    Examples:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import fam_jax
        >>> class Net(nnx.Module):
        ...     def __init__(self, rngs):
        ...         self.conv = nnx.Conv(3, 8, (3, 3), rngs=rngs)
        ...     def __call__(self, images):
        ...         return nnx.relu(self.conv(images)).mean((1, 2))
        >>> encode = fam_jax.capture(Net(nnx.Rngs(0)), at="conv")
        >>> encode(jnp.ones((2, 16, 16, 3))).activations.shape
        (2, 16, 16, 8)
    """
    check_choice("layout", layout, ("NHWC", "NCHW"))
    preprocess = None
    # A text tower is called on sentences; its model on token ids.
    if isinstance(model, Backbone) and (not callable(model) or hasattr(model, "tokenize")):
        at = model.layer if at is None else at
        tokens = model.tokens if tokens is None else tokens
        gates = getattr(model, "gates", "free") if gates is None else gates
        model, preprocess = model.model, getattr(model, "preprocess", None)
    gates = "free" if gates is None else gates
    check_choice("gates", gates, GATES)
    names = _layer_names(at)
    if not callable(model):
        raise TypeError(f"model: expected a module or a function, got {type(model).__name__}")
    network, tokens = tapped_model(model, names) or as_pytree(model), as_token_grid(tokens)
    check_plain("weights", *jax.tree.leaves(network))
    if not isinstance(output, str | int | None):
        if not callable(output):
            got = type(output).__name__
            raise TypeError(f"output: expected a key, an index, a path or a function, got {got}")
        network = Chosen(network, function=as_pytree(output))
    else:
        network = Chosen(network, key=output)
    if isinstance(at, str):
        return Encoder(network, at, tokens, layout, preprocess, gates)
    return LayersEncoder(network, names, tokens, layout, preprocess, gates)


def encoder(
    features: Callable[[Array], Array],
    head: Callable[[Array], Array],
    tokens: TokenGrid | tuple | None = None,
) -> Encoder:
    """An encoder from two pure functions: A = features(images), z = head(A).

    The arrays that the functions hold become its leaves, as for `capture`.

    Args:
        features: images [b, H, W, C] -> activations [b, h, w, c] (or tokens, with `tokens`); or
            other inputs -> [b, *space, c].
        head: activations -> embeddings [b, d].
        tokens: as for `capture`, if `features` gives [b, n, c].

    Examples:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(jnp.tanh, lambda activations: activations.mean((1, 2)))
        >>> encode(jnp.ones((2, 4, 4, 3))).activations.shape
        (2, 4, 4, 3)
    """
    network = _Composition(as_pytree(features), as_pytree(head))
    check_plain("weights", *jax.tree.leaves(network))
    return Encoder(network, at="activations", tokens=as_token_grid(tokens))


@pytree_dataclass()
class _Composition:
    features: Callable
    head: Callable

    def _words(self) -> str:
        return f"{brief(self.features)} -> {brief(self.head)}"

    def __call__(self, images: Array) -> Array:
        return self.head(tap(self.features(images), "activations"))


def _layer_names(at: Any) -> tuple[str, ...]:
    names = (at,) if isinstance(at, str) else at
    if not isinstance(names, tuple | list) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"at: expected a layer's name, or several, got {type(at).__name__}")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"at: expected different layers, at least one, got {list(names)}")
    return tuple(names)
