"""Every family gives PyTorch's numbers: the embedding and every stage."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import pretrained_ports

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

TOLERANCE = {"float64": 1e-10, "float32": 1e-5}
STAGES = ("layer1", "layer2", "layer3", "layer4")


class Noting:
    """Stands in for a module and keeps what it gave."""

    def __init__(self, module):
        self.module = module

    def __call__(self, x):
        self.output = self.module(x)
        return self.output

    def __getattr__(self, name):
        return getattr(self.module, name)


def ours(model, names, images):
    """As `torch_models.outputs`."""
    graph, state = nnx.split(model)

    @jax.jit
    def run(state, images):
        model = nnx.merge(graph, state)
        notes = {name: Noting(getattr(model, name)) for name in names}
        for name, note in notes.items():
            object.__setattr__(model, name, note)
        return {"": model(images), **{name: note.output for name, note in notes.items()}}

    return run(state, jnp.asarray(images))


def check(torch_models, tmp_path, name, reference, paths, shape, record, batches=(1, 3)):
    """Compare in both types."""
    torch_models.randomise(reference)
    images = np.random.default_rng(0).standard_normal((3, *shape))
    torch.save(reference.state_dict(), tmp_path / "random.pth")
    for head in ("fc", "linear"):
        if hasattr(reference, head):
            setattr(reference, head, torch.nn.Identity())
    for dtype in ("float64", "float32"):
        reference = reference.to(getattr(torch, dtype))
        with jax.enable_x64(dtype == "float64"), jax.default_matmul_precision("highest"):
            backbone = pretrained_ports.load(name, tmp_path / "random.pth", param_dtype=dtype)
            for batch in batches:
                expected = torch_models.outputs(reference, paths, images[:batch].astype(dtype))
                given = ours(backbone.model, paths, images[:batch].astype(dtype))
                assert given.keys() == expected.keys()
                for path, value in expected.items():
                    assert given[path].dtype == dtype
                    error = np.abs(given[path] - value).max() / np.abs(value).max()
                    record(f"{name} {dtype} {path or 'embedding'}", float(error))
                    assert error <= TOLERANCE[dtype], (path, batch)


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "resnet34",
        "resnet50",
        "resnet101",
        "resnet152",
        "wide_resnet50_2",
        "resnext50_32x4d",
    ],
)
def test_resnet(torch_models, tmp_path, record_property, name):
    reference = getattr(torch_models.import_torchvision().models, name)()
    paths = {stage: stage for stage in STAGES}
    batches = (1, 3) if name in ("resnet18", "resnet50") else (3,)  # compiling takes the time
    check(torch_models, tmp_path, name, reference, paths, (64, 96, 3), record_property, batches)


@pytest.mark.parametrize("depth", [20, 56])
def test_cifar_resnet(torch_models, tmp_path, record_property, depth):
    reference = torch_models.CifarResNet(depth)
    paths = {stage: stage for stage in STAGES[:3]}
    name = f"cifar-resnet{depth}"
    check(torch_models, tmp_path, name, reference, paths, (31, 42, 3), record_property)


@pytest.mark.parametrize(("channels", "shape"), [(1, (28, 28)), (3, (84, 55))])
def test_conv4(torch_models, tmp_path, record_property, channels, shape):
    reference = torch_models.conv4(channels)
    paths = {f"block{b}": str(4 * b - 1) for b in range(1, 5)}
    shape = (*shape, channels)
    check(torch_models, tmp_path, "conv4", reference, paths, shape, record_property)
