"""Every way to use a method serves every kind of method, with the maps of `explain_pairs`.

One method of each kind is run here; the others of the table wait for the slow tests.
"""

from pathlib import Path

import numpy as np
import pytest
from flax import nnx
from PIL import Image

import fam_jax
from fam_jax import bulk, methods
from fam_jax.evaluate.asking import Question, answer
from fam_jax.methods.registry import _METHODS, entry
from fam_jax.training import MapLogger
from tests import commands
from tests.close import assert_close
from tests.test_every_method import (
    CONVOLUTIONS,
    OWN,
    Small,
    attentive_encoder,
    made,
    strongest,
    transformer,
)

# What a kind needs beside an encoding: nothing, a background, the images, attention, the other
# image, both, a network that is read in another way; and a user's own method.
KINDS = (
    *("fam", "contrastive", "occlusion", "chefer", "interaction-cam", "integrated-pair"),
    *("relevance-cam", OWN),
)
NAMES = [
    pytest.param(name, marks=[] if name in KINDS else [pytest.mark.slow])
    for name in [*methods.names(), OWN]
]
every = pytest.mark.parametrize("name", NAMES)
# The command is asked for these two in test_cli.py and test_cli_defaults.py, too.
COMMANDED = [
    pytest.param(*name.values, marks=pytest.mark.slow)
    if name.values[0] in ("fam", "contrastive")
    else name
    for name in NAMES
]


@pytest.fixture(scope="module", autouse=True)
def registered():
    methods.register(OWN, strongest)
    yield
    _METHODS.pop(OWN)


def preprocess(picture):
    return np.asarray(picture.resize((16, 16)), np.float32) / 127.5 - 1


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        pixels = rng.integers(0, 256, (3, 4, 3)).astype(np.uint8).repeat(10, 0).repeat(10, 1)
        Image.fromarray(pixels).save(folder / name)
    return [str(folder / name) for name in ("a.png", "b.png")]


@pytest.fixture(scope="module")
def attentive():
    return attentive_encoder()


@pytest.fixture
def case(name, attentive, files):
    """The encoder that suits the method, the method, both images, and their `explain_pairs`."""
    encode, method = CONVOLUTIONS, made(name, CONVOLUTIONS)
    if "layers" in method.needs:
        encode, method = attentive, made(name, attentive)
    images = [preprocess(Image.open(file))[None] for file in files]
    return encode, method, images, fam_jax.explain_pairs(encode, *images, method)


@pytest.mark.parametrize(
    ("name", "pairs"),
    [
        *(pytest.param(*name.values, "table", marks=name.marks) for name in NAMES),
        # A grid keeps rows and columns: what differs is whether a method asks for more of them.
        *((name, "grid") for name in ("fam", "occlusion", "chefer", "interaction-cam")),
        *(
            pytest.param(name, "grid", marks=pytest.mark.slow)
            for name in ("contrastive", "integrated-pair", "relevance-cam", OWN)
        ),
    ],
)
def test_large_jobs(name, pairs, case, files, tmp_path):
    encode, method, _, expected = case
    rows = [tuple(files)] if pairs == "table" else bulk.grid(files[:1], files[1:], 1)
    store = tmp_path / "store"
    bulk.run(encode, rows, store, preprocess=preprocess, method=method, batch=1, dtype="float32")
    (row,) = bulk.open_store(store).rows([0])
    assert row.reason == ""
    assert_close(row.query_map, expected.query_maps[0])
    assert_close(row.reference_map, expected.reference_maps[0])


@every
def test_the_evaluation(name, case):
    encode, method, (a, b), expected = case
    background = method.similarity.background if entry(name).background == "needed" else a[:0, 0, 0]
    references = np.asarray(encode(b).embeddings)
    question = Question(a, references, background, b)
    assert_close(answer(name, encode, fam_jax.cosine, question), expected.query_maps)


@pytest.mark.parametrize("name", KINDS)
def test_maps_through_training(name, case, tmp_path):
    encode, method, (a, b), expected = case
    model = Small(nnx.Rngs(0)) if encode is CONVOLUTIONS else transformer()
    where = {"at": encode.at, "tokens": encode.tokens}
    with MapLogger(tmp_path, a, b, every=1, method=method, **where) as logger:
        out = logger.log(0, model)
    assert_close(out.query_maps, expected.query_maps)


@pytest.mark.parametrize("name", COMMANDED)
def test_the_command(name, files, tmp_path):
    attention = "layers" in entry(name).factory(fam_jax.cosine).needs
    model = "vit-mini-patch8" if attention else "tiny"
    options = ["--model", model, "--weights", "random", "--image-size", 32, "--method", name]
    if entry(name).background == "needed":
        options += ["--background", Path(files[0]).parent]
    run = commands.run("explain", *files, *options, "-o", tmp_path / "out", "--json")
    assert run.exit_code == 0, run.output
    with np.load(tmp_path / "out" / "maps.npz") as maps:
        assert np.isfinite(maps["query_maps"]).all()


@pytest.mark.parametrize("name", ["occlusion", "chefer", "relevance-cam"])
def test_features_alone_do_not_do_for_methods_that_read_more(name, case, files, tmp_path):
    encode, method, *_ = case
    with pytest.raises(ValueError, match="once: only features of the pictures are kept, and this"):
        bulk.run(
            encode, [tuple(files)], tmp_path / "s", preprocess=preprocess, method=method, once=True
        )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("chefer", "this method is for transformers: the network has no layer named 'attn_drop'"),
        ("contrastive", "--method contrastive shows what makes the pair more alike than others"),
        ("grad-camm", "did you mean 'grad-cam'?"),
    ],
)
def test_a_command_says_in_one_line_what_is_missing(name, message, files, tmp_path):
    run = commands.run("explain", *files, *commands.TINY, "--method", name, "-o", tmp_path / "out")
    assert run.exit_code == 2
    assert run.stderr.startswith("error: ")
    assert message in run.stderr
    assert run.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
