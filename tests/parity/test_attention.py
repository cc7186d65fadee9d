"""Maps from attention are those of autograd through timm's transformer, on the same weights."""

from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest

import fam_jax
import pretrained_ports
from pretrained_ports.catalog import ENTRIES
from pretrained_ports.models.vit import VisionTransformer
from tests.close import assert_close

torch = pytest.importorskip("torch")
compare = pytest.importorskip("tests.parity.compare")
pytestmark = pytest.mark.parity

NAME, DIM, DEPTH, HEADS, PATCH, GRID = "vit-tiny-patch16", 24, 3, 2, 4, 4
TOKENS = fam_jax.TokenGrid(prefix=1)


def network():
    compare.import_torchvision()
    timm = pytest.importorskip("timm.models.vision_transformer")
    side = PATCH * GRID
    model = timm.VisionTransformer(side, PATCH, embed_dim=DIM, depth=DEPTH, num_heads=HEADS)
    model = compare.randomise(model).double()
    for block in model.blocks:
        block.attn.fused_attn = False  # which would never form the matrices
        block.attn.qkv.weight.data *= 10  # or every token attends to all alike
    return model


def theirs(model, images, references):
    """Every method by its definition, on attention that autograd has differentiated."""
    A, qkv, outputs = [], [], []
    for block in model.blocks:
        block.attn.attn_drop.register_forward_hook(lambda module, args, out: A.append(out))
        block.attn.qkv.register_forward_hook(lambda module, args, out: qkv.append(out))
        block.attn.proj.register_forward_pre_hook(lambda module, args: outputs.append(args[0]))
    z = model.forward_head(model.forward_features(images), pre_logits=True)
    norms = z.norm(dim=1) * references.norm(dim=1)
    score = ((z * references).sum(1) / norms.detach()).sum()
    *dA, g = torch.autograd.grad(score, [*A, outputs[-1]])

    # The class token's row through the product of all layers: a vector from the last to the first.
    start = torch.zeros_like(A[0][:, 0, :1])
    start[..., 0] = 1
    mixed, gained = start, start
    for attention, gradient in zip(A[::-1], dA[::-1], strict=True):
        mixed = (mixed @ attention.mean(1) + mixed) / 2
        gained = gained + gained @ (attention * gradient).clamp(min=0).mean(1)
    q, k, v = qkv[-1].chunk(3, dim=-1)
    near = torch.cosine_similarity(q[:, :1], k[:, 1:], dim=-1)
    low, high = near.min(1, keepdim=True)[0], near.max(1, keepdim=True)[0]
    eclip = ((near - low) / (high - low) * (g[:, :1] * v[:, 1:]).sum(-1)).clamp(min=0)
    return z, {
        "rollout": mixed[:, 0, 1:],
        "chefer": gained[:, 0, 1:],
        "le_grad": torch.stack(dA, 1).clamp(min=0).mean((1, 2, 3))[:, 1:],
        "le_grad_signed": torch.stack(dA[-4:], 1).mean((1, 2, 3))[:, 1:],
        "grad_eclip": eclip,
    }


def ours(model, images, r):
    methods = {
        "rollout": fam_jax.attention_rollout(),
        "chefer": fam_jax.chefer(),
        "le_grad": fam_jax.le_grad(),
        "le_grad_signed": fam_jax.le_grad(signed=True),
        "grad_eclip": fam_jax.grad_eclip(),
    }
    enc = fam_jax.capture(model, at="blocks.0", tokens=TOKENS)(images, *methods.values())
    return enc.embeddings, {name: method(enc, r) for name, method in methods.items()}


def test_maps(tmp_path, monkeypatch, x64, record_property):
    reference = network()
    torch.save(reference.state_dict(), tmp_path / "random.pth")
    rng = np.random.default_rng(0)
    images, r = rng.normal(size=(2, PATCH * GRID, PATCH * GRID, 3)), rng.normal(size=(2, DIM))
    z, expected = theirs(reference, torch.as_tensor(images).permute(0, 3, 1, 2), torch.as_tensor(r))
    entry = ENTRIES[NAME]
    design = entry.build.args[0]._replace(patch=PATCH, dim=DIM, depth=DEPTH, heads=HEADS, grid=GRID)
    monkeypatch.setitem(ENTRIES, NAME, replace(entry, build=partial(VisionTransformer, design)))
    model = pretrained_ports.load(NAME, tmp_path / "random.pth", param_dtype="float64").model
    with jax.default_matmul_precision("highest"):
        embeddings, maps = ours(model, images, r)
    assert_close(embeddings, z.detach(), rtol=1e-10)
    for name, actual in maps.items():
        right = expected[name].detach().numpy().reshape(2, GRID, GRID)
        assert right.any((1, 2)).all(), "an empty map compares nothing"
        error = np.abs(actual - right).max() / np.abs(right).max()
        record_property(name, float(error))
        assert error <= 1e-10, name
