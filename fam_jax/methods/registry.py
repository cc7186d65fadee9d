"""The methods by name: one table for every command, the evaluation, the documents and the tests."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from jaxtyping import Float

from fam_jax._core.checks import AnyArray, check_choice
from fam_jax._core.similarity import Similarity, cosine, margin
from fam_jax.methods import (
    attention,
    baselines,
    cams,
    channels,
    dimensions,
    integrated,
    masks,
    nmf,
    pairs,
    relevance,
    shares,
    steps,
    windows,
)
from fam_jax.methods.method import Method, as_method


class Entry(NamedTuple):
    """A row of the table: a factory similarity -> `Method`."""

    factory: Callable[[Similarity], Method]
    background: str = "optional"  # "needed" where the similarity must be a margin
    against: Callable[[Similarity], Method] | None = None  # the factory for one, if another
    copies: bool = False  # runs the network on many copies of the pictures, or as slow a loop


# Min-max would undo what the background does: contrastive FAM takes signed shares.
_SIGNED = partial(shares.fam, normalize="none")
_METHODS: dict[str, Entry] = {
    # weights from the similarity's shares
    "fam": Entry(shares.fam, against=_SIGNED),
    "fam-signed": Entry(_SIGNED),
    "fam-contrastive": Entry(_SIGNED, "needed"),
    "fam-contrastive-minmax": Entry(shares.fam, "needed"),
    "decomposition": Entry(shares.decomposition),
    "contrastive": Entry(shares.decomposition, "needed"),
    # weights from gradients
    "grad-cam": Entry(cams.grad_cam),
    "grad-cam-free": Entry(partial(cams.grad_cam, norms="free")),
    "grad-cam-contrastive": Entry(cams.grad_cam, "needed"),
    "grad-cam-pp": Entry(cams.grad_cam_pp),
    "xgrad-cam": Entry(cams.xgrad_cam),
    "layer-cam": Entry(cams.layer_cam),
    "hires-cam": Entry(cams.hires_cam),
    "hires-cam-free": Entry(partial(cams.hires_cam, norms="free")),
    "contrastive-free": Entry(partial(cams.hires_cam, norms="free"), "needed"),
    "fggb": Entry(dimensions.fggb, copies=True),
    # relevance and attention
    "relevance-cam": Entry(relevance.relevance_cam),
    "relevance-cam-contrastive": Entry(relevance.relevance_cam, "needed"),
    "attention-rollout": Entry(attention.attention_rollout),
    "chefer": Entry(attention.chefer),
    "le-grad": Entry(attention.le_grad),
    "le-grad-contrastive": Entry(partial(attention.le_grad, signed=True), "needed"),
    "grad-eclip": Entry(attention.grad_eclip),
    # both images
    "interaction-cam": Entry(pairs.interaction_cam),
    "point-to-point": Entry(pairs.point_to_point, copies=True),
    "nmf-concepts": Entry(nmf.nmf_concepts, copies=True),
    "integrated-pair": Entry(partial(integrated.integrated_pair, steps=8), copies=True),
    # forward passes of changed pictures
    "occlusion": Entry(windows.occlusion, copies=True),
    "score-cam": Entry(partial(channels.score_cam, channels=64), copies=True),
    "rise": Entry(partial(masks.rise, masks=500), copies=True),
    "corr-rise": Entry(masks.corr_rise, copies=True),
    "lots": Entry(steps.lots, copies=True),
    # baselines
    "random": Entry(baselines.random_baseline),
    "centre": Entry(baselines.centre_baseline),
    "activation-sum": Entry(baselines.activation_sum),
    "eigen-cam": Entry(baselines.eigen_cam),
}


def names() -> list[str]:
    """The names of all methods, in the order of the table.

    Examples:
        >>> from fam_jax import methods
        >>> "decomposition" in methods.names()
        True
    """
    return list(_METHODS)


def entry(name: str) -> Entry:
    """The row of a name; ValueError that names the nearest if there is none."""
    check_choice("method", name, _METHODS)
    return _METHODS[name]


def register(
    name: str, factory: Callable[[Similarity], Method], *, background: str = "optional"
) -> None:
    """Give a method of your own a name, by which every command and the evaluation know it.

    The background is "needed" for a method that makes sense with a `margin` only.

    Examples:
        >>> import fam_jax
        >>> def strongest(similarity=fam_jax.cosine):
        ...     return fam_jax.Method(similarity, lambda s, enc, r: enc.activations.max(-1))
        >>> fam_jax.methods.register("strongest", strongest)
        >>> fam_jax.methods.make("strongest").similarity
        Cosine()
    """
    check_choice("background", background, ("optional", "needed"))
    if name in _METHODS and _METHODS[name].factory is not factory:
        raise ValueError(f"name: {name!r} is another method's")
    if not callable(factory):
        raise TypeError(f"factory: expected similarity -> Method, got {type(factory).__name__}")
    as_method(factory(cosine))
    _METHODS[name] = Entry(factory, background)


def make(
    name: str, similarity: Similarity = cosine, background: Float[AnyArray, "n d"] | None = None
) -> Method:
    """A method by its name.

    Given a background, embeddings of other images, it explains what makes a pair more alike than
    these; `fam` then takes signed shares.

    Examples:
        >>> import jax.numpy as jnp
        >>> from fam_jax import methods
        >>> type(methods.make("contrastive", background=jnp.ones((3, 8)))).__name__
        'Method'
    """
    row = entry(name)
    if background is not None:
        return as_method((row.against or row.factory)(margin(similarity, background)))
    if row.background == "needed":
        raise ValueError(
            f"method: {name} shows what makes a pair more alike than others; give a background"
        )
    return as_method(row.factory(similarity))
