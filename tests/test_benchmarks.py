"""The benchmarks run and print their tables. What they measure decides nothing here."""

import importlib.util
import subprocess
import sys
from pathlib import Path

from fam_jax.evaluate.rules import RULES

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def output(script):
    run = subprocess.run(
        [sys.executable, BENCHMARKS / script, "--quick"],
        capture_output=True,
        text=True,
        timeout=600,
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


def test_map_cost_prints_its_tables():
    lines = output("map_cost.py").splitlines()
    rows = [line.split("|")[1].strip() for line in lines if line.startswith("|")]
    assert rows.count("job") == 3
    assert {"JAX: embedding only", "JAX: fam_jax.explain", "JAX: fam_jax.explain_all"} <= set(rows)
    assert {"by hand, einsum", "by hand, factored", "explain_all, chunk 5"} <= set(rows)
    assert any(row.startswith("PyTorch") for row in rows)


def test_methods_prints_a_row_for_every_method():
    printed = output("methods.py")
    for name in RULES:
        assert f"| {name} " in printed
