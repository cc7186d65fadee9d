"""`MapLogger(wandb=run)`: what TensorBoard gets, a run of Weights & Biases gets, too."""

import numpy as np
import pytest
from PIL import Image

import fam_jax
from fam_jax import plot
from fam_jax.training import MapLogger
from tests.training.toy import Net, batch

wandb = pytest.importorskip("wandb", reason="needs pip install wandb")
pytest.importorskip("tensorboardX", reason="needs the train extra")


def test_an_offline_run_holds_overlays_and_scores(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    queries, references = (batch(seed, size=2)[0] for seed in (1, 2))
    pictures = [np.full((12, 10, 3), 40 * i, np.uint8) for i in range(4)]
    pictures = pictures[:2], pictures[2:]
    model = Net()
    with wandb.init(mode="offline", project="maps", dir=tmp_path) as run:
        folder = tmp_path / "maps"
        options = {"at": "act", "every": 5, "pictures": pictures, "wandb": run}
        with MapLogger(folder, queries, references, **options) as logger:
            for step in range(7):  # the run takes what is of one step when the next one begins
                logger(step, model)
                run.log({"loss": 1.0 / (step + 1)}, step=step)
        summary = dict(run.summary)
    model.eval()
    expected = fam_jax.explain_pairs(fam_jax.capture(model, at="act"), queries, references)
    assert summary["loss"] == pytest.approx(1 / 6)
    for i in range(2):
        assert summary[f"pair_{i}/score"] == pytest.approx(float(expected.scores[i]))
        for side, maps, shown in zip(("query", "reference"), expected[:2], pictures, strict=True):
            (file,) = tmp_path.rglob(summary[f"pair_{i}/{side}"]["path"])
            overlay = plot.overlay(shown[i], maps[i])
            np.testing.assert_array_equal(np.asarray(Image.open(file)), overlay)
    assert len(list(tmp_path.rglob("media/**/*.png"))) == 8  # two looks, two pairs, both sides
