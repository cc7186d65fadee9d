"""The session every test runs in: 8 forced host devices, strict types, checked shapes."""

import gc
import os
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent

# The tests compile much and compute little: code that is not optimised saves 40 % of their time.
# Flags that are set already come last and win; workers and commands inherit these.
# A program in one part, too: split for two threads, it takes a sixth more of a processor's time.
_FLAGS = [
    "--xla_force_host_platform_device_count=8",
    "--xla_backend_optimization_level=0",
    "--xla_cpu_parallel_codegen_split_count=1",
]
_given = os.environ.get("XLA_FLAGS", "").split()
_jaxlib = tuple(map(int, version("jaxlib").split(".")[:2]))
if _jaxlib <= (0, 10) and not _given:
    # The older code generator compiles in half the time; a session with flags of its own keeps the
    # one that users have.
    _FLAGS.append("--xla_cpu_use_fusion_emitters=false")
if _jaxlib == (0, 12):
    # Its fused bfloat16 sums give NaN in some networks, each time in other places.
    _FLAGS.append("--xla_cpu_experimental_ynn_fusion_type=")
os.environ["XLA_FLAGS"] = " ".join([*(flag for flag in _FLAGS if flag not in _given), *_given])
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Whatever was compiled once is read again: by other files, the commands' processes, the next run.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".pytest_cache" / "xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ["HF_HUB_OFFLINE"] = "1"

import jax
import jaxtyping
import pytest
from hypothesis import settings

# Every shape and type in a signature is checked where the function is called.
jaxtyping.install_import_hook(["fam_jax", "pretrained_ports"], "beartype.beartype")

# What is traced is many small objects that die by their counts: looking for cycles among them as
# often as Python does it by itself takes a tenth of the tests' time.
gc.set_threshold(100_000, 20, 50)

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


# The same examples in every run: a rare one must not fail a change that has nothing to do with it.
# No deadline: the first example compiles.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

# Helpers of the tests, which `--doctest-modules` would import; they need torch.
collect_ignore_glob = [
    "tests/parity/compare.py",
    "tests/parity/torch_*.py",
    "tests/ports/golden/*.py",
]
# Of extras that `test` has not: with one comes an older Pillow, with the other a hundred packages.
if find_spec("gradio") is None:
    made_of_it = ("page", "*_tab", "shared", "upload")
    collect_ignore_glob += [f"fam_jax/apps/live/{name}.py" for name in made_of_it]
if find_spec("fiftyone") is None:
    collect_ignore_glob += ["fam_jax/integrations/fiftyone.py"]


def pytest_itemcollected(item):
    if "x64" in getattr(item, "fixturenames", ()):
        item.add_marker("double")


@pytest.fixture(scope="module", autouse=True)
def forget():
    """Compiled programs go with the file that needed them; a whole run would hold gigabytes."""
    yield
    jax.clear_caches()


@pytest.fixture
def x64():
    """Float64 arrays inside the test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def unchecked():
    """Signatures as a user has them, unchecked: for the messages of our own checks."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def assets() -> Path:
    """Real checkpoints and pictures, where they lie beside the repository."""
    folder = ROOT.parent / "shared" / "assets"
    if not folder.is_dir():
        pytest.skip("needs the real checkpoints and pictures of shared/assets")
    return folder
