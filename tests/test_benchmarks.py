"""The benchmarks run and print their tables. What they measure decides nothing here."""

import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def first_cells(script):
    """What stands first in every row of the tables."""
    run = subprocess.run(
        [sys.executable, BENCHMARKS / script, "--quick"],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr
    return [line.split("|")[1].strip() for line in run.stdout.splitlines() if line.startswith("|")]


def test_forward_prints_its_table():
    rows = first_cells("forward.py")
    assert "JAX" in rows
    assert any(row.startswith("PyTorch") for row in rows)


def test_map_cost_prints_its_tables():
    rows = first_cells("map_cost.py")
    assert rows.count("job") == 3
    assert {"JAX: embedding only", "JAX: fam_jax.explain", "JAX: fam_jax.explain_all"} <= set(rows)
    assert {"by hand, einsum", "by hand, factored", "explain_all, chunk 5"} <= set(rows)
    assert any(row.startswith("PyTorch") for row in rows)
