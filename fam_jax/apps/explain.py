"""`fam-jax explain`: from picture files to overlays, a figure, raw maps and a manifest."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from PIL import Image

import fam_jax
from fam_jax import plot
from fam_jax._core import frameworks
from fam_jax.apps import choices, explain_text
from fam_jax.io import files, pictures

_SIDE = 256, 512  # pixels of the shorter side of an overlay: at least, at most


def run(
    query: Path,
    references: Sequence[Path],
    *,
    model: str,
    weights: Path | None,
    layer: str | None,
    method: str,
    similarity: str,
    background: Sequence[Path],
    texts: Sequence[str],
    background_texts: Sequence[str],
    tokenizer: Path | None,
    folder: Path,
    overwrite: bool,
    say: Callable[[str], None],
) -> None:
    """Explain files; the arguments are the command's options."""
    import pretrained_ports

    choices.check(method, similarity)
    _refuse_mixtures(references, background, texts, background_texts)
    if method == choices.CONTRASTIVE and not (background or background_texts):
        raise ValueError(
            "--method contrastive shows what makes the pair more alike than others: give them "
            f"with {'--background-text' if texts else '--background'}"
        )
    with files.folder(folder, overwrite=overwrite) as stage:
        paths = [query, *references]
        opened = [pictures.read(path) for path in paths]
        others = pictures.find(background)
        random = str(weights) == choices.RANDOM
        text = None
        if texts and random:
            text = pretrained_ports.create_text(model, tokenizer=tokenizer)
        elif texts:
            text = pretrained_ports.load_text(model, weights, tokenizer)
        aims = text(texts) if text else None
        backbone = choices.backbone(model, weights)
        layer = layer or backbone.layer
        encode = fam_jax.capture(backbone.model, at=layer, tokens=backbone.tokens)
        inputs = np.stack([backbone.preprocess(picture) for picture in opened])
        _refuse_one_cell(backbone, encode, inputs[:1])

        bank = (
            text(background_texts)
            if text and background_texts
            else choices.embed(encode, backbone.preprocess, others)
        )
        rule = choices.method_of(method, similarity, bank)
        what = similarity if bank is None else f"{similarity} margin"
        title = f"{backbone.name}{', random weights' if random else ''}, {method}: {what}"
        views = [_display(backbone.preprocess, picture) for picture in opened]
        if aims is not None:
            names = [f'"{sentence}"' for sentence in texts]
            out = explain_text.explain(encode, inputs, aims, rule)
            explain_text.draw(stage, query, views[0], names, out, title, signed=bank is not None)
        else:
            names = references
            out = _explain_each(encode, inputs, rule)._asdict()
            _draw(stage, paths, views, out, title, signed=bool(others))
        np.savez_compressed(stage / "maps.npz", **cast(dict[str, Any], out))
        written = files.write_manifest(
            stage,
            command="explain",
            model=backbone.name,
            weights=choices.weight_facts(backbone),
            layer=layer,
            method=method,
            similarity=similarity,
            query=files.file_facts(query),
            references=[files.file_facts(path) for path in references],
            background=[files.file_facts(path) for path in others],
            scores=[score if np.isfinite(score) else None for score in out["scores"].tolist()],
            valid=out["valid"].tolist(),
            **(_text_facts(text, texts, background_texts) if texts else {}),
        )
    for i, (name, score, valid) in enumerate(
        zip(names, out["scores"], out["valid"], strict=True), start=1
    ):
        say(f"{what} {score:.4f}  {query} ~ {name}")
        if not valid:
            other = encode(inputs[i : i + 1]).embeddings if aims is None else aims[i - 1 : i]
            embeddings = jnp.concatenate([encode(inputs[:1]).embeddings, other])
            say(f"warning: nothing to show: {_why((query, name), embeddings)}")
    say("\n".join(str(folder / name) for name in written))


def _text_facts(text: Any, texts: Sequence[str], background_texts: Sequence[str]) -> dict[str, Any]:
    return {
        "texts": list(texts),
        "background_texts": list(background_texts),
        "text_weights": choices.weight_facts(text),
        "tokenizer": files.file_facts(text.tokenize.file),
    }


def _refuse_mixtures(
    references: Sequence[Path],
    background: Sequence[Path],
    texts: Sequence[str],
    background_texts: Sequence[str],
) -> None:
    """Pictures are compared with pictures or with sentences, and the background is of that kind."""
    if not (references or texts):
        raise ValueError("nothing to compare with: give a REFERENCE picture or --text")
    if references and texts:
        raise ValueError("give REFERENCE pictures or --text, not both")
    if texts and background:
        raise ValueError("--background goes with REFERENCE pictures; --text has --background-text")
    if background_texts and not texts:
        raise ValueError("--background-text goes with --text; pictures have --background")
    if not all(sentence.strip() for sentence in (*texts, *background_texts)):
        raise ValueError("an empty sentence was given")


def _explain_each(
    encode: fam_jax.Encoder, inputs: np.ndarray, rule: fam_jax.Method
) -> fam_jax.PairExplanation:
    """The first picture with each of the others, pair by pair: one compilation."""
    pairs = [
        fam_jax.explain_pairs(encode, inputs[:1], inputs[i : i + 1], rule)
        for i in range(1, len(inputs))
    ]
    return jax.tree.map(lambda *parts: np.concatenate(parts), *pairs)


def _draw(
    stage: Path,
    paths: Sequence[Path],
    views: Sequence[Image.Image],
    out: Mapping[str, np.ndarray],
    title: str,
    *,
    signed: bool,
) -> None:
    for i, score in enumerate(out["scores"]):
        maps = out["query_maps"][i], out["reference_maps"][i]
        if signed:  # evidence for the background is not drawn
            maps = tuple(np.maximum(map_, 0) for map_ in maps)
        pair = views[0], views[i + 1]
        number = f"-{i + 1}" if len(out["scores"]) > 1 else ""
        for name, view, map_ in zip(("query", "reference"), pair, maps, strict=True):
            Image.fromarray(plot.overlay(view, map_)).save(stage / f"{name}{number}.png")
        names = paths[0].name, paths[i + 1].name
        figure = plot.pair_figure(*pair, *maps, score=float(score), title=title, names=names)
        figure.savefig(stage / f"pair{number}.png")


def _display(preprocess: Any, picture: Image.Image) -> Image.Image:
    """What the network sees of the picture, from the picture's own pixels."""
    box = preprocess.region(picture.size)
    width, height = box[2] - box[0], box[3] - box[1]
    shorter = min(width, height)
    scale = min(max(shorter, _SIDE[0]), _SIDE[1]) / shorter
    size = max(1, round(scale * width)), max(1, round(scale * height))
    return picture.resize(size, Image.Resampling.BICUBIC, box=box)


def _refuse_one_cell(backbone: Any, encode: fam_jax.Encoder, inputs: np.ndarray) -> None:
    """A map of one cell is no map: name the layers that leave more."""
    shape = jax.eval_shape(encode, inputs).activations.shape
    if shape[1] * shape[2] > 1:
        return
    sizes = {}
    for name in frameworks.layers(backbone.model):
        if name.count("."):
            continue
        try:
            other = fam_jax.capture(backbone.model, at=name, tokens=backbone.tokens)
            _, h, w, _ = jax.eval_shape(other, inputs).activations.shape
        except ValueError:
            continue
        if h * w > 1:
            sizes[name] = f"{name} ({h} x {w})"
    raise ValueError(
        f"the layer {encode.at!r} leaves a map of 1 x 1 for pictures of {inputs.shape[1]} x "
        f"{inputs.shape[2]} pixels; take an earlier one with --layer: {', '.join(sizes.values())}"
    )


def _why(paths: Sequence[Path | str], embeddings: Array) -> str:
    for path, z in zip(paths, embeddings, strict=True):
        if not jnp.all(jnp.isfinite(z)):
            return f"the embedding of {path} is not finite"
        if not jnp.any(z):
            return f"the embedding of {path} is zero"
    return f"no evidence at this layer for {paths[0]} ~ {paths[1]}; take another with --layer"
