"""Encoders: images -> the `Encoding` at a layer, at several, of other activations, in two steps."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float

from fam_jax._core.brief import called
from fam_jax._core.checks import AnyArray, check_float, check_plain
from fam_jax._core.encoding import Encoding, LayerChoice, Layers, chosen, pulled
from fam_jax._core.features import Features, cut, join
from fam_jax._core.frameworks import changed, explained, layer_names, readings, with_layers
from fam_jax._core.frameworks.arrays import as_pytree
from fam_jax._core.gates import Frozen, released, released_pullback
from fam_jax._core.mesh import zeros_like
from fam_jax._core.prepare import Images, Inputs, check_inputs, prepare
from fam_jax._core.pytree import pytree_dataclass
from fam_jax._core.tokens import TokenGrid, known_grid
from fam_jax._core.watch import Form, check_embeddings, laid_out, run_watched


@pytree_dataclass("at", "tokens", "layout", "preprocess", "gates")
class Encoder:
    """Images -> `Encoding`; made by `capture` or `encoder`. A pytree: parameters are its leaves.

    Compiled on its first call for a shape. The network is a pure function: what it would write
    into its own state (batch statistics, random streams) is dropped.
    """

    network: Callable[[Array], Array]
    at: str
    tokens: TokenGrid | None = None
    layout: str = "NHWC"
    preprocess: Any = None
    gates: str = "free"

    def _words(self) -> str:
        return _words(self)

    def __call__(self, images: Images, *methods: Any) -> Encoding:
        """Encode a batch of images; see `Encoding`.

        What the methods read beside activations, embeddings and pullback is kept in it.

        Args:
            images: preprocessed images [b, H, W, c], or whatever else the network takes: signals
                [b, t, c], volumes, video, points [b, n, 3], token ids (integers [b, n]). Of a
                backbone also pictures, uint8 [b, H, W, 3] or a list of arrays and PIL images of
                any sizes.
            *methods: those that will be called with the encoding.
        """
        images = prepare("images", images, self.preprocess)
        networks = {method.network for method in methods} or {None}
        if len(networks) > 1:
            raise ValueError("these methods read the network in different ways: encode twice")
        (change,) = networks
        encode = self if change is None else replace(self, network=changed(self.network, change))
        choices = tuple(method.layers for method in methods if "layers" in method.needs)
        (encoding,), _ = _encode(encode, images, choices=choices)
        if any("tokens" in method.needs for method in methods):
            known_grid(self.tokens)
        if any({"images", "layers"} & method.needs for method in methods):
            encoding = replace(encoding, images=jnp.asarray(images), encoder=encode)
        return encoding

    def with_state(self, images: Inputs) -> tuple[Encoding, Any]:
        """The encoding, and what a `flax.nnx` module in training mode writes as it runs.

        One forward pass for everything in a training step: running statistics of batch norm and
        counters of random streams come out, in an `nnx.State` of all variables but the parameters,
        and `nnx.update(model, state)` leaves the model as `model(images)` would.

        Examples:
            >>> import jax.numpy as jnp
            >>> from flax import nnx
            >>> import fam_jax
            >>> class Net(nnx.Module):
            ...     def __init__(self, rngs):
            ...         self.norm = nnx.BatchNorm(3, momentum=0.5, rngs=rngs)
            ...     def __call__(self, images):
            ...         return self.norm(images).mean((1, 2))
            >>> model = Net(nnx.Rngs(0))
            >>> enc, state = fam_jax.capture(model, at="norm").with_state(jnp.ones((2, 4, 4, 3)))
            >>> nnx.update(model, state)
            >>> model.norm.mean[...].tolist()
            [0.5, 0.5, 0.5]
        """
        (encoding,), state = _with_state(self, images)
        return encoding, state

    def replay(self, images: Inputs, activations: Float[AnyArray, "b *space k"]) -> Encoding:
        """The encoding that images would have, were `activations` the layer's output for them.

        What does not go through the layer's map (skip connections around it, a class token) is
        the images' own.
        """
        check_inputs("images", images)
        check_float("activations", activations, "batch *space channels")
        (encoding,), _ = _encode(self, images, activations)
        return encoding

    def features(self, images: Images) -> Features:
        """All that crosses the layer: what `from_features` makes the encoding of.

        `encode.from_features(encode.features(images))` is `encode(images)`, in two steps: the
        first costs the network below the layer, and its rows may be stored, picked and repeated.
        ValueError if a value that crosses the layer is of no single image.

        Examples:
            >>> import jax
            >>> import jax.numpy as jnp
            >>> import fam_jax
            >>> encode = fam_jax.encoder(jnp.tanh, lambda A: A.mean((1, 2)))
            >>> features = encode.features(jnp.ones((2, 4, 4, 3)))
            >>> again = jax.tree.map(lambda x: x[jnp.array([1, 0, 1])], features)
            >>> encode.from_features(again).embeddings.shape
            (3, 3)
        """
        return _features(self, prepare("images", images, self.preprocess))

    def from_features(self, features: Features) -> Encoding:
        """The encoding of the images that `features` are of; only the head is run."""
        if not isinstance(features, Features):
            got = type(features).__name__
            raise TypeError(f"features: expected encode.features(...), got {got}")
        check_plain("features", *jax.tree.leaves(features))
        return _from_features(self, features)


@pytree_dataclass("at", "tokens", "layout", "preprocess", "gates")
class LayersEncoder:
    """Images -> an `Encoding` for each of several layers, from one forward pass; see `capture`."""

    network: Callable[[Array], Array]
    at: tuple[str, ...]
    tokens: TokenGrid | None = None
    layout: str = "NHWC"
    preprocess: Any = None
    gates: str = "free"

    def _words(self) -> str:
        return _words(self)

    def __call__(self, images: Images) -> tuple[Encoding, ...]:
        """Encode a batch of images at every layer, in the order of `at`."""
        return _encode(self, prepare("images", images, self.preprocess))[0]

    def watch(self, images: Inputs) -> Layers:
        """The layers' outputs as they are, maps or not, and the embedding's gradients there.

        Examples:
            >>> import jax.numpy as jnp
            >>> import fam_jax
            >>> def embed(images):
            ...     x = fam_jax.tap(images.reshape(2, 16, 3), "tokens")
            ...     return fam_jax.tap(x.mean(1), "mean")
            >>> out = fam_jax.capture(embed, at=("tokens", "mean")).watch(jnp.ones((2, 4, 4, 3)))
            >>> [x.shape for x in out.values], out.pullback(out.embeddings)[0].shape
            ([(2, 16, 3), (2, 3)], (2, 16, 3))
        """
        check_inputs("images", images)
        return _watch(self, images)

    def with_state(self, images: Inputs) -> tuple[tuple[Encoding, ...], Any]:
        """The encodings, and what the module writes as it runs; see `Encoder.with_state`."""
        return _with_state(self, images)


def check_encoder(encode: Any) -> None:
    """Raise unless it is an encoder of one layer."""
    if not isinstance(encode, Encoder):
        raise TypeError(
            "encode: expected fam_jax.capture(model, at=...) of one layer, or fam_jax.encoder, got "
            f"{type(encode).__name__}"
        )


def _watched(
    encode: Encoder | LayersEncoder, network: Callable, run: Callable[[Callable], Layers]
) -> Layers:
    """What `run` watches in the network, with the encoder's gates in the pullback."""
    if encode.gates == "free":
        return run(network)
    layers = released(lambda: run(Frozen(network)))()
    pull, held = layers.pullback, layers.held
    back = released_pullback(pull.pullback)
    held = None if held is None else replace(held, pullback=back)
    return replace(layers, pullback=replace(pull, pullback=back), held=held)


def _words(encode: Encoder | LayersEncoder) -> str:
    grid = {"tokens": encode.tokens} if encode.tokens else {}
    gates = {"gates": encode.gates} if encode.gates != "free" else {}
    facts = {"at": encode.at, "layout": encode.layout, **grid, **gates}
    return called(type(encode), (encode.network,), facts)


def _with_state(
    encode: Encoder | LayersEncoder, images: AnyArray
) -> tuple[tuple[Encoding, ...], Any]:
    check_inputs("images", images)
    if not hasattr(encode.network, "with_state"):
        raise TypeError("with_state: only an encoder of a flax.nnx module has a state to give")
    return _encode(encode, images, with_state=True)


@partial(jax.jit, static_argnames=("with_state", "choices"))
def _encode(
    encode: Encoder | LayersEncoder,
    images: Array,
    activations: Array | None = None,
    with_state: bool = False,
    choices: tuple[LayerChoice, ...] = (),
) -> tuple[tuple[Encoding, ...], Any]:
    names = (encode.at,) if isinstance(encode.at, str) else encode.at
    further: tuple[str, ...] = ()
    network = encode.network
    if choices:
        every = layer_names(network, laid_out(images, encode.layout))
        wanted = dict.fromkeys(name for c in choices for name in chosen(c, every))
        further = (*(n for n in every if n in wanted), *(n for n in wanted if n not in every))
        if same := {*names} & {*further}:
            raise ValueError(
                f"the method reads the layer {same.pop()!r} as it is, the encoder as a map; "
                "capture another one"
            )
        network = with_layers(network, (*names, *further))
    forms = {name: Form(name, images.shape, encode.tokens, encode.layout) for name in names}
    both = (*names, *further)
    layout = encode.layout
    with explained(network):
        out = _watched(
            encode,
            network,
            lambda net: run_watched(net, both, images, layout, forms, with_state, activations),
        )
    layers = out.pick(further) if choices else None
    read = readings(encode.network)
    encodings = tuple(
        _encoding(out, name, A, layers=layers, readings=read)
        for name, A in zip(names, out.values, strict=False)
    )
    return encodings, out.state


@jax.jit
def _watch(encode: LayersEncoder, images: Array) -> Layers:
    return _watched(
        encode, encode.network, lambda net: run_watched(net, encode.at, images, encode.layout)
    )


@jax.jit
def _features(encode: Encoder, images: Array) -> Features:
    network = encode.network
    with explained(network):
        if encode.gates == "free":
            return cut(network, encode.at, encode.layout, images)
        return released(lambda: cut(Frozen(network), encode.at, encode.layout, images))()


@jax.jit
def _from_features(encode: Encoder, features: Features) -> Encoding:
    at = encode.at

    def run(network: Callable) -> Layers:
        x, head, end = join(network, at, encode.layout, features)
        images = (features.values[0].shape[0], *features.image[0])
        form = Form(at, images, encode.tokens, encode.layout)
        A = form.to_map(x)
        zeros = {at: zeros_like(jax.typeof(A))}
        v, pullback, needed = jax.vjp(
            lambda deltas: head(form.put(x, A + deltas[at])), zeros, has_aux=True
        )
        pull, held = pulled(end, v, needed, pullback, (at,))
        return Layers((at,), (A,), pull.embeddings, pull, held)

    out = _watched(encode, encode.network, run)
    return _encoding(out, at, out.values[0], readings=readings(encode.network))


def _encoding(out: Layers, at: str, A: Array, **read: Any) -> Encoding:
    held = None if out.held is None else out.held.one(at)
    return Encoding(A, out.embeddings, out.pullback.one(at), held, **read)


def as_embedding(model: Callable) -> Callable:
    """Images -> embeddings as a pytree of arrays: of an `Encoder`, or of any function."""
    if isinstance(model, Encoder | LayersEncoder):
        return Partial(_embed, model)
    if not callable(model):
        got = type(model).__name__
        raise TypeError(f"embed: expected a function images -> embeddings or an encoder, got {got}")
    return as_pytree(model)


def _embed(encode: Encoder | LayersEncoder, images: Array) -> Array:
    embeddings = encode.network(laid_out(images, encode.layout))
    check_embeddings(embeddings, images.shape[0])
    return embeddings
