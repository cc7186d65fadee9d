"""The methods by the names the command line knows them by, and the baselines beside them."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

import fam_jax
from fam_jax import metrics
from fam_jax._core.checks import check_choice
from fam_jax.evaluate.network import Network

_MASKS = 500  # random masks of a picture
_CHANNELS = 64  # the most active ones that Score-CAM tries
_STEPS = 8  # on the path from zero activations to an image's


class Ask(NamedTuple):
    """A question to a method: why are these images like their references?

    Attributes:
        images: [b H W c].
        references: their references' embeddings [b d].
        background: embeddings of others [n d].
        key: random numbers.
        others: the references themselves, where they are images, [b H W c].
    """

    images: np.ndarray
    references: np.ndarray
    background: np.ndarray
    key: jax.Array
    others: np.ndarray | None = None

    def turned(self, embeddings: np.ndarray) -> "Ask":
        """The same of the reference images; `embeddings` are those of the images."""
        return self._replace(images=self.others, references=embeddings, others=self.images)


Explain = Callable[[Ask], jax.Array]


class Unfit(Exception):  # noqa: N818 - no error: a method that has nothing to say here
    """Why a method cannot be asked about a network or a task."""


def _encoded(make: Callable[[np.ndarray], fam_jax.Method]) -> Callable[[Network], Explain]:
    """A method of the encoding; `make` gets the background."""

    def on(network: Network) -> Explain:
        return lambda ask: (
            fam_jax.explain(network.encode, ask.images, ask.references, make(ask.background)).maps
        )

    return on


def _contrastive(make: Callable[[fam_jax.Similarity], fam_jax.Method]):
    return _encoded(lambda background: make(fam_jax.margin(fam_jax.cosine, background)))


def _plain(method: fam_jax.Method) -> Callable[[Network], Explain]:
    return _encoded(lambda background: method)


def _random(network: Network) -> Explain:
    grid = network.grid()
    return lambda ask: metrics.random_map(ask.key, (len(ask.images), *grid))


def _centre(network: Network) -> Explain:
    grid = network.grid()
    return lambda ask: metrics.centre_gaussian((len(ask.images), *grid))


def _relevance(make: Callable[[np.ndarray], fam_jax.Method]) -> Callable[[Network], Explain]:
    def on(network: Network) -> Explain:
        if network.backbone.tokens is not None:
            raise Unfit("has rules for convolutional networks only")
        encode = network.capture(fam_jax.relevance(network.backbone.model))
        return lambda ask: (
            fam_jax.explain(encode, ask.images, ask.references, make(ask.background)).maps
        )

    return on


def _pair(maps: Callable[[fam_jax.Encoding, fam_jax.Encoding], jax.Array]):
    """A method that looks at the activations of both images."""

    @jax.jit
    def run(encode, images, others):
        return maps(encode(images), encode(others))

    def on(network: Network) -> Explain:
        def explain(ask: Ask) -> jax.Array:
            if ask.others is None:
                raise Unfit("needs a reference that is one image")
            return run(network.encode, ask.images, ask.others)

        return explain

    return on


def _integrated(network: Network) -> Explain:
    """What each position of the query shares with the whole reference."""

    def explain(ask: Ask) -> jax.Array:
        if ask.others is None:
            raise Unfit("needs a reference that is one image")
        found = fam_jax.integrated_pair(network.encode, ask.images, ask.others, steps=_STEPS)
        return found.maps.sum((3, 4))

    return explain


def _masked(method: Callable, *, random: bool = False, **options) -> Callable[[Network], Explain]:
    """A perturbation method."""

    def on(network: Network) -> Explain:
        def explain(ask: Ask) -> jax.Array:
            keys = (ask.key,) if random else ()
            return method(network.encode, ask.images, ask.references, *keys, **options)

        return explain

    return on


def _attention(
    method: Callable, layers: Callable = fam_jax.attention_layers, *, blind: bool = False
) -> Callable[[Network], Explain]:
    def on(network: Network) -> Explain:
        if network.backbone.tokens is None:
            raise Unfit("is for vision transformers")
        model = network.backbone.model
        watch = fam_jax.watch(model, at=layers(model))
        tokens = fam_jax.TokenGrid(*network.backbone.tokens)
        if blind:
            return lambda ask: method(watch, ask.images, tokens)
        return lambda ask: method(watch, ask.images, ask.references, tokens)

    return on


def _last_attention(model: Any) -> tuple[str, str]:
    """The queries, keys and values of the last attention, and its matrices."""
    last = fam_jax.attention_layers(model)[-1]
    return last.replace("attn_drop", "qkv"), last


@jax.jit
def _positive_feature_maps(encode, images, references):
    return fam_jax.fggb(encode(images), references).positive


def _fggb(network: Network) -> Explain:
    return lambda ask: _positive_feature_maps(network.encode, ask.images, ask.references)


RULES: dict[str, Callable[[Network], Explain]] = {
    # what any method must beat
    "random": _random,
    "centre": _centre,
    "activation-sum": _plain(fam_jax.activation_sum()),
    "eigen-cam": _plain(fam_jax.eigen_cam()),
    # weights from the similarity's shares
    "fam": _plain(fam_jax.fam()),
    "fam-signed": _plain(fam_jax.fam(normalize="none")),
    "fam-contrastive": _contrastive(partial(fam_jax.fam, normalize="none")),
    "fam-contrastive-minmax": _contrastive(fam_jax.fam),
    "decomposition": _plain(fam_jax.decomposition()),
    "contrastive": _encoded(fam_jax.contrastive),
    # weights from gradients
    "grad-cam": _plain(fam_jax.grad_cam()),
    "grad-cam-free": _plain(fam_jax.grad_cam(norms="free")),
    "grad-cam-contrastive": _contrastive(fam_jax.grad_cam),
    "grad-cam-pp": _plain(fam_jax.grad_cam_pp()),
    "xgrad-cam": _plain(fam_jax.xgrad_cam()),
    "layer-cam": _plain(fam_jax.layer_cam()),
    "hires-cam-free": _plain(fam_jax.hires_cam(norms="free")),
    "contrastive-free": _contrastive(partial(fam_jax.hires_cam, norms="free")),
    "fggb": _fggb,
    # relevance and attention
    "relevance-cam": _relevance(lambda background: fam_jax.relevance_cam()),
    "relevance-cam-contrastive": _relevance(
        lambda background: fam_jax.relevance_cam(fam_jax.margin(fam_jax.cosine, background))
    ),
    "attention-rollout": _attention(fam_jax.attention_rollout, blind=True),
    "chefer": _attention(fam_jax.chefer),
    "le-grad": _attention(fam_jax.le_grad),
    "grad-eclip": _attention(fam_jax.grad_eclip, _last_attention),
    # both images' activations
    "interaction-cam": _pair(lambda a, b: fam_jax.interaction_cam().pair(a, b)[0]),
    "nmf-concepts": _pair(lambda a, b: fam_jax.nmf_concepts(a, b).query_maps),
    "integrated-pair": _integrated,
    # forward passes only
    "occlusion": _masked(fam_jax.occlusion),
    "score-cam": _masked(fam_jax.score_cam, channels=_CHANNELS),
    "rise": _masked(fam_jax.rise, random=True, masks=_MASKS),
    "corr-rise": _masked(fam_jax.corr_rise, random=True, masks=_MASKS),
    "lots": _masked(fam_jax.lots),
}

_SLOW = (
    "fggb", "nmf-concepts", "integrated-pair", "occlusion", "score-cam", "rise", "corr-rise",
    "lots",
)  # fmt: skip
GROUPS = {
    "all": tuple(RULES),
    "quick": tuple(name for name in RULES if name not in _SLOW),
    "baselines": (
        "random", "centre", "activation-sum", "eigen-cam", "grad-cam", "decomposition",
    ),
    "main": (
        "random", "centre", "activation-sum", "eigen-cam", "fam", "fam-contrastive",
        "decomposition", "contrastive", "grad-cam", "grad-cam-free", "hires-cam-free",
        "contrastive-free", "relevance-cam",
    ),
}  # fmt: skip


def named(names: Iterable[str]) -> list[str]:
    """The methods' names, each group in its place; each name once, in the order given.

    Raises:
        ValueError: for an unknown name.
    """
    found = []
    for name in names:
        check_choice("--methods", name, (*RULES, *GROUPS))
        found += GROUPS.get(name, (name,))
    if not found:
        raise ValueError("--methods: no method is named; see fam-jax evaluate --help")
    return list(dict.fromkeys(found))
