"""`fam-jax retrieve`: the nearest pictures of an index, and why."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import jax
import numpy as np
import typer

from fam_jax._core.brief import legible
from fam_jax._core.extras import needed
from fam_jax.apps import choice, indexed, options
from fam_jax.apps.output import INCOMPLETE
from fam_jax.io import files
from fam_jax.methods.registry import entry
from fam_jax.store import VALID


def retrieve(
    queries: Annotated[list[str], typer.Argument(metavar="QUERY...", help="Pictures.")],
    index: Annotated[str, options.INDEX] = "fam-jax-index",
    top: Annotated[int, typer.Option(help="Hits of a query.")] = 5,
    model: options.Model = None,
    weights: options.Weights = None,
    fit: options.Fit = None,
    method: options.Method = None,
    similarity: options.Similarity = "cosine",
    background: options.Background = None,
    map_size: options.MapSize = None,
    batch: options.Batch = 32,
    partial: options.Partial = False,
    maps: Annotated[
        str | None, typer.Option(help="Keep the maps in this store, as fam-jax map does.")
    ] = None,
    distributed: options.Distributed = False,
    coordinator: options.Coordinator = None,
    processes: options.Processes = None,
    process: options.Process = None,
    output: options.Output = "fam-jax-report",
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Find the nearest pictures of an index, exactly, and show why on both sides of every hit.

    The network is the index's; --weights says where its checkpoint is, if it was moved; --model
    names it where an index that was made from Python does not. Methods
    that need a background compare with all pictures of the index, unless --background is given; on
    the query's side, leaving out the hit itself would change a map by a factor alone. Exit code 3:
    a picture could not be read, or a hit has no maps. With --distributed every host searches its
    part of the index, and the first writes the page.
    """
    from fam_jax import bulk
    from fam_jax.apps import hosts, jobs
    from fam_jax.report import write

    options.check(method, similarity, background=True)
    options.check_fit(fit, job=True)
    options.check_counts(batch=batch, top=top, map_size=map_size)
    files.refuse(Path(output), overwrite=overwrite)
    with needed("a page needs", "report"):  # before the search, whose end it is
        import jinja2  # noqa: F401
    if distributed and maps is None:
        raise ValueError("--distributed: the hosts write one store; say where all reach it: --maps")
    if distributed:
        hosts.join(coordinator, processes, process)
    queries = list(dict.fromkeys(queries))
    gallery, status, net, reader, lines = indexed.open_indexed(
        index, model, weights, fit, partial=partial
    )
    what = "the background" if background else "all pictures of the index"
    compared = background or np.sum(status == VALID) > 1
    method, why = choice.choose_method(method, net, what if compared else "")
    others = net.embed(background or [], reader)
    bank, facts = others.embeddings, jobs.background_facts(others)
    if bank is None and entry(method).background == "needed":
        bank, facts = gallery.background(options.SIMILARITIES[similarity]), {"background": what}
    told = jobs.explaining(net, method, similarity, bank, map_size, **facts)
    talk, lines = jobs.output(quiet, as_json), [*lines, *why]
    talk.say(*lines)
    paths = [str(Path(q).absolute()) if "://" not in q else q for q in queries]
    with TemporaryDirectory(prefix="fam-jax-") as scratch:
        store = maps or str(Path(scratch) / "maps")
        with jobs.watched(quiet, distributed) as line:
            hits = bulk.retrieve(
                net.encode,
                paths,
                gallery,
                store,
                **told,
                top=top,
                batch=batch,
                reader=reader,
                on_step=line,
            )
        pairs = bulk.open_store(store)
        margins = pairs.scores().reshape(hits.rows.shape) if bank is not None else None
        page = []
        if jax.process_index() == 0:
            page = write(pairs, output, title="Nearest pictures", overwrite=overwrite)
    names, nearest = dict(zip(paths, queries, strict=True)), []
    for i, path in enumerate(hits.queries):
        talk.say(legible(names[path]))
        nearest.append({"query": names[path], "hits": []})
        for j, (score, row) in enumerate(zip(hits.scores[i].tolist(), hits.rows[i], strict=True)):
            hit = {"score": score, "picture": gallery.pictures[row]}
            line = f"  {j + 1:3}  {score:.4f}  {legible(hit['picture'])}"
            if margins is not None:
                hit["margin"] = float(margins[i, j])
                line += f"  (margin {hit['margin']:.4f})"
            nearest[-1]["hits"].append(hit)
            talk.say(line)
    left_out = others.left_out | {names[path]: why for path, why in hits.left_out.items()}
    talk.say_left_out(left_out)
    talk.say(*map(legible, page[:1]))
    invalid = hits.summary.invalid
    talk.result(
        nearest=nearest,
        model=net.backbone.name,
        method=method,
        notes=lines,
        left_out=left_out,
        invalid=invalid,
        store=maps,
        files=[str(file) for file in page],
    )
    raise typer.Exit(INCOMPLETE if invalid or left_out else 0)
