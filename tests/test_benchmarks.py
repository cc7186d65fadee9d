"""The benchmarks run and print their tables. What they measure decides nothing here."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fam_jax import metrics

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def output(script):
    run = subprocess.run(
        [sys.executable, BENCHMARKS / script, "--quick"],
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"OMP_WAIT_POLICY": "passive"},  # idle threads of PyTorch do not spin
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_forward_prints_its_table_or_what_it_lacks():
    printed = output("forward.py")
    if importlib.util.find_spec("torch") and importlib.util.find_spec("torchvision"):
        assert "| JAX " in printed
        assert "| PyTorch, channels last " in printed
    else:
        assert "nothing to compare with: torch" in printed


def test_training_prints_its_table():
    printed = output("training.py")
    assert "+ MapLogger, between looks" in printed
    assert "+ map loss at layer3, second pass" in printed


def test_map_cost_prints_its_tables():
    lines = output("map_cost.py").splitlines()
    rows = [line.split("|")[1].strip() for line in lines if line.startswith("|")]
    assert rows.count("job") == 3
    assert {"JAX: embedding only", "JAX: fam_jax.explain", "JAX: fam_jax.explain_all"} <= set(rows)
    assert {"by hand, einsum", "by hand, factored", "explain_all, chunk 5"} <= set(rows)
    assert {"contrastive by hand, factored", "explain_all, contrastive"} <= set(rows)
    assert any(row.startswith("PyTorch") for row in rows)


def test_search_prints_its_table():
    rows = [line.split("|")[1].strip() for line in output("search.py").splitlines() if "|" in line]
    assert {"plain sum (XLA)", "search, cosine", "search, dot", "search, euclidean"} <= set(rows)


def test_sharding_prints_its_table():
    """A batch in parts moves nothing; parameters in parts are gathered as in a forward pass."""
    lines = [line.split("|")[1:-1] for line in output("sharding.py").splitlines() if "|" in line]
    rows = {tuple(cell.strip() for cell in line[1:4]): line[4].strip() for line in lines}
    whole, parts = "batch", "batch, FSDP"
    for program in ("forward", "explain_pairs", "explain_all"):
        assert rows[whole, "2 x 1", program] == "none"
    assert rows[parts, "2 x 1", "explain_pairs"] == rows[parts, "2 x 1", "forward"]
    assert "gathers" in rows[parts, "2 x 1", "forward"]


def test_methods_prints_a_row_for_each():
    printed = output("methods.py")
    for name in ("fam", "relevance-cam", "chefer", "occlusion"):
        assert f"| {name} " in printed
    assert "this method is for transformers" in printed
    assert "| frozen gates, at patch_embed" in printed
    assert "no layer 'patch_embed'" in printed


# What is no number of a map by itself: other maps, parts of metrics, statistics over pairs.
NO_METRIC = {
    "Curve",
    "Estimate",
    "box_iou",
    "box_masks",
    "centre_gaussian",
    "eer_threshold",
    "left_out",
    "mean_and_error",
    "normalised",
    "paired_difference",
    "random_map",
    "randomised",
    "verification_accuracy",
}


def test_metrics_prints_a_row_for_every_metric_and_compares_three():
    rows = [line for line in output("metrics.py").splitlines() if line.startswith("| ")]
    first = [row.split("|")[1].strip() for row in rows]
    ours = {
        name
        for name, value in vars(metrics).items()
        if callable(value) and not name.startswith("_")
    } - NO_METRIC
    assert ours <= set(first), ours - set(first)
    if importlib.util.find_spec("torch") and importlib.util.find_spec("torchvision"):
        assert first.count("deletion") == first.count("insertion") == 2
    if all(map(importlib.util.find_spec, ("torch", "torchvision", "pytorch_grad_cam"))):
        assert first.count("road") == 2
