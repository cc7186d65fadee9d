"""The command line as a user meets it: files in, files out, one-line errors."""

import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import fam_jax
import pretrained_ports
from fam_jax.apps.main import app, main
from fam_jax.apps.network import Network, open_network
from fam_jax.io import pictures
from pretrained_ports.checkpoints import write
from tests.close import assert_close
from tests.commands import TINY

pytest.importorskip("skimage", reason="needs the demo extra: scikit-image and scikit-learn")


def run(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of photographs, good and bad."""
    from fam_jax.io import photographs

    folder = tmp_path_factory.mktemp("pictures")
    for photo in photographs.load()[:6]:
        Image.fromarray(photo.image).save(folder / f"{photo.name}.jpg")
    return folder


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Weights of other networks than the default one."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for file, name in (("other", "cifar-resnet20"), ("conv4", "conv4-omniglot")):
        model = pretrained_ports.create(name).model
        write(folder / f"{file}.safetensors", model, {"architecture": name})
    return folder


@pytest.fixture
def bad(tmp_path, folder, checkpoints):
    shutil.copytree(checkpoints, tmp_path, dirs_exist_ok=True)
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "cut.jpg").write_bytes((folder / "coffee.jpg").read_bytes()[:3000])
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    Image.new("L", (20_000, 10)).save(tmp_path / "wide.png")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious.txt").write_text("keep")
    return tmp_path


def test_a_pair_gives_overlays_a_figure_maps_and_a_manifest(folder, tmp_path):
    out = tmp_path / "out"
    result = run("explain", folder / "coffee.jpg", folder / "coffee.jpg", *TINY, "-o", out)
    assert result.exit_code == 0, result.output
    assert "cosine 1.0000" in result.output
    names = {"query.png", "reference.png", "pair.png", "maps.npz", "manifest.json"}
    assert {file.name for file in out.iterdir()} == names
    assert all(str(out / name) in result.output for name in names)
    with np.load(out / "maps.npz") as maps:
        assert maps["query_maps"].dtype == np.float32
        assert_close(maps["query_maps"], maps["reference_maps"])
        np.testing.assert_allclose(maps["scores"], [1.0], rtol=1e-5)
        assert maps["valid"].all()
    manifest = json.loads((out / "manifest.json").read_text())
    assert set(manifest["files"]) == names
    assert manifest["model"] == "tiny"
    assert len(manifest["weights"]["sha256"]) == len(manifest["query"]["sha256"]) == 64
    assert manifest["method"] == "fam"
    assert {"fam-jax", "jax", "numpy"} <= set(manifest["versions"])


# Every method with some similarity, and the other way round; fam with the cosine is above.
@pytest.mark.parametrize(
    ("method", "similarity"),
    [
        ("decomposition", "euclidean"),
        ("grad-cam", "dot"),
        *(
            pytest.param(*pair, marks=pytest.mark.slow)
            for pair in [
                ("grad-cam-pp", "dot"),
                ("xgrad-cam", "cosine"),
                ("layer-cam", "cosine"),
                ("hires-cam", "euclidean"),
                ("eigen-cam", "cosine"),
                ("activation-sum", "cosine"),
            ]
        ),
    ],
)
def test_methods_and_similarities(folder, tmp_path, method, similarity):
    options = (*TINY, "-o", tmp_path / "out", "--method", method, "--similarity", similarity)
    result = run("explain", folder / "coffee.jpg", folder / "brick.jpg", *options)
    assert result.exit_code == 0, result.output
    assert similarity in result.output


def test_several_references_and_a_background(folder, tmp_path):
    references = [folder / "coffee.jpg", folder / "chelsea.jpg"]
    out = tmp_path / "deep" / "out"
    line = ("explain", folder / "coffee.jpg", *references, *TINY, "--background", folder)
    result = run(*line, "-o", out)
    assert result.exit_code == 0, result.output
    assert "cosine margin" in result.output
    assert {"pair-1.png", "pair-2.png", "query-2.png", "reference-2.png"} <= {
        file.name for file in out.iterdir()
    }
    manifest = json.loads((out / "manifest.json").read_text())
    negative = sum(score < 0 for score in manifest["scores"])
    assert result.output.count("the background is nearer: what is drawn is the smaller") == negative
    assert manifest["figures"]["title"].endswith(", positive part: cosine margin")
    assert len(manifest["background"]) == 6
    assert manifest["scores"][0] > manifest["scores"][1]
    with np.load(out / "maps.npz") as maps:
        assert maps["query_maps"].shape[0] == 2
        assert maps["query_maps"].min() < 0, "signed: what speaks for the background is negative"


def test_a_background_picture_without_a_finite_embedding_is_named(tmp_path):
    """One of them would make every map of the job nothing."""
    paths = [tmp_path / f"{name}.png" for name in ("white", "black")]
    for path in paths:
        Image.new("RGB", (8, 8), path.stem).save(path)
    encode = fam_jax.encoder(lambda x: x, lambda A: 1 / A.mean((1, 2)))
    preprocess = pretrained_ports.Preprocess((8, 8), None, mean=(0.0,) * 3, std=(1.0,) * 3)
    net = Network(SimpleNamespace(preprocess=preprocess), encode, "drop", "float32")
    assert net.embed(paths[:1]).embeddings.shape == (1, 3)
    message = r"black\.png: its embedding, computed in float32, is not finite"
    with pytest.raises(ValueError, match=message):
        net.embed(paths)


def test_contrastive_is_the_decomposition_with_a_background(folder, tmp_path):
    pair = folder / "coffee.jpg", folder / "chelsea.jpg"
    maps = {}
    for method in ("contrastive", "decomposition"):
        out = tmp_path / method
        args = *TINY, "--background", folder, "--method", method, "-o", out
        result = run("explain", *pair, *args)
        assert result.exit_code == 0, result.output
        with np.load(out / "maps.npz") as file:
            maps[method] = file["query_maps"]
    np.testing.assert_array_equal(maps["contrastive"], maps["decomposition"])


def test_overwrite_replaces_its_own_files_only(folder, tmp_path):
    out, pair = tmp_path / "out", (folder / "coffee.jpg", folder / "brick.jpg", *TINY)
    assert run("explain", *pair, folder / "chelsea.jpg", "-o", out).exit_code == 0
    (out / "mine.txt").write_text("keep")
    assert run("explain", *pair, "-o", out).exit_code == 2
    assert (out / "pair-2.png").exists()
    assert run("explain", *pair, "-o", out, "--overwrite").exit_code == 0
    names = {"query.png", "reference.png", "pair.png", "maps.npz", "manifest.json", "mine.txt"}
    assert {file.name for file in out.iterdir()} == names


BAD = {
    "missing file": (["a.jpg", "nowhere.jpg"], "no such file: .*nowhere.jpg"),
    "not a picture": (["a.jpg", "text.jpg"], "text.jpg is not a picture"),
    "truncated": (["a.jpg", "cut.jpg"], "cut.jpg is damaged"),
    "zero bytes": (["empty.jpg", "a.jpg"], r"empty.jpg is empty"),
    "one pixel": (["dot.png", "a.jpg"], "1 x 1 pixels; at least 8"),
    "huge": (["wide.png", "a.jpg"], "20000 x 10 pixels; at most"),
    "folder for a file": (["full", "a.jpg"], "full is a folder; a picture file is expected"),
    "unknown model": (["a.jpg", "a.jpg", "--model", "resnet5"], "no model 'resnet5'.*resnet50"),
    "unknown layer": (["a.jpg", "a.jpg", "--layer", "layer9"], "no layer 'layer9'.*layer3"),
    "unknown method": (["a.jpg", "a.jpg", "--method", "gradcam"], "did you mean 'grad-cam'"),
    "unknown similarity": (["a.jpg", "a.jpg", "--similarity", "cos"], "did you mean 'cosine'"),
    "unknown option": (["a.jpg", "a.jpg", "--metod", "fam"], "--metod"),
    "other weights": (
        ["a.jpg", "a.jpg", "--weights", "other.safetensors"],
        "other.safetensors does not fit tiny.*layer",
    ),
    "weights are a folder": (["a.jpg", "a.jpg", "--weights", "full"], "full is a folder"),
    "no weights": (["a.jpg", "a.jpg", "--weights", "none.safetensors"], "none.safetensors"),
    "output exists": (["a.jpg", "a.jpg", "-o", "full"], "full is not empty; pass --overwrite"),
    "output is a file": (["a.jpg", "a.jpg", "-o", "text.jpg"], "text.jpg is a file"),
    "output cannot be": (["a.jpg", "a.jpg", "-o", "text.jpg/out"], "cannot write to"),
    "output unwritable": (["a.jpg", "a.jpg", "-o", "/proc/out"], "cannot write to /proc/out"),
    "no background": (
        ["a.jpg", "a.jpg", "--method", "contrastive"],
        "more alike than others: give them with --background",
    ),
    "empty background": (["a.jpg", "a.jpg", "--background", "full"], "no pictures in the folder"),
    "one cell": (
        ["a.jpg", "a.jpg", "--model", "conv4-omniglot", "--weights", "conv4.safetensors"],
        r"map of 1 x 1 .* block1 \(14 x 14\), block2 \(7 x 7\), block3 \(3 x 3\)",
    ),
    "no default weights": (["a.jpg", "a.jpg", "--model", "conv4"], "no default weights"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_use_ends_in_one_line_and_exit_code_2(case, bad, folder):
    args, message = BAD[case]
    (bad / "a.jpg").write_bytes((folder / "coffee.jpg").read_bytes())
    before = {file: file.stat().st_mtime_ns for file in bad.rglob("*")}
    args = [bad / a if i < 2 or "." in a or a == "full" else a for i, a in enumerate(args)]
    if "-o" not in args:
        args += ["-o", bad / "out"]
    result = run("explain", *TINY, *args)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    assert re.search(message, result.output, re.DOTALL), result.output
    if case != "unknown option":
        assert result.output.startswith("error: ")
        assert result.output.count("\n") == 1, result.output
    assert {file: file.stat().st_mtime_ns for file in bad.rglob("*")} == before, "left something"


def test_main_prints_usage_errors_in_one_line(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["explain", "--metod", "fam"])
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_a_background_is_read_as_the_pictures_are(tmp_path):
    """A window of grey values holds for all pictures of a command."""
    levels = np.random.default_rng(0).integers(0, 4096, (32, 32)).astype(np.uint16)
    Image.fromarray(levels).save(tmp_path / "twelve.png")
    Image.fromarray(np.round(levels / 4095 * 255).astype(np.uint8)).save(tmp_path / "eight.png")
    net = open_network("tiny")
    expected = net.embed([tmp_path / "eight.png"]).embeddings
    as_read = net.embed([tmp_path / "twelve.png"], pictures.Reader(window=(0, 4095))).embeddings
    assert_close(as_read, expected, rtol=1e-5)
