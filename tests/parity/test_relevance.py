"""Relevance is that of zennit: ResNet-18, the rule AlphaBeta(1, 0), on the same weights."""

import jax
import numpy as np
import pytest

import fam_jax
import pretrained_ports
from tests.close import assert_close

torch = pytest.importorskip("torch")
compare = pytest.importorskip("tests.parity.compare")
pytestmark = pytest.mark.parity

LAYERS = ("layer3.0", "layer4.0")
TINY = 1e-30  # zennit adds it to every denominator


def theirs(network, images, references):
    """The embedding, and its shares' relevance at the layers, channels last."""
    compare.import_torchvision()
    pytest.importorskip("zennit")
    from zennit.composites import LayerMapComposite
    from zennit.layer import Sum
    from zennit.rules import AlphaBeta, Norm, Pass
    from zennit.torchvision import ResNetBasicBlockCanonizer

    nn = torch.nn
    rules = [
        (nn.Conv2d, AlphaBeta(1, 0, stabilizer=TINY, zero_params="bias")),
        ((Sum, nn.AdaptiveAvgPool2d), Norm(stabilizer=TINY)),
        ((nn.BatchNorm2d, nn.ReLU), Pass()),
    ]
    # Batch norms stay batch norms: folded into a convolution, they change which weights are > 0.
    composite = LayerMapComposite(rules, canonizers=[ResNetBasicBlockCanonizer()])
    activations = []
    hooks = [
        network.get_submodule(name).register_forward_hook(
            lambda *args: activations.append(args[-1])
        )
        for name in LAYERS
    ]
    with composite.context(network):
        x = images.requires_grad_()
        z = network(x)
        unit = torch.nn.functional.normalize
        shares = unit(z.detach(), dim=1) * unit(references, dim=1)
        relevances = torch.autograd.grad(z, activations, shares)
    for hook in hooks:
        hook.remove()
    return z.detach().numpy(), [R.permute(0, 2, 3, 1).numpy() for R in relevances]


def test_relevance(tmp_path, x64, record_property):
    network = compare.randomise(compare.import_torchvision().models.resnet18()).double()
    torch.save(network.state_dict(), tmp_path / "random.pth")
    network.fc = torch.nn.Identity()
    rng = np.random.default_rng(0)
    images, r = rng.normal(size=(2, 64, 64, 3)), rng.normal(size=(2, 512))
    z, expected = theirs(network, torch.as_tensor(images).permute(0, 3, 1, 2), torch.as_tensor(r))
    model = pretrained_ports.load("resnet18", tmp_path / "random.pth", param_dtype="float64").model
    with jax.default_matmul_precision("highest"):
        encodings = fam_jax.capture(fam_jax.relevance(model), at=LAYERS)(images)
    for name, enc, R in zip(LAYERS, encodings, expected, strict=True):
        assert_close(enc.embeddings, z, rtol=1e-10)
        A = np.asarray(enc.activations)
        weighted = (R.mean((1, 2))[:, None, None] * A).sum(-1)
        for method, maps in (
            (fam_jax.decomposition(), R.sum(-1)),
            (fam_jax.relevance_cam(), weighted),
        ):
            error = np.abs(method(enc, r) - maps).max() / np.abs(maps).max()
            record_property(f"relevance {name}", float(error))
            assert error <= 1e-10
