"""The one type of all methods: (encoding, references) -> raw maps, and what else it reads."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float

from fam_jax._core.axes import map_axes, sides, spread
from fam_jax._core.brief import called
from fam_jax._core.checks import AnyArray, check_choice, check_float
from fam_jax._core.encoding import Encoding, LayerChoice
from fam_jax._core.frameworks.arrays import as_pytree
from fam_jax._core.pytree import pytree_dataclass
from fam_jax._core.similarity import Similarity, as_similarity, cosine


@pytree_dataclass("needs", "layers", "network")
class Method:
    """A method of explanation: `method(enc, references)` are raw maps; see `fam_jax.methods`.

    A pytree, compiled on its first call for a shape: arrays that `maps` holds are leaves, its
    options are static and compared by value. A method of one's own is a factory of this:

        def strongest(similarity=fam_jax.cosine):
            return Method(similarity, lambda similarity, enc, r: enc.activations.max(-1))

    Attributes:
        similarity: what is being explained.
        maps: (similarity, enc, references [b, d], or the other image's `Encoding` for a method that
            needs it) -> raw maps [b, *space]. With a method `pair(similarity, query, reference)` it
            makes both maps of a pair at once.
        needs: what it reads beside activations, embeddings and pullback. "images": `enc.images`
            and `enc.encoder`; "layers": `enc.layers`; "other": the other image's encoding;
            "tokens": where the patches are, `enc.encoder.tokens`.
        layers: the names of these "layers", or a function that picks them out of all there are.
        network: a function model -> model, for methods that read the network in another way.
    """

    similarity: Similarity
    maps: Callable[[Similarity, Encoding, Any], Array]
    needs: frozenset[str] = frozenset()
    layers: LayerChoice | None = None
    network: Callable | None = None

    def _words(self) -> str:
        more = {name: getattr(self, name) for name in ("needs", "layers", "network")}
        more = {name: value for name, value in more.items() if value}
        return called(Method, (self.similarity, self.maps), more)

    def __post_init__(self) -> None:
        for need in self.needs:
            check_choice("needs", need, ("images", "layers", "other", "tokens"))
        object.__setattr__(self, "similarity", as_similarity(self.similarity))
        object.__setattr__(self, "maps", as_pytree(self.maps))
        object.__setattr__(self, "needs", frozenset(self.needs))

    @property
    def needs_images(self) -> bool:
        """Whether it reads more of the network than its head: then the images must be there."""
        return bool({"images", "layers"} & self.needs) or self.network is not None

    def __call__(
        self, enc: Encoding, references: Float[AnyArray, "b d"] | Encoding
    ) -> Float[Array, "b *space"]:
        """Raw maps of the images in `enc`, one reference each, at least float32.

        All zeros where nothing can be said: not finite activations or embeddings, a zero
        embedding, terms that cancel up to rounding. References may be the encoding of the other
        image of each pair.
        """
        self._check(enc)
        if isinstance(references, Encoding):
            check_pair(enc, references)
            if "other" in self.needs:
                self._check(references)
            else:
                references = references.embeddings
        elif "other" in self.needs:
            raise TypeError(
                "references: this method looks at the other image, too; give its encoding, or use "
                f"explain_pairs (got {type(references).__name__})"
            )
        else:
            check_float("references", references, "batch dimensions")
            if enc.embeddings.shape != references.shape:
                raise ValueError(
                    f"references have shape {references.shape}, embeddings {enc.embeddings.shape}: "
                    "one reference per image is expected (all_pairs(method) takes any number)"
                )
        return _maps(self, enc, references)

    def pair(
        self, query: Encoding, reference: Encoding
    ) -> tuple[Float[Array, "b *space"], Float[Array, "b *other"]]:
        """Raw maps of both images of each pair."""
        check_pair(query, reference)
        self._check(query)
        self._check(reference)
        return _pair(self, query, reference)

    def _check(self, enc: Encoding) -> None:
        check_encoding(enc)
        if "images" in self.needs and enc.images is None:
            raise ValueError("enc: this method reads the images; encode(images, method) keeps them")
        if "layers" in self.needs and enc.layers is None:
            raise ValueError(
                "enc: this method reads other layers, too; encode(images, method) gives them"
            )
        if self.network and enc.readings is not None and self.network not in enc.readings:
            raise ValueError(
                "enc: this method reads the network in another way; encode(images, method) does so"
            )

    def _of(self, enc: Encoding, references: Any) -> Array:
        if isinstance(references, Encoding) and "other" not in self.needs:
            references = references.embeddings
        maps = self.maps(self.similarity, enc, references)
        # A map has the axes of the layer's positions, or those of the inputs'.
        like = [enc.activations.shape] + ([] if enc.images is None else [enc.images.shape])
        ranks = {len(sides(shape)) for shape in like}
        if getattr(maps, "ndim", 0) - 1 not in ranks or len(maps) != len(enc.embeddings):
            got = getattr(maps, "shape", type(maps).__name__)
            axes = "h, w" if ranks == {2} else "*space"
            raise ValueError(
                f"method: expected raw maps [{len(enc.embeddings)}, {axes}] from it, got {got}"
            )
        return maps


@jax.jit
def _maps(method: Method, enc: Encoding, references: Any) -> Array:
    r = references.embeddings if isinstance(references, Encoding) else references
    return zero_unless(explainable(enc.embeddings) & explainable(r), method._of(enc, references))


@jax.jit
def _pair(method: Method, query: Encoding, reference: Encoding) -> tuple[Array, Array]:
    ok = explainable(query.embeddings) & explainable(reference.embeddings)
    both = getattr(method.maps, "pair", None)
    if both is None:
        maps, back = method._of(query, reference), method._of(reference, query)
    else:
        maps, back = both(method.similarity, query, reference)
    return zero_unless(ok, maps), zero_unless(ok, back)


def explainable(embeddings: Float[AnyArray, "b d"]) -> Array:
    """Whether an embedding can be explained: finite and not zero. [b]."""
    return jnp.all(jnp.isfinite(embeddings), axis=-1) & jnp.any(embeddings != 0, axis=-1)


def zero_unless(ok: Array, maps: Array) -> Array:
    """The maps [b, *space], zeros where not `ok` [b] or not finite."""
    ok = ok & jnp.all(jnp.isfinite(maps), axis=map_axes(maps))
    return jnp.where(spread(ok, map_axes(maps)), maps, 0)


def check_encoding(enc: Encoding) -> None:
    """Raise unless `enc` is an `Encoding`."""
    if isinstance(enc, tuple) and enc and all(isinstance(one, Encoding) for one in enc):
        raise TypeError(
            f"expected an Encoding, got those of {len(enc)} layers: take one after the other, "
            "[method(enc, references) for enc in encode(images)]"
        )
    if not isinstance(enc, Encoding):
        raise TypeError(
            f"expected an Encoding, encode(images), got {type(enc).__name__}; make encode with "
            "fam_jax.capture(model, at=...) or fam_jax.encoder(features, head)"
        )


def check_pair(query: Encoding, reference: Encoding) -> None:
    """Raise unless these are encodings of as many images, with embeddings of one size."""
    check_encoding(query)
    check_encoding(reference)
    if query.embeddings.shape != reference.embeddings.shape:
        raise ValueError(
            f"reference: expected embeddings {query.embeddings.shape} like the query's, got "
            f"{reference.embeddings.shape}"
        )


def as_method(method: Any) -> Method:
    """A `Method` as it is; a function (enc, references [b, d]) -> raw maps as one of the cosine."""
    if isinstance(method, Method):
        return method
    try:
        inspect.signature(method).bind(None, None)
    except (TypeError, ValueError):
        got = getattr(method, "__name__", type(method).__name__)
        raise TypeError(
            "method: expected a Method such as fam(), or a function (enc, references) -> maps, "
            f"got {got}"
        ) from None
    return Method(cosine, Partial(_plain, as_pytree(method)))


def _plain(function: Callable, similarity: Similarity, enc: Encoding, references: Array) -> Any:
    return function(enc, references)


def all_pairs(method: Method | Callable) -> Callable[[Encoding, AnyArray], Array]:
    """The method, one that does not look at the other image, for every image with every reference.

    Examples:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(jnp.tanh, lambda A: A.mean((1, 2)))
        >>> enc = encode(jnp.ones((2, 4, 4, 3)))
        >>> fam_jax.all_pairs(fam_jax.fam())(enc, jnp.ones((5, 3))).shape
        (2, 5, 4, 4)
    """
    return Partial(_all_pairs, as_method(method))


def _all_pairs(
    method: Method, enc: Encoding, references: Float[AnyArray, "r d"]
) -> Float[Array, "b r *space"]:
    check_encoding(enc)
    check_float("references", references, "references dimensions")
    d = enc.embeddings.shape[1]
    if references.shape[1] != d:
        raise ValueError(
            f"references have shape {references.shape}, but embeddings have {d} dimensions"
        )
    return _all(method, enc, jnp.asarray(references))


@jax.jit
def _all(method: Method, enc: Encoding, references: Array) -> Array:
    one = lambda r: method(enc, jnp.broadcast_to(r, enc.embeddings.shape))  # noqa: E731
    if "images" in method.needs:  # many copies of the batch as it is
        return jnp.moveaxis(jax.lax.map(one, references), 0, 1)
    return jax.vmap(one, out_axes=1)(references)
