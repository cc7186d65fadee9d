"""The benchmark runs and prints its tables. What it measures decides nothing here."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "map_cost.py"


def test_map_cost_prints_its_tables():
    run = subprocess.run(
        [sys.executable, SCRIPT, "--quick"], capture_output=True, text=True, timeout=600
    )
    assert run.returncode == 0, run.stderr
    rows = [line.split("|")[1].strip() for line in run.stdout.splitlines() if line.startswith("|")]
    assert rows.count("job") == 3
    assert {"JAX: embedding only", "JAX: fam_jax.explain", "JAX: fam_jax.explain_all"} <= set(rows)
    assert {"by hand, einsum", "by hand, factored", "explain_all, chunk 5"} <= set(rows)
    assert any(row.startswith("PyTorch") for row in rows)
