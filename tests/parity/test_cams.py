"""Grad-CAM of a similarity gives the maps of the PyTorch tools, on the same weights."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fam_jax
import pretrained_ports

torch = pytest.importorskip("torch")
compare = pytest.importorskip("tests.parity.compare")
pytestmark = pytest.mark.parity

SIZE = (64, 96)
METHODS = {
    "cosine": fam_jax.grad_cam(fam_jax.cosine, norms="free"),
    "dot": fam_jax.grad_cam(fam_jax.dot),
    "frozen cosine": fam_jax.grad_cam(fam_jax.cosine, norms="frozen"),
}


class Target:
    """What both tools call with the embedding of one image."""

    def __init__(self, similarity, reference):
        self.similarity, self.reference = similarity, reference

    def __call__(self, embedding):
        if self.similarity == "cosine":
            return torch.cosine_similarity(embedding, self.reference, dim=0)
        return torch.dot(embedding, self.reference)


def pytorch_grad_cam(network, layer, images, targets):
    """Its raw maps [b h w], and what it returns."""
    tool = pytest.importorskip("pytorch_grad_cam")

    class Noting(tool.GradCAM):
        def get_cam_image(self, *args, **options):
            self.raw = super().get_cam_image(*args, **options)
            return self.raw

    with Noting(network, [network.get_submodule(layer)]) as cam:
        shown = cam(images, targets)
        return np.maximum(cam.raw, 0), shown


def torchcam(network, layer, images, targets):
    """Its raw maps [b h w], and what it returns unless told otherwise."""
    tool = pytest.importorskip("torchcam.methods")
    with tool.GradCAM(network, layer) as cam:
        (raw,) = cam(scores=network(images), targets=targets, normalized=False)
        (shown,) = cam(scores=network(images), targets=targets)
    return raw.numpy(), shown.numpy()


TOOLS = {"pytorch-grad-cam": pytorch_grad_cam, "torchcam": torchcam}


def damped(maps, epsilon):
    """`rescale`, with a constant added to the largest value, as the tools do."""
    highest = jnp.ptp(maps, axis=(1, 2), keepdims=True)
    return fam_jax.rescale(maps) * (highest / (highest + epsilon))


# From our raw maps to what a tool returns.
SHOWN = {
    "pytorch-grad-cam": lambda maps: damped(fam_jax.upsample(damped(maps, 1e-7), SIZE), 1e-7),
    "torchcam": lambda maps: damped(maps, 1e-8),
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    network = compare.randomise(compare.import_torchvision().models.resnet18())
    file = tmp_path_factory.mktemp("resnet18") / "random.pth"
    torch.save(network.state_dict(), file)
    network.fc = torch.nn.Identity()
    return SimpleNamespace(network=network, file=file)


@pytest.fixture(scope="module", params=["float64", "float32"])
def dtype(request):
    return request.param


@pytest.fixture(scope="module", params=["layer4", "layer3"])
def layer(request):
    """A pooling head, and one that runs through a whole stage."""
    return request.param


@pytest.fixture(scope="module")
def images(dtype):
    """Queries and references of two pairs, [2 b h w c]."""
    return np.random.default_rng(0).standard_normal((2, 2, *SIZE, 3)).astype(dtype)


@pytest.fixture(scope="module")
def ours(weights, images, layer, dtype):
    """Raw maps by every method, each side of a pair through our own network."""
    with jax.enable_x64(dtype == "float64"), jax.default_matmul_precision("highest"):
        model = pretrained_ports.load("resnet18", weights.file, param_dtype=dtype).model
        encode = fam_jax.capture(model, at=layer)
        queries, references = encode(images[0]), encode(images[1])
        maps = {name: method(queries, references.embeddings) for name, method in METHODS.items()}
    assert {m.dtype for m in maps.values()} == {np.dtype(dtype)}
    return {name: np.asarray(m) for name, m in maps.items()}


@pytest.fixture(params=["cosine", "dot"])
def similarity(request):
    return request.param


@pytest.fixture(params=TOOLS)
def tool(request):
    return request.param


@pytest.fixture
def theirs(weights, images, layer, dtype, similarity, tool):
    """The tool's raw maps, and the maps it returns; the references through PyTorch as well."""
    compare.import_torchvision()  # here, since pytorch-grad-cam imports it too
    network = weights.network.to(getattr(torch, dtype))
    queries, references = torch.as_tensor(images).permute(0, 1, 4, 2, 3)
    with torch.no_grad():
        targets = [Target(similarity, r) for r in network(references)]
    return TOOLS[tool](network, layer, queries, targets)


def error(given, expected, largest):
    """The largest difference in relation to each image's largest value of `largest`."""
    assert given.shape == expected.shape
    assert np.all(expected.max((1, 2)) > 0), "an empty map compares nothing"
    return float(np.max(np.abs(given - expected) / np.max(largest, (1, 2), keepdims=True)))


def test_raw_maps(ours, theirs, dtype, similarity, record_property):
    raw, _ = theirs
    # The free gradient of a cosine is a small difference of two terms as large as the gradient
    # with frozen norms. In float32 its rounding errors are those of the terms, in every tool.
    tolerance, largest = {
        "float64": (1e-10, raw),
        "float32": (1e-5, ours["dot" if similarity == "dot" else "frozen cosine"]),
    }[dtype]
    difference = error(ours[similarity], raw, largest)
    record_property("raw maps", float(difference))
    record_property("raw maps, of themselves", float(error(ours[similarity], raw, raw)))
    assert difference <= tolerance


@pytest.mark.parametrize("dtype", ["float64"], scope="module")
def test_shown_maps(ours, theirs, similarity, tool, record_property):
    """After their scaling and, by OpenCV, resizing, which end in float32."""
    _, shown = theirs
    with jax.enable_x64(True):
        given = np.asarray(SHOWN[tool](jnp.asarray(ours[similarity])))
    difference = error(given, shown, shown)
    record_property("shown maps", float(difference))
    assert difference <= 1e-5
