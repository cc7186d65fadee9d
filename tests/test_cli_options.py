"""The options mean the same in every command, and do there what they say."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import typer
from flax import nnx
from safetensors.numpy import load_file, save_file

import fam_jax
import pretrained_ports
from fam_jax import bulk
from fam_jax.apps import pairs
from fam_jax.apps.main import app, main
from fam_jax.apps.network import open_network
from fam_jax.io import pictures
from tests.close import assert_close
from tests.commands import TINY, run

COMMANDS = typer.main.get_command(app).commands
EVERY = set(COMMANDS)
JOBS = {"map", "index"}
SEARCHES = {*JOBS, "retrieve"}
# Which commands have an option that several have.
SHARED = {
    "--model": {"explain", "map", "index", "retrieve", "evaluate", "convert", "app"},
    "--weights": {"explain", "map", "index", "retrieve", "evaluate", "app"},
    "--grid": {"explain", "map", "index", "evaluate", "convert", "app"},
    "--entry": {"explain", "map", "index", "evaluate", "convert", "app"},
    "--head": {"explain", "map", "index", "evaluate", "convert", "app"},
    "--layer": {"explain", "map", "index", "evaluate", "app"},
    "--gates": {"explain", "map", "index", "evaluate", "app"},
    "--method": {"explain", "map", "retrieve"},
    "--similarity": {"explain", "map", "retrieve", "evaluate", "app"},
    "--background": {"explain", "map", "retrieve"},
    "--image-size": {"explain", "map", "index", "evaluate", "app"},
    "--map-size": {"explain", "map", "retrieve"},
    "--output": EVERY - {"convert", "models", "app"},
    "--overwrite": {"explain", "redraw", "retrieve", "report", "evaluate", "demo", "convert"},
    "--quiet": EVERY - {"models"},
    "--json": EVERY,
    "--partial": {"retrieve", "report", "app"},
    "--index": {"retrieve", "app"},
    "--tokenizer": {"explain", "app"},
    "--batch": {*JOBS, "retrieve"},
    "--fit": {*JOBS, "retrieve", "explain", "app"},
    "--window": {*JOBS, "explain", "evaluate", "app"},
    "--page": {*JOBS, "explain", "evaluate", "app"},
    "--retry": JOBS,
    **dict.fromkeys(("--compute", "--workers"), JOBS),
    **dict.fromkeys(("--distributed", "--coordinator", "--processes", "--process"), SEARCHES),
}


def option(command, name):
    (parameter,) = (p for p in COMMANDS[command].params if name in p.opts)
    return parameter


@pytest.mark.parametrize("name", SHARED)
def test_an_option_is_the_same_wherever_it_stands(name):
    commands = {c for c, command in COMMANDS.items() if any(name in p.opts for p in command.params)}
    assert commands == SHARED[name]
    forms = {tuple(option(command, name).opts) for command in commands}
    helps = {option(command, name).help for command in commands}
    assert len(forms) == len(helps) == 1
    assert helps.pop().endswith(".")
    assert (forms == {("--output", "-o")}) == (name == "--output")


def test_what_several_commands_have_is_among_the_shared():
    names = [o for command in COMMANDS.values() for p in command.params for o in p.opts]
    several = {name for name in names if name.startswith("--") and names.count(name) > 1}
    assert several - {"--help"} == set(SHARED)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("explain a.png --method xg", ["xgrad-cam"]),
        ("retrieve a.png --method contr", ["contrastive", "contrastive-free"]),
        ("map --model conv4-omni", ["conv4-omniglot", "conv4-omniglot-pooled"]),
        ("evaluate mosaic --similarity d", ["dot"]),
        ("index some --head k", ["keep"]),
        ("explain --image", ["--image-size"]),
        ("repo", ["report"]),
    ],
)
def test_a_shell_completes_options_and_names(typed, offered, monkeypatch, capsys):
    words = f"fam-jax {typed}".split()
    monkeypatch.setenv("_FAM_JAX_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", " ".join(words))
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.split() == offered


def test_the_script_for_a_shell(monkeypatch, capsys):
    monkeypatch.setattr("typer.completion._get_shell_name", lambda: "bash")
    with pytest.raises(SystemExit) as stopped:
        main(["--show-completion"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.endswith("_fam_jax_completion fam-jax\n")


def test_python_runs_the_package_as_the_command():
    root = fam_jax.__path__[0].rpartition("/")[0]
    command = [sys.executable, "-m", "fam_jax", "explain"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == "error: Missing argument 'QUERY'; see fam-jax --help\n"


def test_the_command_line_imports_what_it_needs_when_it_needs_it():
    heavy = ("matplotlib", "flax", "pretrained_ports", "grain", "tensorstore", "jinja2", "skimage")
    heavy += ("gradio",)
    code = f"import sys, fam_jax.apps.main; print([n for n in {heavy} if n in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_every_picture_is_encoded_once_and_all_pairs_share_a_program(here, monkeypatch):
    encoded = []

    class Counting(nnx.Module):
        def __init__(self):
            self.conv = nnx.Conv(3, 5, (4, 4), 4, rngs=nnx.Rngs(0))

        def __call__(self, images):
            jax.debug.callback(lambda x: encoded.append(len(x)), images)
            return self.conv(images).mean((1, 2))

    backbone = pretrained_ports.Backbone(
        name="counting",
        model=Counting(),
        layer="conv",
        tokens=None,
        embedding_dim=5,
        preprocess=pretrained_ports.Preprocess((16, 16), None),
        source="by hand",
    )
    monkeypatch.setattr(pretrained_ports, "load", lambda *args, **options: backbone)
    names = [f"some/{name}" for name in ("a.png", "b.png", "more/c.png", "more/d.png")]
    compiled = pairs.pair._cache_size()
    result = run("explain", *names, *TINY)
    assert result.exit_code == 0, result.output
    jax.effects_barrier()
    assert encoded == [1] * 4
    assert pairs.pair._cache_size() == compiled + 1


def test_the_sizes_of_pictures_and_of_maps(here):
    line = ("explain", "some/a.png", "some/b.png", *TINY, "--image-size", 64)
    assert run(*line, "-o", "grid").exit_code == 0
    assert run(*line, "-o", "sized", "--map-size", 20).exit_code == 0
    net = open_network("tiny", image_size=64)
    pair = [
        net.preprocess(pictures.read(here / "some" / name))[None] for name in ("a.png", "b.png")
    ]
    assert pair[0].shape == (1, 64, 64, 3)
    expected = fam_jax.explain_pairs(net.encode, *map(jnp.asarray, pair))
    grid, sized = (dict(np.load(here / name / "maps.npz")) for name in ("grid", "sized"))
    assert grid["query_maps"].shape == (1, 8, 8)
    assert_close(grid["reference_maps"], expected.reference_maps)
    assert_close(sized["query_maps"], fam_jax.upsample(expected.query_maps, (20, 20)))
    manifest = json.loads((here / "sized" / "manifest.json").read_text())
    assert (manifest["image_size"], manifest["map_size"]) == ([64, 64], 20)


def test_a_head_is_kept_by_every_command_that_opens_the_file(here):
    named = ("--weights", "headed.safetensors", "--head", "keep", "--image-size", 32)
    scores = {}
    for head in ("drop", "keep"):
        line = ("explain", "some/a.png", "some/b.png", *named, "--head", head, "-o", head)
        result = run(*line, "--json")
        assert result.exit_code == 0, result.stderr
        scores[head] = json.loads(result.stdout)["pairs"][0]["score"]
    assert abs(scores["keep"] - scores["drop"]) > 1e-4
    result = run("map", "pairs.csv", *named, "-o", "maps", "--dtype", "float32", "--batch", 2)
    assert result.exit_code == 0, result.stderr
    assert_close(bulk.open_store("maps").scores(), np.float32([scores["keep"]]))
    assert bulk.open_store("maps").settings["head"] == "keep"


def test_retrieve_opens_the_network_of_the_index(here):
    """With its head and its size; against a background, hits have margins, too."""
    pytest.importorskip("jinja2", reason="needs the report extra: jinja2")
    named = ("--weights", "headed.safetensors", "--head", "keep", "--image-size", 32)
    assert run("index", "some", *named, "-o", "index", "--batch", 2).exit_code == 0
    line = ("retrieve", "some/a.png", "--index", "index", "--top", 2, "--json", "--batch", 2)
    result = run(*line, "-o", "page")
    assert result.exit_code == 0, result.stderr
    plain = json.loads(result.stdout)["nearest"][0]["hits"]
    result = run(*line, "-o", "other", "--method", "contrastive", "--background", "some/more")
    assert result.exit_code == 0, result.stderr
    margins = json.loads(result.stdout)["nearest"][0]["hits"]
    for key in ("picture", "score"):
        assert [hit[key] for hit in plain] == [hit[key] for hit in margins]
    net = open_network("tiny", "headed.safetensors", "keep", image_size=32)
    files = [here / "some" / name for name in ("a.png", "more/c.png", "more/d.png")]
    a, c, d = (np.asarray(net.embed([file]).embeddings[0]) for file in files)
    cosine = lambda x, y: x @ y / np.linalg.norm(x) / np.linalg.norm(y)  # noqa: E731
    expected = plain[0]["score"] - (cosine(a, c) + cosine(a, d)) / 2
    assert margins[0]["margin"] == pytest.approx(expected, abs=1e-5)


def test_the_part_of_a_checkpoint_is_said_and_kept_for_a_search(here, tmp_path):
    """`retrieve` has no --entry: the index knows it; what differs makes another store."""
    pytest.importorskip("jinja2", reason="needs the report extra: jinja2")
    raw = load_file(here / "headed.safetensors")
    file = tmp_path / "both.safetensors"
    averaged = {f"ema.{key}": array * (1 + (array.ndim == 4)) for key, array in raw.items()}
    save_file({f"model.{key}": array for key, array in raw.items()} | averaged, file)
    named = ("--weights", file, "--model", "tiny", "--image-size", 32, "--batch", 2)
    result = run("index", "some", *named, "-o", tmp_path / "raw")
    assert "weights: entry model was taken; ema fits, too: entry= (--entry)" in result.output
    assert run("index", "some", *named, "-o", tmp_path / "raw", "--entry", "ema").exit_code == 2
    assert run("index", "some", *named, "-o", tmp_path / "ema", "--entry", "ema").exit_code == 0
    for made in ("raw", "ema"):
        line = ("retrieve", "some/a.png", "--index", tmp_path / made, "--top", 1, "--json", "-o")
        result = run(*line, tmp_path / f"page-{made}")
        assert result.exit_code == 0, result.stderr
        hit = json.loads(result.stdout)["nearest"][0]["hits"][0]
        assert hit["score"] == pytest.approx(1, abs=1e-6)  # it finds itself, by the same weights
        assert hit["picture"].endswith("a.png")


REFUSED = {
    "few pixels": ("--image-size 4", "--image-size: expected at least 8 pixels, got 4"),
    "no map": ("--map-size 0", "--map-size: expected a positive integer, got 0"),
    "no patches": (
        "--model vit-mini-patch8 --weights random --image-size 30",
        "for pictures of 30 x 30 pixels (--layer, --image-size): images must have sides",
    ),
    "one cell": (
        "--model conv4-omniglot --weights random",
        "leaves a map of 1 x 1 for pictures of 28 x 28 pixels",
    ),
    "entry": ("--weights random --entry ema", "--entry names a part of a checkpoint; random"),
    "head": ("--head kept", "--head: expected one of drop, keep, got 'kept'; did you mean 'keep'?"),
    "random head": ("--weights random --head keep", "random weights have no projection head"),
    "no head": ("--head keep", "has no projection head to keep"),
}


@pytest.mark.parametrize("command", ["explain some/a.png some/b.png", "map pairs.csv"])
@pytest.mark.parametrize("case", REFUSED)
def test_what_the_options_refuse(case, command, here):
    options, message = REFUSED[case]
    before = set(here.rglob("*"))
    result = run(*command.split(), *TINY, *options.split(), "-o", "out")
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert set(here.rglob("*")) == before


def test_a_pair_without_maps_has_a_reason():
    ones = jnp.ones(3)
    assert pairs.why(("a", ones * jnp.nan), ("b", ones)) == "the embedding of a is not finite"
    assert pairs.why(("a", ones), ("b", 0 * ones)) == "the embedding of b is zero"
    why = pairs.why(("a", ones), ("a", ones))
    assert why == "no evidence at this layer for a ~ a; take another with --layer"
