"""`import fam_jax` is light, and every public name is there."""

import subprocess
import sys

import pytest

import fam_jax

HEAVY = ("flax", "equinox", "keras", "torch", "matplotlib", "grain", "tensorstore", "PIL")
HEAVY += ("optax", "rich", "typer")


def modules_after(*statements: str) -> list[set[str]]:
    """What is imported after each of them, in one new process."""
    say = "print(*sys.modules)"
    code = "\n".join(["import sys", *(line for s in statements for line in (s, say))])
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [set(line.split()) for line in run.stdout.splitlines()]


@pytest.fixture(scope="module")
def after() -> list[set[str]]:
    return modules_after("import jax", "import fam_jax", "fam_jax.plot.overlay")


def test_import_adds_little_to_jax(after):
    """At most its own modules and jaxtyping's beside those of jax: well under 0.2 s."""
    jax, ours, _ = after
    added = ours - jax
    tops = {name.split(".")[0] for name in added}
    assert not tops & set(HEAVY)
    foreign = {name for name in added if name.split(".")[0] not in ("fam_jax", "jaxtyping", "jax")}
    assert len(foreign) <= 60, sorted(foreign)


def test_pretrained_ports_knows_nothing_of_fam_jax_or_torch():
    (modules,) = modules_after("import pretrained_ports")
    tops = {name.split(".")[0] for name in modules}
    assert not tops & {"fam_jax", "torch", "matplotlib"}


def test_figures_are_one_attribute_away_and_imported_on_demand(after):
    _, imported, used = after
    assert "matplotlib" not in imported
    assert "matplotlib" in used
    with pytest.raises(AttributeError, match="has no attribute 'plots'"):
        _ = fam_jax.plots


def test_every_public_name_is_documented():
    outside = {"jaxtyping", "importlib"}
    names = [n for n in dir(fam_jax) if not n.startswith("_") and n not in outside]
    assert {"capture", "encoder", "tap", "fam", "margin", "explain_all", "neighbours"} <= set(names)
    for name in names:
        assert getattr(fam_jax, name).__doc__, name
