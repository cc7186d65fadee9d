"""`MapLogger`: what it writes, what it costs, how it goes on, and what it refuses."""

import io
import logging
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

import fam_jax
from fam_jax import plot
from fam_jax.training import MapLogger, strip
from tests.training.toy import Net, batch, leaves

optax = pytest.importorskip("optax", reason="needs the train extra")
pytest.importorskip("tensorboardX", reason="needs the train extra")

QUERIES, REFERENCES = (batch(seed, size=2)[0] for seed in (1, 2))


def logger(folder, **options):
    options = {"at": "act", "every": 50, "method": fam_jax.decomposition()} | options
    return MapLogger(folder, QUERIES, REFERENCES, **options)


def maps_in(folder):
    return {file.name: dict(np.load(file)) for file in sorted((folder / "maps").iterdir())}


def events(folder):
    """(step, tag, number or pixels) of all event files: TFRecords of tensorboard's protobufs."""
    from tensorboardX.proto.event_pb2 import Event

    entries = []
    for file in sorted(folder.glob("events.*")):
        data = file.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
            for value in event.summary.value:
                if value.WhichOneof("value") == "image":
                    image = np.asarray(Image.open(io.BytesIO(value.image.encoded_image_string)))
                    entries.append((event.step, value.tag, image))
                else:
                    entries.append((event.step, value.tag, value.simple_value))
    return entries


def test_what_is_written_is_what_explain_pairs_gives(tmp_path):
    """Raw maps and scores of the network in evaluation mode; overlays of them in TensorBoard."""
    model = Net()
    pictures = [np.full((12, 10, 3), 40 * i, np.uint8) for i in range(4)]
    with logger(tmp_path, pictures=(pictures[:2], pictures[2:])) as log:
        log(0, model)
    model.eval()
    expected = fam_jax.explain_pairs(
        fam_jax.capture(model, at="act"), QUERIES, REFERENCES, fam_jax.decomposition()
    )
    (arrays,) = maps_in(tmp_path).values()
    assert set(arrays) == {"query_maps", "reference_maps", "scores", "valid"}
    for name, value in arrays.items():
        np.testing.assert_array_equal(value, getattr(expected, name))
    entries = {tag: value for _, tag, value in events(tmp_path)}
    assert len(entries) == 6
    overlay = plot.overlay(pictures[3], expected.reference_maps[1])
    np.testing.assert_array_equal(entries["pair_1/reference"], overlay)
    assert entries["pair_0/score"] == pytest.approx(float(expected.scores[0]))


def test_the_model_keeps_its_mode_its_statistics_and_its_random_streams(tmp_path):
    model = Net()
    before, graph = leaves(model), nnx.graphdef(model)
    with logger(tmp_path) as log:
        log(0, model)
    assert nnx.graphdef(model) == graph
    for a, b in zip(before, leaves(model), strict=True):
        np.testing.assert_array_equal(a, b)


def test_other_steps_do_not_touch_the_model(tmp_path):
    with logger(tmp_path) as log:
        for step in range(1, 50):
            log(step, print)  # no model at all
    assert not maps_in(tmp_path)
    assert not events(tmp_path)


@pytest.mark.parametrize("every", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_many_steps_compile_everything_once(every, tmp_path, caplog):
    """The step and the maps once each, and after the second look nothing at all."""
    jax.clear_caches()
    model = Net()
    optimizer = nnx.Optimizer(model, optax.sgd(0.01), wrt=nnx.Param)

    @nnx.jit
    def descend(model, optimizer, images):
        def loss(model):
            encoding, state = fam_jax.capture(model, at="act").with_state(images)
            nnx.update(model, state)
            maps = fam_jax.decomposition()(encoding, encoding.embeddings[::-1])
            return jnp.sum(encoding.embeddings**2) + fam_jax.training.total_variation(maps).mean()

        optimizer.update(model, nnx.grad(loss)(model))

    def compiled():
        messages = [r.getMessage() for r in caplog.records if r.name.startswith("jax")]
        return [line.split()[1] for line in messages if line.startswith("Compiling ")]

    images = batch()[0]
    with caplog.at_level(logging.WARNING), jax.log_compiles(), logger(tmp_path, every=every) as log:
        for step in range(10 * every + 1):
            log(step, model)
            descend(model, optimizer, images)
            if step == every:
                soon = len(compiled())
    assert compiled().count("jit(descend)") == 1
    assert compiled().count("jit(_explain_pairs)") == 1
    assert compiled()[soon:] == []
    assert list(maps_in(tmp_path)) == [
        f"step-{step:08}.npz" for step in range(0, 10 * every + 1, every)
    ]


def train(log, steps, seed=lambda step: step):
    """Log every step of some deterministic training."""
    model = Net()
    start = model.fc.kernel[...]
    for step in steps:
        model.fc.kernel[...] = start * (1 + seed(step))
        log(step, model)


def test_a_run_that_goes_on_leaves_what_one_without_a_break_leaves(tmp_path):
    """Stopped at 120 after a checkpoint at 40: maps from 50 on are made again."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    with logger(whole) as log:
        train(log, range(151))
    with logger(broken) as log:
        train(log, range(120), lambda step: step + 1000 * (step > 40))  # another way after 40
    half = broken / "maps" / ".000120.npz.0123abcd.part"
    half.touch()
    with logger(broken, resume=True) as log:
        train(log, range(41, 151))
    expected, actual = maps_in(whole), maps_in(broken)
    assert list(actual) == list(expected)
    for name in expected:
        for key, value in expected[name].items():
            np.testing.assert_array_equal(actual[name][key], value)
    assert (broken / "strip.png").read_bytes() == (whole / "strip.png").read_bytes()
    assert not half.exists()


def test_tensorboard_is_told_to_forget_what_is_made_again(tmp_path):
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    for resume in (False, True):
        with logger(tmp_path, resume=resume) as log:
            log(50, Net())
    last = max(tmp_path.glob("events.*"), key=lambda file: file.stat().st_mtime_ns)
    data, starts = last.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        event = Event.FromString(data[12 : 12 + length])
        data = data[16 + length :]
        if event.session_log.status == SessionLog.START:
            starts.append(event.step)
    assert starts == [50]


def test_a_folder_with_maps_is_not_taken_unasked_nor_for_other_images(tmp_path):
    with logger(tmp_path) as log:
        log(50, Net())
    with pytest.raises(FileExistsError, match=r"holds maps up to step 50; pass resume=True"):
        logger(tmp_path)
    with pytest.raises(ValueError, match="holds maps of other images or of another layer"):
        logger(tmp_path, at="conv2", resume=True)
    with pytest.raises(ValueError, match="holds maps of other images"):
        MapLogger(tmp_path, REFERENCES, QUERIES, at="act", every=1, resume=True)
    assert list(maps_in(tmp_path)) == ["step-00000050.npz"]


def test_wrong_arguments_are_told(tmp_path, unchecked):
    with pytest.raises(ValueError, match="every: expected a positive integer, got 0"):
        logger(tmp_path, every=0)
    with pytest.raises(ValueError, match="2 queries but 1 references"):
        MapLogger(tmp_path, QUERIES, REFERENCES[:1], at="act", every=1)
    with pytest.raises(ValueError, match="pictures: 1 of them for 2 images"):
        logger(tmp_path, pictures=(np.zeros((1, 4, 4, 3), np.uint8), REFERENCES))
    with logger(tmp_path) as log, pytest.raises(ValueError, match="act"):
        log(0, nnx.Linear(3, 3, rngs=nnx.Rngs(0)))
    assert not maps_in(tmp_path)


def test_other_models_are_taken_as_they_are(tmp_path):
    """A function with a tap, and grey images of other sizes, shown between their extremes."""
    images = np.random.default_rng(0).normal(size=(1, 8, 6, 1)).astype(np.float32)
    others = images[:, :4]
    with MapLogger(tmp_path, images, others, at="itself", every=1) as log:
        out = log.log(3, lambda x: fam_jax.tap(jnp.abs(x), "itself").mean((1, 2)))
    assert out.query_maps.shape == (1, 8, 6)
    shown = np.load(tmp_path / "probe.npz")
    assert shown["query_0"].shape == (8, 6, 3)
    assert (shown["query_0"].min(), shown["query_0"].max()) == (0, 255)


def test_the_strip_has_a_column_for_each_of_some_steps(tmp_path):
    with logger(tmp_path, every=1) as log:
        for step in range(6):
            log(step, Net())
    ax = strip(tmp_path, columns=3).axes[0]
    columns = [label.get_text() for label in ax.get_xticklabels()]
    assert columns == ["", "step 0", "step 2", "step 5"]
    rows = [label.get_text() for label in ax.get_yticklabels()]
    assert rows == ["query 0", "reference 0", "query 1", "reference 1"]
    with pytest.raises(FileNotFoundError, match="holds no maps"):
        strip(tmp_path / "maps")
