"""The CAM family on a similarity gives the maps of the PyTorch tools, on the same weights."""

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


def noted(kind, network, layer, images, targets):
    """The signed raw maps [b h w] of a class of pytorch-grad-cam, and what it returns."""
    tool = pytest.importorskip("pytorch_grad_cam")

    class Noting(getattr(tool, kind)):
        def get_cam_image(self, *args, **options):
            self.raw = super().get_cam_image(*args, **options)
            return self.raw

    with Noting(network, [network.get_submodule(layer)]) as cam:
        shown = cam(images, targets)
        return cam.raw, shown


def pytorch_grad_cam(network, layer, images, targets):
    """Its raw maps [b h w], and what it returns."""
    raw, shown = noted("GradCAM", network, layer, images, targets)
    return np.maximum(raw, 0), shown


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
    fc, network.fc = network.fc, torch.nn.Identity()
    return SimpleNamespace(network=network, fc=fc, file=file)


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
def model(weights, dtype):
    with jax.enable_x64(dtype == "float64"):
        return pretrained_ports.load("resnet18", weights.file, param_dtype=dtype).model


@pytest.fixture(scope="module")
def encodings(model, images, layer, dtype):
    """Queries and references through our own network."""
    with jax.enable_x64(dtype == "float64"), jax.default_matmul_precision("highest"):
        encode = fam_jax.capture(model, at=layer)
        return encode(images[0]), encode(images[1])


@jax.jit
def every_map(methods, enc, references):
    return {name: method(enc, references) for name, method in methods.items()}


@pytest.fixture(scope="module")
def ours(encodings, dtype):
    """Raw maps by every method."""
    queries, references = encodings
    with jax.enable_x64(dtype == "float64"), jax.default_matmul_precision("highest"):
        maps = every_map(METHODS, queries, references.embeddings)
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


# Our methods beside the tool's own errors: constants in denominators (1e-6 beside squares of the
# gradient, so references are made larger; 1e-7 beside sums of activations), a result in float32.
CAMS = {
    "LayerCAM": (fam_jax.layer_cam, 1e-10),
    "HiResCAM": (fam_jax.hires_cam, 1e-10),
    "GradCAMPlusPlus": (fam_jax.grad_cam_pp, 1e-5),
    "XGradCAM": (fam_jax.xgrad_cam, 1e-5),
    "EigenCAM": (fam_jax.eigen_cam, 1e-6),
}
SCALE = 100


@pytest.mark.parametrize("dtype", ["float64"], scope="module")
@pytest.mark.parametrize("kind", CAMS)
def test_relatives_of_grad_cam(kind, weights, images, layer, encodings, record_property):
    """Raw maps of the dot product, by pytorch-grad-cam."""
    compare.import_torchvision()
    network = weights.network.to(torch.float64)
    inputs, others = torch.as_tensor(images).permute(0, 1, 4, 2, 3)
    with torch.no_grad():
        targets = [Target("dot", SCALE * r) for r in network(others)]
    raw, _ = noted(kind, network, layer, inputs, targets)

    make, tolerance = CAMS[kind]
    queries, references = encodings
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        method = {kind: make(fam_jax.dot)}
        maps = np.asarray(every_map(method, queries, SCALE * references.embeddings)[kind])
        plain = np.asarray(queries.activations.sum(-1))
    if kind in ("LayerCAM", "GradCAMPlusPlus", "XGradCAM"):  # the tool's ReLU comes later
        raw = np.maximum(raw, 0)
    if kind == "EigenCAM":  # its sign is whatever the SVD gives
        plain = plain - plain.mean((1, 2), keepdims=True)
        raw = raw * np.sign((raw * plain).sum((1, 2), keepdims=True))
    difference = error(maps, raw, np.abs(raw))
    record_property(kind, difference)
    assert difference <= tolerance


@pytest.mark.parametrize("dtype", ["float64"], scope="module")
@pytest.mark.parametrize("layer", ["layer4"], scope="module")
def test_a_classifiers_logits_and_its_cam(weights, images, layer, encodings):
    """What `load` drops is the tool's last layer; CAM is its Grad-CAM of the logit, times h w."""
    compare.import_torchvision()
    network, fc = weights.network.to(torch.float64), weights.fc.to(torch.float64)
    inputs = torch.as_tensor(images[0]).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = fc(network(inputs)).numpy()
    queries, _ = encodings
    classes = jnp.array([3, 997])
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        kernel, bias = pretrained_ports.load_classifier(
            "resnet18", weights.file, param_dtype=jnp.float64
        )
        logits = np.asarray(queries.embeddings @ kernel + bias[None])
        maps = fam_jax.cam()(queries, fam_jax.classifier_rows(kernel, classes))
    assert np.abs(logits - expected).max() <= 1e-10 * np.abs(expected).max()
    targets = [lambda z, c=int(c): fc(z[None])[0, c] for c in classes]
    raw, _ = noted("GradCAM", network, layer, inputs, targets)
    cells = raw.shape[1] * raw.shape[2]
    assert error(np.asarray(maps), raw * cells, np.abs(raw * cells)) <= 1e-10
