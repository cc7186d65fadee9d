"""An example as its user runs it, within the tests' process: what it prints."""

import runpy
import sys
from pathlib import Path

import jax

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def run_example(monkeypatch, capsys, script, *args):
    """What `python examples/SCRIPT ARGS` prints; what it imports and compiles stays for the next.

    With JAX's own promotion of types and ranks, as in a process of its own; warnings are errors.
    """
    monkeypatch.setattr(sys, "argv", [script, *map(str, args)])
    monkeypatch.syspath_prepend(EXAMPLES)
    capsys.readouterr()
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        runpy.run_path(str(EXAMPLES / script), run_name="__main__")
    return capsys.readouterr().out
