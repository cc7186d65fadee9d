"""Grad-CAM of a network on volumes is pytorch-grad-cam's, on the same weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import fam_jax
from tests.close import assert_close

torch = pytest.importorskip("torch")
compare = pytest.importorskip("tests.parity.compare")
compare.import_torchvision()
tool = pytest.importorskip("pytorch_grad_cam")
pytestmark = pytest.mark.parity

SIZE = (8, 10, 12)


class Net(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.first = nnx.Conv(1, 6, (3, 3, 3), strides=2, padding=1, rngs=rngs)
        self.second = nnx.Conv(6, 8, (3, 3, 3), padding=1, rngs=rngs)
        self.fc = nnx.Linear(8, 5, rngs=rngs)

    def __call__(self, x):
        x = self.second(nnx.relu(self.first(x)))
        return self.fc(jnp.tanh(nnx.relu(x)).mean((1, 2, 3)))


class Tanh(torch.nn.Module):
    def forward(self, x):
        return torch.tanh(x).mean((2, 3, 4))


def in_torch(net):
    """The same network, channels first."""
    layers = []
    for conv, stride in ((net.first, 2), (net.second, 1)):
        kernel = np.asarray(conv.kernel[...])
        new = torch.nn.Conv3d(*kernel.shape[3:5], 3, stride=stride, padding=1)
        new.weight.data = torch.tensor(np.transpose(kernel, (4, 3, 0, 1, 2)))
        new.bias.data = torch.tensor(np.asarray(conv.bias[...]))
        layers += [new, torch.nn.ReLU()]
    fc = torch.nn.Linear(8, 5)
    fc.weight.data = torch.tensor(np.asarray(net.fc.kernel[...]).T)
    fc.bias.data = torch.tensor(np.asarray(net.fc.bias[...]))
    return torch.nn.Sequential(*layers, Tanh(), fc).eval()


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("GradCAM", fam_jax.grad_cam),
        ("HiResCAM", fam_jax.hires_cam),
        ("XGradCAM", fam_jax.xgrad_cam),
    ],
)
def test_raw_maps_of_a_cosine(kind, method):
    net = Net()
    theirs = in_torch(net)
    x = np.random.default_rng(0).standard_normal((3, *SIZE, 1)).astype(np.float32)
    r = np.random.default_rng(1).standard_normal((3, 5)).astype(np.float32)

    class Noting(getattr(tool, kind)):
        def get_cam_image(self, *args, **options):
            self.raw = super().get_cam_image(*args, **options)
            return self.raw

    def target(reference):
        return lambda embedding: torch.cosine_similarity(embedding, reference, dim=0)

    targets = [target(torch.tensor(row)) for row in r]
    with Noting(theirs, [theirs[2]]) as cam:
        cam(torch.tensor(np.moveaxis(x, -1, 1)), targets)
        raw = cam.raw
    with jax.default_matmul_precision("highest"):
        out = fam_jax.explain(fam_jax.capture(net, at="second"), x, r, method(norms="free"))
    expected = raw if kind == "HiResCAM" else np.maximum(raw, 0)
    assert out.maps.shape == (3, 4, 5, 6)
    assert_close(out.maps, expected, rtol=1e-5)
