"""`fam-jax app`: a local page to play with."""

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fam_jax import methods
from fam_jax._core.brief import message
from fam_jax._core.extras import needed
from fam_jax.apps import choice, indexed, network, options, sentences, views
from fam_jax.apps.output import Output

if TYPE_CHECKING:
    from fam_jax.apps.live.opened import Opened
    from pretrained_ports import TextBackbone
else:
    Opened = TextBackbone = Any

_KEPT = 3  # networks in memory beside the first


def app_(
    model: options.Model = None,
    weights: options.Weights = None,
    entry: options.Entry = None,
    grid: options.Grid = None,
    head: options.Head = "drop",
    layer: options.Layer = None,
    gates: options.Gates = None,
    similarity: options.Similarity = "cosine",
    tokenizer: options.Tokenizer = None,
    image_size: options.ImageSize = None,
    fit: options.Fit = None,
    window: options.Window = None,
    page: options.Page = None,
    index: Annotated[str | None, options.INDEX] = None,
    partial: options.Partial = False,
    host: Annotated[
        str, typer.Option(help="Where to serve it; 0.0.0.0 shows the page to the whole network.")
    ] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="If not given, one that is free.")] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Open none.")] = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Serve a local page: explain a pair, search an index, compare all methods.

    With --index its pictures can be searched, and the network is the index's.
    """
    talk = Output(quiet, as_json)
    options.check(None, similarity, background=False)
    options.check_counts(image_size=image_size)
    options.check_fit(fit, job=index is not None)
    network.check(head, gates)
    reader = options.reader(window, page)
    with needed("the app needs", "app"):
        from fam_jax.apps.live import page as pages
        from fam_jax.apps.live import serve
        from fam_jax.apps.live.shared import App
    from fam_jax.apps.live import opened as opening
    from fam_jax.apps.live.search import Gallery

    found = None
    if index is not None:
        _refuse_with_index(
            entry=entry,
            grid=grid,
            head=None if head == "drop" else head,
            layer=layer,
            gates=gates,
            image_size=image_size,
            window=window,
            page=page,
        )
        found = indexed.open_indexed(index, model, weights, fit, partial=partial)
        net, reader, lines, source = found.net, found.reader, found.lines, weights
    else:
        name, source, lines = choice.choose_model(model, weights, entry=entry)
        net = network.open_network(
            name, source, head, layer, gates, image_size, entry=entry, grid=grid
        )
        net, lines = views.fitted(net, fit), [*lines, *choice.choices(net)]
    first = net.backbone.name
    tower = _tower(first, source, tokenizer, entry, lines)
    del source
    talk.say(*lines)
    shared = {"similarity": similarity, "fit": fit}

    def make(name: str, names: Iterable[str]) -> Opened:
        other = views.fitted(network.open_network(name), fit)
        text = _tower(name, None, tokenizer, None, [])
        return opening.open_(other, names, tower=text, reader=reader, **shared)

    with serve.folder() as folder:
        from rich.progress import track

        warm = track(methods.names(), "warm-up", console=talk.progress(), transient=True)
        one = opening.open_(net, warm, tower=tower, reader=reader, gates=gates, **shared)
        shown = App(
            _kept(one, make),
            [first, *_at_hand(first)],
            folder,
            None if found is None else Gallery.of(found.index, one),
        )
        built = pages.build(shown)
        address = serve.launch(built, host, port, browser=not no_browser)
        talk.say(f"{address} (Ctrl-C stops it)")
        talk.result(address=address, model=first, methods=list(one.methods), notes=lines)
        try:
            threading.Event().wait()
        finally:
            built.close(verbose=False)


def _refuse_with_index(**given: Any) -> None:
    """ValueError for what an index settles."""
    for name, value in given.items():
        if value is not None:
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"{option}: with --index this is the index's; leave it out")


def _tower(
    name: str, source: Any, tokenizer: Path | None, entry: str | None, lines: list[str]
) -> TextBackbone | None:
    """The text tower, if the model has one; a line says why it is not there."""
    from pretrained_ports.catalog.clip_text import TOWERS

    if name not in TOWERS:
        return None
    try:
        return sentences.open_tower(name, source, tokenizer, entry)
    except (ValueError, OSError, ImportError) as error:
        lines.append(f"no sentences: {message(error)}")
        return None


def _at_hand(first: str) -> list[str]:
    """The other models whose weights are here: no visitor of the page starts a download."""
    import pretrained_ports
    from pretrained_ports.catalog import ENTRIES
    from pretrained_ports.weights.hub import cached

    return [
        name
        for name, row in ENTRIES.items()
        if name != first
        and (pretrained_ports.weights_installed(name) or (row.hub and cached(row.hub)))
    ]


def _kept(first: Opened, make: Callable[[str, Iterable[str]], Opened]) -> Callable[..., Opened]:
    """A network by its name, made once; of many those that were made last."""
    kept: dict[str, Opened] = {}
    lock = threading.Lock()

    def opened(name: str, track: Callable[[list[str]], Iterable[str]] = list) -> Opened:
        if name == first.net.backbone.name:
            return first
        with lock:
            if name not in kept:
                made = make(name, track(methods.names()))
                while len(kept) >= _KEPT:
                    kept.pop(next(iter(kept)))
                kept[name] = made
            return kept[name]

    return opened
