"""Every module imports and every command runs; a warning that our code causes is an error.

    python .ci/smoke.py

where fam_jax is installed with the extras app, demo, bulk, report, train and text. It needs neither
test tools nor a network, so that it can run with the lowest versions that are allowed.
"""

import importlib
import os
import pkgutil
import subprocess
import sys
import tempfile
import time
import warnings
from importlib.metadata import entry_points
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")  # compile sooner
os.environ["HF_HUB_OFFLINE"] = "1"

import fam_jax
import pretrained_ports
from fam_jax.apps import demo
from fam_jax.apps.main import app

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
PICTURES = 8

# The small network throughout, and few mosaics: what is asked here is whether everything runs.
pretrained_ports.weights_installed = lambda name: name == "tiny"
demo.GAMES = 8

# Lines of each command, in an order in which each finds what it reads.
LINES = {
    "models": ["models", "models tiny"],
    "explain": [
        "explain pictures/0.png pictures/1.png pictures/2.png -o explained",
        "explain pictures/0.png pictures/1.png --background pictures -o other",
        "explain pictures/0.png pictures/1.png --image-size 64 --map-size 32 --json -o sized",
    ],
    "redraw": ["redraw explained -o again"],
    "demo": ["demo -o demo"],
    "evaluate": [
        "evaluate mosaic --image-size 64 --cases 4 --steps 4 "
        "--methods fam,decomposition,random -o mosaic"
    ],
    "convert": ["convert tiny.safetensors converted.safetensors --model tiny"],
    "map": [
        "map pairs.csv -o maps --batch 4",
        "map pairs.parquet -o once --once --map-size 32 --dtype uint8 --workers 1 --batch 4",
        "map --queries pictures --references pictures -o grid --batch 4",
    ],
    "index": ["index pictures -o index --batch 4"],
    "retrieve": ["retrieve pictures/0.png --index index --top 3 -o nearest --maps hits"],
    "report": ["report maps -o page"],
    "app": ["app --help"],
}


def check_modules() -> None:
    """Import every module of both packages; those for one other package where there is that one."""
    for package in (fam_jax, pretrained_ports):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            try:
                importlib.import_module(module.name)
            except ModuleNotFoundError as missing:
                kinds = ("_core.frameworks", "integrations")
                if module.name not in {f"fam_jax.{kind}.{missing.name}" for kind in kinds}:
                    raise


def check_lines() -> None:
    """Fail where a command has no line here."""
    import typer

    commands = set(typer.main.get_command(app).commands)
    if commands != set(LINES):
        sys.exit(f"without lines: {commands - set(LINES)}; no commands: {set(LINES) - commands}")


def write_inputs() -> None:
    """What the lines read: pictures, tables of pairs and a checkpoint."""
    import pyarrow as pa
    from PIL import Image
    from pyarrow import csv, parquet

    from fam_jax.io import photographs

    Path("pictures").mkdir()
    names = [f"pictures/{i}.png" for i in range(PICTURES)]
    for name, photo in zip(names, photographs.load(), strict=False):
        Image.fromarray(photo.image).save(name)
    pairs = pa.table({"query": names, "reference": names[::-1]})
    csv.write_csv(pairs, "pairs.csv")
    parquet.write_table(pairs, "pairs.parquet")
    weights = Path(pretrained_ports.__file__).parent / "weights" / "tiny.safetensors"
    Path("tiny.safetensors").write_bytes(weights.read_bytes())


def run(line: str) -> None:
    """Run a line as the installed `fam-jax`; stop where it fails."""
    start = time.monotonic()
    (command,) = entry_points(group="console_scripts", name="fam-jax")
    try:
        command.load()(line.split())
    except SystemExit as end:
        if end.code:
            sys.exit(f"exit code {end.code}: fam-jax {line}")
    print(f"== {time.monotonic() - start:.1f} s: fam-jax {line}", flush=True)


def check_training() -> None:
    """The extra `train`: MapLogger, and the optimizer and checkpoints of an example."""
    script = EXAMPLES / "train_protonet.py"
    subprocess.run([sys.executable, script, "--quick", "--out", "training"], check=True)


def check_text() -> None:
    """The extra `text`: what cleans sentences and cuts them into tokens."""
    import ftfy
    import tokenizers

    assert ftfy.fix_text("dâ€™or") == "d'or"
    assert tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0}, [])).encode("a").ids == [0]


def check_app() -> None:
    """The extra `app`: the page is served."""
    from urllib.request import urlopen

    from fam_jax.apps import network
    from fam_jax.apps.live import opened, page, serve
    from fam_jax.apps.live.shared import App

    one = opened.open_(network.open_network("tiny", image_size=32), ["fam"])
    with serve.folder() as folder:
        built = page.build(App(lambda *_: one, ["tiny"], folder))
        address = serve.launch(built, "127.0.0.1", None, browser=False)
        with urlopen(address) as answer:
            assert page.TITLE in answer.read().decode()
        built.close(verbose=False)


def main() -> None:
    """All of it, in a folder that goes."""
    warnings.filterwarnings("error", module=r"(fam_jax|pretrained_ports)(\.|$)")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        check_lines()
        check_modules()
        write_inputs()
        for line in ["--version", *(line for lines in LINES.values() for line in lines)]:
            run(line)
        check_training()
        check_text()
        check_app()
        os.chdir(EXAMPLES)


if __name__ == "__main__":
    main()
