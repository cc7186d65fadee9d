"""Who is compared with whom: on pictures of one colour each, everything is known beforehand."""

from dataclasses import replace

import numpy as np
import pytest

import fam_jax
import pretrained_ports
from fam_jax import evaluate
from fam_jax.evaluate import asking, tasks
from fam_jax.evaluate.cases import Batch, in_batches
from fam_jax.evaluate.measures import Answer, measure
from fam_jax.evaluate.network import Network
from tests.evaluate import toy
from tests.evaluate.test_data import boxed, omniglot


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    return str(toy.folder(tmp_path_factory.mktemp("data") / "colours"))


def build(task, data, **options):
    return tasks.build(task, toy.network(), tasks.Options(data, **options))


@pytest.mark.parametrize(
    ("task", "figure"),
    [("retrieval", "recall@1"), ("contrastive", "3-NN accuracy"), ("verification", "accuracy")],
)
def test_a_network_that_sees_colours_tells_them_apart(task, figure, colours):
    cases = build(task, colours, cases=10, neighbours=3)
    assert cases.figures[figure] == 1.0
    assert len(cases) == 10
    batch = cases.batches[0]
    z = toy.network().embed(batch.images)
    near = fam_jax.cosine.score(z, batch.references)
    if task == "verification":
        assert batch.same.sum() == 5
        assert near[batch.same].min() > near[~batch.same].max()
    else:
        assert np.all(near > fam_jax.cosine.score(z, batch.swapped))


def test_few_shot_episodes(colours):
    cases = build("fewshot", colours, way=3, shot=2, cases=12)
    assert cases.figures == {"accuracy": 1.0, "queries": 18}
    assert len(cases) == 12
    assert cases.batches[0].prototypes.shape == (3, 3)


def test_few_shot_takes_omniglots_runs(tmp_path):
    cases = build("fewshot", str(omniglot(tmp_path / "runs")))
    assert cases.figures == {"accuracy": 1.0, "queries": 8}
    assert "Omniglot's official 20-way one-shot runs" in cases.about


def test_the_mosaic_game_has_one_right_cell(colours):
    cases = build("mosaic", colours, cases=5)
    batch = cases.batches[0]
    assert batch.images.shape == (5, 32, 32, 3)
    assert batch.masks.mean() == 0.25
    inside = [image[mask].mean(0) for image, mask in zip(batch.images, batch.masks, strict=True)]
    assert np.all(fam_jax.cosine.score(np.stack(inside), batch.references) > 0.99)


def test_a_map_in_closed_form_wins_the_mosaic_game(colours):
    """Of colours, the margin's decomposition is largest where the reference's colour is."""
    network = toy.network()
    batch = tasks.build("mosaic", network, tasks.Options(colours, cases=6)).batches[0]
    answer = Answer("contrastive", network.encode, network.similarity, batch, toy.key())
    values = measure(["place"], answer)
    assert values["pointing"].tolist() == [1.0] * 6
    assert values["mass inside"].min() > 0.4


def test_localization_compares_with_the_other_pictures_objects(tmp_path):
    root = tmp_path / "boxes"
    for i in range(3):
        boxed(root, f"picture{i}", (1, 1, 20, 30))
    cases = build("localization", str(root))
    assert cases.figures["object's share of the picture"] == pytest.approx(0.5, abs=0.05)
    assert len(cases) == 3


def test_wrong_data_for_a_task_is_refused(colours, tmp_path):
    toy.folder(tmp_path / "few", each=2)
    for name in ("red", "green"):
        for file in (tmp_path / "few" / name).iterdir():
            file.unlink()
    with pytest.raises(ValueError, match="four classes are needed, the data has 2"):
        build("mosaic", str(tmp_path / "few"))


def test_batches_are_filled_to_one_shape():
    rows = np.arange(5, dtype=np.float32)[:, None]
    whole = Batch(list("abcde"), rows, rows, rows, rows, background=rows[:2])
    first, second = in_batches(whole, 3)
    assert (first.names, second.names) == (["a", "b", "c"], ["d", "e"])
    assert second.images[:, 0].tolist() == [3, 4, 4]
    assert len(second) == 2
    assert second.background.shape == (2, 1)


def test_a_task_of_a_users_own_is_drawn_and_measured(colours, tmp_path, monkeypatch):
    """By the same run, with a file for each method; its name is then taken."""

    def first_of_each(network, options, rng):
        return tasks.build("mosaic", network, options)

    monkeypatch.setattr(tasks, "TASKS", dict(tasks.TASKS))
    evaluate.register_task("mine", first_of_each, ["place"])
    options = evaluate.Options(colours, cases=2)
    settings = {"task": "mine", "model": "colours", "layer": "conv", "gates": "free", "map": [4, 4]}
    evaluate.evaluate(
        toy.network(), "mine", options, ["contrastive"], settings, tmp_path / "out", say=str
    )
    assert "| contrastive | 0." in (tmp_path / "out" / "table.md").read_text()
    with pytest.raises(ValueError, match="'mine' is another task's"):
        evaluate.register_task("mine", first_of_each, ["place"])
    with pytest.raises(ValueError, match="measures: expected one of sanity"):
        evaluate.register_task("other", first_of_each, ["places"])


def test_arrays_of_ones_own_are_compared_without_files(monkeypatch):
    """A users's encoder, images and masks: a map in closed form points at what was marked."""
    encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
    images = np.zeros((3, 8, 8, 2), np.float32)
    images[:, :4, :, 0], images[:, 4:, :, 1] = 1, 1
    masks = np.zeros((3, 8, 8), bool)
    masks[:, :4] = True
    references = np.tile(np.float32([1, 0]), (3, 1))
    batch = evaluate.Batch.of(images, references, background=references[:, ::-1], masks=masks)
    values = evaluate.compare(encode, batch, ["contrastive", "activation-sum"], ["place"])
    assert values["contrastive"]["mass inside"].tolist() == [1.0] * 3
    assert values["activation-sum"]["mass inside"].tolist() == [0.5] * 3
    table = evaluate.means(values)
    assert table["contrastive"]["pointing"].mean == 1
    monkeypatch.setattr(asking, "MAIN", ("fam", "le-grad"))
    with pytest.warns(UserWarning, match="^left out: le-grad: this method is for transformers"):
        assert [*evaluate.compare(encode, batch, ["main"], ["place"])] == ["fam"]
    with pytest.raises(ValueError, match="this method is for transformers"):
        evaluate.compare(encode, batch, ["le-grad"], ["place"])
    with pytest.raises(ValueError, match=r"^methods: expected one of .*; did you mean 'fam'"):
        evaluate.compare(encode, batch, ["fan"])
    with pytest.raises(ValueError, match=r"^methods: no method is named"):
        evaluate.compare(encode, batch, [])
    with pytest.raises(ValueError, match="network: this is measured of a network"):
        evaluate.compare(encode, batch, ["fam"], ["randomisation"])
    with pytest.raises(ValueError, match="prototypes: this is measured of cases that have it"):
        evaluate.compare(encode, batch, ["fam"], ["fidelity"])
    told = replace(batch, same=np.ones(3, bool))
    with pytest.raises(ValueError, match="threshold: decisions"):
        evaluate.compare(encode, told, ["fam"], ["decisions"])


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        pytest.param(
            "efficientnet-lite0",
            ("conv_stem", "bn1"),
            ("conv_head", "bn2"),
            marks=pytest.mark.slow,
        ),
        ("vit-mini-patch8", ("patch_embed",), ("blocks.3", "norm")),
        ("tiny", ("conv1", "bn1"), ("layer3",)),
    ],
)
def test_the_last_stage_is_the_last_that_runs(name, first, last):
    """Not the last of the names: parameters are shuffled from the output down."""
    backbone = pretrained_ports.create(name)
    stages = Network(backbone, fam_jax.capture(backbone), fam_jax.cosine).stages()
    assert (stages[0], stages[-1]) == (first, last)
