"""`fam-jax explain`: from picture files to overlays, a figure, raw maps and a manifest."""

from pathlib import Path
from typing import Annotated, Any

import jax.numpy as jnp
import numpy as np
import typer

import fam_jax
from fam_jax import methods
from fam_jax._core.brief import legible
from fam_jax.apps import choice, network, options, pairs, sentences, views
from fam_jax.apps.output import INCOMPLETE, Output
from fam_jax.io import files, pictures


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
    entry: options.Entry = None,
    grid: options.Grid = None,
    head: options.Head = "drop",
    layer: options.Layer = None,
    gates: options.Gates = None,
    method: options.Method = None,
    similarity: options.Similarity = "cosine",
    background: options.Background = None,
    background_text: Annotated[
        list[str] | None, typer.Option(help="The same for --text: other sentences.")
    ] = None,
    tokenizer: options.Tokenizer = None,
    image_size: options.ImageSize = None,
    fit: options.Fit = None,
    window: options.Window = None,
    page: options.Page = None,
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
    options.check_counts(map_size=map_size, image_size=image_size)
    network.check(head, gates)
    options.check_fit(fit)
    reader = options.reader(window, page)
    with files.folder(folder, overwrite=overwrite) as stage:
        from fam_jax.apps import drawing

        left_out: dict[str, str] = {}
        opened = [reader(query)]
        readable = list(pictures.readable(references, left_out, reader))
        if references and not readable:
            raise ValueError("; ".join(left_out.values()))
        references = [path for path, _ in readable]
        paths, opened = [query, *references], [*opened, *(picture for _, picture in readable)]
        model, source, lines = choice.choose_model(model, weights, text=bool(texts), entry=entry)
        tower = sentences.open_tower(model, source, tokenizer, entry) if texts else None
        aims = tower(texts) if tower else jnp.zeros(0)
        net = network.open_network(
            model, source, head, layer, gates, image_size, entry=entry, grid=grid
        )
        net, lines = views.fitted(net, fit), [*lines, *choice.choices(net)]
        del source
        others = net.embed(others, reader)
        left_out |= others.left_out
        bank = tower(other_texts) if tower and other_texts else others.embeddings
        method, why = choice.choose_method(method, net, "" if bank is None else "the background")
        chosen = methods.make(method, options.SIMILARITIES[similarity], bank)
        what = similarity if bank is None else f"{similarity} margin"
        lines += why
        talk.say(*lines)
        talk.say_left_out(left_out)
        seen = views.opened(net, fit, chosen.similarity, opened, aims)
        if tower:
            names = [f'"{sentence}"' for sentence in texts]
            out = pairs.of_sentences(net.encode, seen, aims, chosen)
        else:
            names = [str(path) for path in references]
            out = pairs.of_pictures(net.encode, seen, chosen)
        if map_size is not None:
            size = (map_size, map_size)
            out |= {k: np.asarray(fam_jax.upsample(out[k], size)) for k in out if "maps" in k}
        facts = {
            **drawing.facts(folder, paths, seen),
            "fit": fit or net.fit,
            "similarity": similarity,
            "figures": drawing.figure_style(net, method, what, contrastive=bank is not None),
        }
        if tower:
            plain = options.SIMILARITIES[similarity]
            tokens, words = sentences.word_shares(net.encode, tower, gates, seen, texts, plain)
            out |= tokens
            facts |= {
                "texts": texts,
                "background_texts": other_texts,
                "text_weights": network.weight_facts(tower),
                "tokenizer": files.file_facts(tower.tokenize.file),
                **words,
            }
        flat = drawing.draw(stage, facts, out, opened)
        files.save_arrays(stage / "maps.npz", out)
        written = files.write_manifest(
            stage,
            command="explain",
            **net.facts(),
            method=method,
            map_size=map_size,
            background=[files.file_facts(path) for path in others.paths],
            left_out=left_out,
            reading=reader.facts(),
            scores=[score if np.isfinite(score) else None for score in out["scores"].tolist()],
            valid=out["valid"].tolist(),
            **facts,
        )
    talk.say(*views.left_out(str(query), names, seen, facts["fit"]))
    answers = []
    for i, (name, score) in enumerate(zip(names, out["scores"].tolist(), strict=True)):
        talk.say(f"{what} {score:.4f}  {legible(query)} ~ {legible(name)}")
        pair: dict[str, Any] = {"text": texts[i]} if texts else {"reference": name}
        if texts and (told := facts["words"][i])["score"] is not None:
            talk.say(sentences.line(told))
            pair |= {"words": told["words"], "apart": told["apart"]}
        answers.append({**pair, "score": score, "valid": bool(out["valid"][i])})
        reason = ""
        if not out["valid"][i]:
            z, *r = (net.encode(view.input[None]).embeddings[0] for view in seen[i])
            reason = pairs.why((str(query), z), (name, aims[i] if texts else r[0]))
        elif flat[i]:
            reason = " and ".join(f"{legible(n)} is of one colour" for n in flat[i])
        if reason:
            answers[-1]["reason"] = reason
            talk.say(f"warning: nothing to show: {reason}")
        elif bank is not None and score < 0:
            talk.say("warning: the background is nearer: what is drawn is the smaller part")
    listed = [str(folder / name) for name in written]
    talk.say(*map(legible, listed))
    talk.result(
        query=str(query),
        model=model,
        similarity=what,
        method=method,
        notes=lines,
        pairs=answers,
        left_out=left_out,
        files=listed,
    )
    raise typer.Exit(INCOMPLETE if left_out else 0)


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
