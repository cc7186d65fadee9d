"""`fam-jax explain`: from picture files to overlays, a figure, raw maps and a manifest."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import typer
from jax import Array

import fam_jax
from fam_jax._core.checks import check_count
from fam_jax.apps import choices, network, options
from fam_jax.apps.errors import one_line_errors
from fam_jax.apps.output import Output
from fam_jax.io import files, pictures
from fam_jax.methods.explain import explain_encodings, run


@one_line_errors
def explain(
    query: Annotated[Path, typer.Argument(metavar="QUERY", help="The picture to explain.")],
    references: Annotated[
        list[Path] | None,
        typer.Argument(metavar="REFERENCE", help="What it is compared with, unless --text is."),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(help="A sentence to compare it with (repeat for more), for CLIP."),
    ] = None,
    model: options.Model = "tiny",
    weights: options.Weights = None,
    head: options.Head = "drop",
    layer: options.Layer = None,
    method: options.Method = "fam",
    similarity: options.Similarity = "cosine",
    background: options.Background = None,
    background_text: Annotated[
        list[str] | None, typer.Option(help="The same for --text: other sentences.")
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="CLIP's tokenizer.json, if it is not to be downloaded.")
    ] = None,
    image_size: options.ImageSize = None,
    map_size: options.MapSize = None,
    output: options.Output = "fam-jax-explain",
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Explain why QUERY and each REFERENCE, or sentence, are alike: overlays, figures, maps."""
    talk, folder = Output(quiet, as_json), Path(output)
    references, texts = references or [], text or []
    others, other_texts = background or [], background_text or []
    _refuse_mixtures(references, others, texts, other_texts)
    choices.check(
        method,
        similarity,
        background=bool(others or other_texts),
        option="--background-text" if texts else "--background",
    )
    if map_size is not None:
        check_count("--map-size", map_size)
    with files.folder(folder, overwrite=overwrite) as stage:
        from fam_jax.apps import drawing

        paths = [query, *references]
        opened = [pictures.read(path) for path in paths]
        others = pictures.find(others)
        tower = _text_tower(model, weights, tokenizer) if texts else None
        aims = tower(texts) if tower else jnp.zeros(0)
        net = network.open_network(model, weights, head, layer, image_size)
        inputs = np.stack([net.preprocess(picture) for picture in opened])
        bank = tower(other_texts) if tower and other_texts else net.embed(others)
        chosen = choices.method_of(method, similarity, bank)
        what = similarity if bank is None else f"{similarity} margin"
        title = f"{net.backbone.name}{', random weights' if net.random else ''}, {method}: {what}"
        views = [drawing.display(net.preprocess, picture) for picture in opened]
        signed = bank is not None
        if texts:
            names = [f'"{sentence}"' for sentence in texts]
            out = _explain_sentences(net.encode, inputs, aims, chosen)
            drawing.sentences(stage, query.name, views[0], names, out, title, signed=signed)
        else:
            names = [str(path) for path in references]
            out = _explain_pictures(net.encode, inputs, chosen)
            shown = [path.name for path in paths]
            drawing.pairs(stage, shown, views, out, title, signed=signed)
        files.save_arrays(stage / "maps.npz", _resized(out, map_size))
        written = files.write_manifest(
            stage,
            command="explain",
            **net.facts(),
            method=method,
            similarity=similarity,
            map_size=map_size,
            query=files.file_facts(query),
            references=[files.file_facts(path) for path in references],
            background=[files.file_facts(path) for path in others],
            scores=[score if np.isfinite(score) else None for score in out["scores"].tolist()],
            valid=out["valid"].tolist(),
            **(_text_facts(tower, texts, other_texts) if texts else {}),
        )
    pairs = []
    for i, (name, score) in enumerate(zip(names, out["scores"].tolist(), strict=True)):
        talk.say(f"{what} {score:.4f}  {query} ~ {name}")
        pair = {"text": texts[i]} if texts else {"reference": name}
        pairs.append({**pair, "score": score, "valid": bool(out["valid"][i])})
        if not out["valid"][i]:
            z = net.encode(inputs[:1]).embeddings[0]
            r = aims[i] if texts else net.encode(inputs[i + 1 : i + 2]).embeddings[0]
            why = _why((str(query), name), (z, r))
            talk.say(f"warning: nothing to show: {why}")
            pairs[-1]["reason"] = why
    listed = [str(folder / name) for name in written]
    talk.say(*listed)
    talk.result(query=str(query), similarity=what, method=method, pairs=pairs, files=listed)


def _text_tower(model: str, weights: str | None, tokenizer: Path | None) -> Any:
    import pretrained_ports

    if weights == network.RANDOM:
        return pretrained_ports.create_text(model, tokenizer=tokenizer)
    return pretrained_ports.load_text(model, weights, tokenizer)


def _text_facts(tower: Any, texts: Sequence[str], others: Sequence[str]) -> dict[str, Any]:
    return {
        "texts": list(texts),
        "background_texts": list(others),
        "text_weights": network.weight_facts(tower),
        "tokenizer": files.file_facts(tower.tokenize.file),
    }


def _refuse_mixtures(
    references: Sequence[Path],
    background: Sequence[str],
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


def _explain_pictures(
    encode: fam_jax.Encoder, inputs: np.ndarray, method: fam_jax.Method
) -> dict[str, np.ndarray]:
    """The first picture with each of the others, every one encoded once, as arrays for a file."""
    query = run(encode, inputs[:1], method)
    pairs = [_pair(query, run(encode, picture[None], method), method) for picture in inputs[1:]]
    out = jax.tree.map(lambda *parts: np.concatenate(parts), *pairs)
    return out._asdict()


_pair = jax.jit(explain_encodings)


def _explain_sentences(
    encode: fam_jax.Encoder, inputs: np.ndarray, sentences: Array, method: fam_jax.Method
) -> dict[str, np.ndarray]:
    """The only picture with the embedding of every sentence, as arrays for a file."""
    maps, scores, valid = fam_jax.explain_all(encode, inputs, sentences, method)
    parts = {"query_maps": maps, "scores": scores, "valid": valid}
    return {name: np.asarray(part[0]) for name, part in parts.items()}


def _resized(out: Mapping[str, np.ndarray], size: int | None) -> dict[str, np.ndarray]:
    """The same with maps of another size."""
    if size is None:
        return dict(out)
    return {
        name: np.asarray(fam_jax.upsample(x, (size, size))) if name.endswith("maps") else x
        for name, x in out.items()
    }


def _why(names: Sequence[str], embeddings: Sequence[Array]) -> str:
    for name, z in zip(names, embeddings, strict=True):
        if not jnp.all(jnp.isfinite(z)):
            return f"the embedding of {name} is not finite"
        if not jnp.any(z):
            return f"the embedding of {name} is zero"
    return f"no evidence at this layer for {names[0]} ~ {names[1]}; take another with --layer"
