"""A picture compared with others, or with a sentence: maps, what is said, files to take away."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from fam_jax import methods
from fam_jax._core.brief import legible
from fam_jax.apps import choice, drawing, network, pairs, sentences, views
from fam_jax.apps.drawing import ROLES, Side
from fam_jax.apps.live.opened import Background, Opened, Picture, named_facts
from fam_jax.apps.network import Network
from fam_jax.apps.redraw import MAPS
from fam_jax.io import files


class Answer(NamedTuple):
    """Every pair with its maps.

    Attributes:
        about: what the manifest of `fam-jax explain` says of it.
        arrays: those of its maps.npz.
        sides: of every pair the query, and the other picture if it is one.
        lines: what is to be said.
    """

    about: dict[str, Any]
    arrays: dict[str, np.ndarray]
    sides: list[list[Side]]
    lines: list[str]


def of_pictures(
    opened: Opened,
    layer: str,
    method: str,
    query: Picture,
    references: Sequence[Picture],
    background: Background,
) -> Answer:
    """The query with each other picture; a method of "" is the command's choice."""
    net = opened.at(layer)
    name, lines = choice.choose_method(method or None, net, background.called)
    chosen = methods.make(name, opened.similarity, background.embeddings)
    images = [query.image, *(picture.image for picture in references)]
    seen = views.opened(net, opened.fit, chosen.similarity, images, jnp.zeros(0))
    arrays = pairs.of_pictures(net.encode, seen, chosen)
    told = _told(opened, net, name, background, [query, *references], seen, arrays)
    return _answer(net, told, arrays, [query, *references], seen, lines)


def of_sentence(
    opened: Opened,
    layer: str,
    method: str,
    query: Picture,
    sentence: str,
    background: Background,
) -> Answer:
    """The query with a sentence, whose words are told apart."""
    tower = opened.tower
    if tower is None:
        raise ValueError(f"{opened.net.backbone.name} knows no sentences: take a model of CLIP")
    net = opened.at(layer)
    name, lines = choice.choose_method(method or None, net, background.called)
    chosen = methods.make(name, opened.similarity, background.embeddings)
    aims = tower([sentence])
    seen = views.opened(net, opened.fit, chosen.similarity, [query.image], aims)
    arrays = pairs.of_sentences(net.encode, seen, aims, chosen)
    tokens, words = sentences.word_shares(
        net.encode, tower, opened.gates, seen, [sentence], opened.similarity
    )
    arrays |= tokens
    told = _told(opened, net, name, background, [query], seen, arrays) | {
        "texts": [sentence],
        "background_texts": list(background.sentences),
        "text_weights": network.weight_facts(tower),
        "tokenizer": files.file_facts(tower.tokenize.file),
        **words,
    }
    return _answer(net, told, arrays, [query], seen, lines, aims)


def compared(
    opened: Opened,
    net: Network,
    method: str,
    background: Background,
    pictures: Sequence[Picture],
    seen: list,
    arrays: dict[str, np.ndarray],
) -> Answer:
    """The pair with maps that were made already."""
    told = _told(opened, net, method, background, pictures, seen, arrays)
    return _answer(net, told, arrays, pictures, seen, [])


def save(answer: Answer, folder: Path) -> tuple[Path, Path]:
    """Write raw maps and manifest as `fam-jax explain` does; `fam-jax redraw` takes them."""
    files.save_arrays(folder / MAPS, answer.arrays)
    files.write_manifest(folder, command="explain", **answer.about)
    return folder / MAPS, folder / files.MANIFEST


def _told(
    opened: Opened,
    net: Network,
    method: str,
    background: Background,
    pictures: Sequence[Picture],
    seen: list,
    arrays: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    facts = drawing.facts(Path(), [picture.path for picture in pictures], seen)
    for file, picture in zip((facts["query"], *facts["references"]), pictures, strict=True):
        file |= named_facts(picture) | {"relative": picture.name}
    contrastive = background.embeddings is not None
    what = f"{opened.similarity_name} margin" if contrastive else opened.similarity_name
    scores = arrays["scores"].tolist()
    return {
        **opened.facts,
        "layer": net.encode.at,
        "method": method,
        "map_size": None,
        "background": list(background.files),
        "left_out": dict(background.left_out),
        "reading": opened.reader.facts(),
        "scores": [score if np.isfinite(score) else None for score in scores],
        "valid": arrays["valid"].tolist(),
        **facts,
        "fit": opened.fit or net.fit,
        "similarity": opened.similarity_name,
        "figures": drawing.figure_style(net, method, what, contrastive=contrastive),
    }


def _answer(
    net: Network,
    about: dict[str, Any],
    arrays: dict[str, np.ndarray],
    pictures: Sequence[Picture],
    seen: list,
    lines: Sequence[str],
    aims: Any = None,
) -> Answer:
    """The answer, with what is to be said of maps that show nothing."""
    query, *others = pictures
    texts = [f'"{text}"' for text in about.get("texts", ())]
    names = texts or [picture.name for picture in others]
    sides, nearer, said = [], [], [*lines, *views.left_out(query.name, names, seen, about["fit"])]
    said += [f"left out: {reason}" for reason in about["left_out"].values()]
    for i, name in enumerate(names):
        both = [query] if texts else [query, others[i]]
        sides.append(
            [
                Side(picture.image, picture.name, role, i, about, arrays)
                for picture, role in zip(both, ROLES, strict=False)
            ]
        )
        if not arrays["valid"][i]:
            z, *r = (net.encode(view.input[None]).embeddings[0] for view in seen[i])
            said.append(pairs.why((query.name, z), (name, aims[0] if texts else r[0])))
        elif flat := [side.name for side in sides[-1] if side.flat]:
            said.append(" and ".join(f"{legible(one)} is of one colour" for one in flat))
        elif about["figures"]["clipped"] and arrays["scores"][i] < 0:
            nearer.append(legible(name))
    if nearer:
        than = f" than {', '.join(nearer)}" if len(names) > 1 else ""
        said.append(f"the background is nearer{than}: what is drawn is the smaller part")
    return Answer(about, arrays, sides, said)
