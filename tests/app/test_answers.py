"""What the page computes: what the commands compute, by the same code, and says."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import fam_jax
from fam_jax import metrics
from fam_jax.apps.live import answers, compare, html, points
from fam_jax.apps.live import opened as opening
from fam_jax.apps.live.opened import Background
from tests.app.conftest import METHODS
from tests.close import assert_close
from tests.commands import TINY, run

SMALL = (*TINY, "--image-size", 32)
NONE = Background()
# Where a picture lies, the page does not know; the files beside it are the command's.
OF_THE_FOLDER = {"files", "query", "references", "background", "versions"}


@pytest.mark.parametrize("with_background", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_pair_is_that_of_the_command_with_its_maps_and_manifest(
    with_background, here, opened, picture, background
):
    others = background() if with_background else NONE
    line = ("--background", "some/more") if with_background else ()
    result = run("explain", "some/a.png", "some/b.png", *SMALL, *line, "-o", "out")
    assert result.exit_code == 0, result.output
    layer = opened.layers[0]
    answer = answers.of_pictures(opened, layer, "", picture("a"), [picture("b")], others)
    (here / "page").mkdir()
    files = answers.save(answer, here / "page")
    assert [file.name for file in files] == ["maps.npz", "manifest.json"]
    with np.load(here / "out" / "maps.npz") as theirs, np.load(files[0]) as ours:
        assert set(ours) == set(theirs)
        for name in theirs:
            assert_close(ours[name], theirs[name])
    theirs = json.loads((here / "out" / "manifest.json").read_text())
    ours = json.loads(files[1].read_text())
    assert set(ours) == set(theirs)
    assert answer.about["method"] == ("contrastive" if with_background else "fam")
    for name in set(theirs) - OF_THE_FOLDER - {"scores"}:
        assert ours[name] == theirs[name], name
    for role in ("query", "references", "background"):
        mine, its = (m[role] if isinstance(m[role], list) else [m[role]] for m in (ours, theirs))
        assert [file["sha256"] for file in mine] == [file["sha256"] for file in its]
        assert all("/" not in file["path"] for file in mine)
    for name in ("a.png", "b.png"):  # with the pictures beside it, figures are made of it
        (here / name).write_bytes((here / "some" / name).read_bytes())
    assert run("redraw", "page", "-o", "again").exit_code == 0
    assert (here / "again" / "pair.png").exists()


def test_methods_and_layers_are_those_that_the_network_has(opened):
    assert opened.methods == [name for name in METHODS if name != "le-grad"]
    assert opened.layers[0] == opened.net.encode.at
    assert set(opened.layers) > {"layer1", "layer2", "layer3"}
    for layer in opened.layers:
        encoding = jax.eval_shape(opened.at(layer).encode, np.zeros((1, 32, 32, 3), np.float32))
        assert np.prod(encoding.activations.shape[1:3]) > 1


def test_another_layer_is_explained_by_the_same_network(opened, picture):
    answer = answers.of_pictures(opened, "layer2", "fam", picture("a"), [picture("b")], NONE)
    encode = fam_jax.capture(opened.net.backbone.model, at="layer2")
    both = [opened.net.preprocess(picture(letter).image)[None] for letter in "ab"]
    assert_close(answer.arrays["query_maps"], fam_jax.explain_pairs(encode, *both).query_maps)
    assert answer.about["layer"] == "layer2"


@pytest.mark.parametrize("side", ["query", "reference"])
def test_a_point_meets_its_shares_of_the_other_picture(side, opened, picture):
    """The parts of all points of a side sum to those of all pairs of positions."""
    pair = picture("a"), picture("b")
    encode, layer = opened.net.encode, opened.layers[0]
    both = [encode(opened.net.preprocess(one.image)[None]) for one in pair]
    p2p = fam_jax.methods.position_pairs(*both)
    beyond = np.asarray(fam_jax.methods.centred(p2p)[0])
    h, w = p2p.shape[1:3]
    total = 0.0
    left, top, right, bottom = opened.net.preprocess.region(pair[0].image.size)
    width, height = pair[0].image.size
    for i in range(h):
        for j in range(w):
            at = (
                (left + (j + 0.5) / w * (right - left)) / width,
                (top + (i + 0.5) / h * (bottom - top)) / height,
            )
            met = points.met(opened, layer, pair, side, at)
            own = beyond[i, j] if side == "query" else beyond[:, :, i, j]
            assert_close(met.heat, np.maximum(own, 0))
            assert met.point == pytest.approx(at)
            total += met.share
    assert total == pytest.approx(float(p2p.sum()), rel=1e-5)


def test_a_point_that_was_not_seen_is_refused(opened, picture):
    wide = picture("a")  # 50 x 40: the middle is seen
    with pytest.raises(ValueError, match=r"the network did not see this place of b\.png"):
        points.met(opened, opened.layers[0], (wide, picture("b")), "reference", (0.01, 0.5))


def test_methods_side_by_side_are_those_of_explain_pairs(opened, picture, background):
    pair, layer = (picture("a"), picture("b")), opened.layers[0]
    names = [*opened.methods, "le-grad"]
    rows = compare.compare(opened, layer, names, ["decomposition"], pair, background())
    assert [row.method for row in rows] == names
    assert [row.method for row in rows if row.answer is None] == ["le-grad"]
    assert "transformers" in rows[-1].why
    both = [opened.net.preprocess(one.image)[None] for one in pair]
    bank = background().embeddings
    for row in rows[:-1]:
        own = bank if row.method == "contrastive" else None
        out = fam_jax.explain_pairs(
            opened.net.encode, *both, fam_jax.methods.make(row.method, background=own)
        )
        assert_close(row.answer.arrays["reference_maps"], out.reference_maps)
    (curve,) = [row.deletion for row in rows if row.deletion is not None]
    arrays = rows[opened.methods.index("decomposition")].answer.arrays
    expected = metrics.deletion_pairs(
        opened.net.encode,
        *both,
        *(jnp.asarray(arrays[f"{role}_maps"]) for role in ("query", "reference")),
        steps=compare.STEPS,
    )
    assert_close(curve, expected.values[0], rtol=1e-4)
    assert compare.figure(rows, "cosine") is not None
    assert compare.figure(rows[:1], "cosine") is None


def test_what_needs_a_background_says_so(opened, picture):
    pair = picture("a"), picture("b")
    (row,) = compare.compare(opened, opened.layers[0], ["contrastive"], [], pair, NONE)
    assert row.why == "give a background"
    with pytest.raises(ValueError, match="give a background"):
        answers.of_pictures(opened, opened.layers[0], "contrastive", pair[0], pair[1:], NONE)


BAD = {
    "text.png": (b"no picture", "text.png is not a picture that Pillow can read"),
    "empty.png": (b"", "empty.png is empty (0 bytes)"),
    "cut.png": (None, "cut.png is damaged"),
    "dot.png": ((1, 1), "dot.png is 1 x 1 pixels; at least 8"),
    "wide.png": ((20_000, 10), "wide.png is 20000 x 10 pixels; at most"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_picture_is_refused_by_its_name_within_the_limits_of_the_commands(
    name, opened, tmp_path, inputs
):
    given, said = BAD[name]
    file = tmp_path / ("uploaded" * 12) / name
    file.parent.mkdir()
    if given is None:
        given = (inputs / "some" / "a.png").read_bytes()[:500]
    if isinstance(given, tuple):
        Image.new("RGB", given).save(file)
    else:
        file.write_bytes(given)
    with pytest.raises(ValueError, match=f"^{re.escape(said)}") as refused:
        opened.read(file)
    assert "uploaded" not in str(refused.value)


def test_background_pictures_that_cannot_be_read_are_left_out(opened, inputs, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"x")
    good = inputs / "some" / "a.png"
    background = opened.background([bad, good])
    assert background.embeddings.shape == (1, 128)
    assert list(background.left_out) == ["bad.png"]
    with pytest.raises(ValueError, match=r"bad\.png is not a picture"):
        opened.background([bad])


def test_names_are_no_markup(opened, tmp_path):
    file = tmp_path / '<img src=x onerror="alert(1)">.png'
    Image.new("RGB", (40, 40), "red").save(file)
    picture = opened.read(file)
    answer = answers.of_pictures(opened, opened.layers[0], "", picture, [picture], NONE)
    shown = html.pair(answer) + html.lines(*answer.lines)
    assert "onerror" in shown
    assert "<img src=x" not in shown
    assert any("is of one colour" in line for line in answer.lines)


def test_a_view_has_its_map_where_the_network_saw(opened, picture):
    answer = answers.of_pictures(opened, opened.layers[0], "", picture("a"), [picture("b")], NONE)
    shown = html.pair(answer)
    left, _, right, _ = opened.net.preprocess.region((50, 40))
    assert shown.count('class="fam-heat"') == 2
    assert shown.count(f"width:{100 * (right - left) / 50:.1f}") == 2
    assert f"{answer.arrays['scores'][0]:.4f}" in shown


def test_an_answer_at_once_has_no_other_program(opened, picture):
    """A new pair, and a new network opened by the same name, compile nothing."""
    from fam_jax.apps import pairs

    ask = lambda a, b: answers.of_pictures(  # noqa: E731
        opened, "layer2", "fam", picture(a), [picture(b)], NONE
    )
    ask("a", "b")
    before = pairs.pair._cache_size()
    ask("c", "d")
    assert pairs.pair._cache_size() == before


def test_the_progress_is_over_every_method(opened):
    seen = []

    def track(names):
        for name in names:
            seen.append(name)
            yield name

    kept = opening.answerable(opened.net, opened.similarity, track(["fam", "le-grad", "lots"]))
    assert seen == ["fam", "le-grad", "lots"]
    assert kept == ["fam", "lots"]
