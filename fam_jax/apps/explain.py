"""`fam-jax explain`: from picture files to overlays, a figure, raw maps and a manifest."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import typer
from jax import Array

import fam_jax
from fam_jax import methods
from fam_jax.apps import choice, network, options
from fam_jax.apps.output import INCOMPLETE, Output
from fam_jax.io import files, pictures
from fam_jax.methods.explain import explain_encodings, run


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
    model: options.Model = None,
    weights: options.Weights = None,
    head: options.Head = "drop",
    layer: options.Layer = None,
    method: options.Method = None,
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
    options.check(
        method,
        similarity,
        background=bool(others or other_texts),
        option="--background-text" if texts else "--background",
    )
    options.check_counts(map_size=map_size)
    with files.folder(folder, overwrite=overwrite) as stage:
        from fam_jax.apps import drawing

        left_out: dict[str, str] = {}
        opened = [pictures.read(query)]
        readable = list(pictures.readable(references, left_out))
        if references and not readable:
            raise ValueError("; ".join(left_out.values()))
        references = [path for path, _ in readable]
        paths, opened = [query, *references], [*opened, *(picture for _, picture in readable)]
        model, lines = choice.choose_model(model, weights, text=bool(texts))
        tower = _text_tower(model, weights, tokenizer) if texts else None
        aims = tower(texts) if tower else jnp.zeros(0)
        net = network.open_network(model, weights, head, layer, image_size)
        inputs = np.stack([net.preprocess(picture) for picture in opened])
        others = net.embed(others)
        left_out |= others.left_out
        bank = tower(other_texts) if tower and other_texts else others.embeddings
        method, why = choice.choose_method(method, net, "" if bank is None else "the background")
        chosen = methods.make(method, options.SIMILARITIES[similarity], bank)
        what = similarity if bank is None else f"{similarity} margin"
        lines += why
        talk.say(*lines)
        talk.say_left_out(left_out)
        random = ", random weights" if net.backbone.report is None else ""
        title = f"{net.backbone.name}{random}, {method}: {what}"
        views = [drawing.display(net.preprocess, picture) for picture in opened]
        if tower:
            names = [f'"{sentence}"' for sentence in texts]
            out = _of_sentences(net.encode, inputs, aims, chosen)
        else:
            names = [str(path) for path in references]
            out = _of_pictures(net.encode, inputs, chosen)
        # Of signed maps the negative part, evidence for the background, is not drawn.
        shown = out if bank is None else _with_maps(out, partial(np.maximum, 0))
        facts = {}
        if tower:
            drawing.sentences(stage, query.name, views[0], names, shown, title)
            facts = {
                "texts": texts,
                "background_texts": other_texts,
                "text_weights": network.weight_facts(tower),
                "tokenizer": files.file_facts(tower.tokenize.file),
            }
        else:
            drawing.pairs(stage, [path.name for path in paths], views, shown, title)
        if map_size is not None:
            out = _with_maps(out, partial(fam_jax.upsample, size=(map_size, map_size)))
        files.save_arrays(stage / "maps.npz", out)
        written = files.write_manifest(
            stage,
            command="explain",
            **net.facts(),
            method=method,
            similarity=similarity,
            map_size=map_size,
            query=files.file_facts(query),
            references=[files.file_facts(path) for path in references],
            background=[files.file_facts(path) for path in others.paths],
            left_out=left_out,
            scores=[score if np.isfinite(score) else None for score in out["scores"].tolist()],
            valid=out["valid"].tolist(),
            **facts,
        )
    pairs = []
    for i, (name, score) in enumerate(zip(names, out["scores"].tolist(), strict=True)):
        talk.say(f"{what} {score:.4f}  {query} ~ {name}")
        pair = {"text": texts[i]} if texts else {"reference": name}
        pairs.append({**pair, "score": score, "valid": bool(out["valid"][i])})
        if not out["valid"][i]:
            z = net.encode(inputs[:1]).embeddings[0]
            r = aims[i] if texts else net.encode(inputs[i + 1 : i + 2]).embeddings[0]
            pairs[-1]["reason"] = _why((str(query), z), (name, r))
            talk.say(f"warning: nothing to show: {pairs[-1]['reason']}")
    listed = [str(folder / name) for name in written]
    talk.say(*listed)
    talk.result(
        query=str(query),
        model=model,
        similarity=what,
        method=method,
        notes=lines,
        pairs=pairs,
        left_out=left_out,
        files=listed,
    )
    raise typer.Exit(INCOMPLETE if left_out else 0)


def _text_tower(model: str, weights: str | None, tokenizer: Path | None) -> Any:
    import pretrained_ports

    if weights == network.RANDOM:
        return pretrained_ports.create_text(model, tokenizer=tokenizer)
    return pretrained_ports.load_text(model, weights, tokenizer)


def _refuse_mixtures(references: list, others: list, texts: list, other_texts: list) -> None:
    """Pictures are compared with pictures or with sentences, and the background is of that kind."""
    refusals = {
        "nothing to compare with: give a REFERENCE picture or --text": not (references or texts),
        "give REFERENCE pictures or --text, not both": references and texts,
        "--background goes with REFERENCE pictures; --text has --background-text": texts and others,
        "--background-text goes with --text; pictures have --background": other_texts and not texts,
        "an empty sentence was given": not all(map(str.strip, (*texts, *other_texts))),
    }
    for message, wrong in refusals.items():
        if wrong:
            raise ValueError(message)


_pair = jax.jit(explain_encodings)


def _of_pictures(encode: fam_jax.Encoder, inputs: np.ndarray, method: fam_jax.Method) -> dict:
    """The first picture with each of the others, every one encoded once, as arrays for a file."""
    query = run(encode, inputs[:1], method)
    pairs = [_pair(query, run(encode, picture[None], method), method) for picture in inputs[1:]]
    return jax.tree.map(lambda *parts: np.concatenate(parts), *pairs)._asdict()


def _of_sentences(encode: fam_jax.Encoder, inputs: Any, texts: Array, method: Any) -> dict:
    """The only picture with the embedding of every sentence, as arrays for a file."""
    out = fam_jax.explain_all(encode, inputs, texts, method)
    maps, scores, valid = (np.asarray(part[0]) for part in out)
    return {"query_maps": maps, "scores": scores, "valid": valid}


def _with_maps(out: Mapping[str, np.ndarray], change: Callable) -> dict[str, np.ndarray]:
    return {k: np.asarray(change(x)) if k.endswith("maps") else x for k, x in out.items()}


def _why(*images: tuple[str, Array]) -> str:
    for name, z in images:
        if not jnp.all(jnp.isfinite(z)):
            return f"the embedding of {name} is not finite"
        if not jnp.any(z):
            return f"the embedding of {name} is zero"
    names = " ~ ".join(name for name, _ in images)
    return f"no evidence at this layer for {names}; take another with --layer"
