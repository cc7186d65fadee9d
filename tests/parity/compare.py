"""How a port is proven: PyTorch's numbers in both types, for the embedding and every stage."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn

import pretrained_ports
from benchmarks import torch_side
from pretrained_ports.catalog import find_entry
from pretrained_ports.catalog.entry import abstract
from pretrained_ports.checkpoints.dialects import DIALECTS
from pretrained_ports.models.state import parameters

TOLERANCE = {"float64": 1e-10, "float32": 1e-5}


@torch.no_grad()
def randomise(model, seed=0):
    """Random norms, statistics, layer scales, tokens and positions, in evaluation mode.

    What a fresh model holds there is 0 or 1, which would hide that a port drops it.
    """
    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    for name, value in model.named_parameters():
        if value.ndim > 1 and not re.search("token|pos|embed|latent|probe|layer_scale", name):
            continue  # kernels are random already
        if name.endswith("weight") and value.ndim == 1:
            value.uniform_(0.5, 1.0)
        elif re.search("gamma|lambda|layer_scale", name):
            value.uniform_(0.2, 0.5)
        elif value.ndim <= 1 or value.abs().max() < 1e-3:  # timm's tokens start at 1e-6
            value.normal_(0, 0.2)
    return model.eval()


def theirs(model, paths, images):
    """The embedding under "", and the output of the module at every path; maps channels last.

    Args:
        model: images [b c H W] -> [b d].
        paths: our path -> the module's path in `model`.
        images: [b H W c].
    """
    outputs = {}
    hooks = [
        model.get_submodule(path).register_forward_hook(
            lambda module, args, out, name=name: outputs.__setitem__(
                name, out[0] if isinstance(out, tuple) else out
            )
        )
        for name, path in paths.items()
    ]
    with torch.no_grad():
        outputs[""] = model(torch.as_tensor(images).permute(0, 3, 1, 2))
    for hook in hooks:
        hook.remove()
    return {
        name: (out.permute(0, 2, 3, 1) if out.ndim == 4 else out).numpy()
        for name, out in outputs.items()
    }


def ours(model, paths, images):
    """The same of a flax.nnx module that takes images [b H W c]."""
    graph, state = nnx.split(model)

    @jax.jit
    def run(state, images):
        model, outputs = nnx.merge(graph, state), {}
        for path in paths:
            layer = model
            for part in path.split("."):
                layer = layer[int(part)] if part.isdigit() else getattr(layer, part)
            kind = type(layer)

            def noting(self, *args, call=kind.__call__, path=path, **options):
                outputs[path] = call(self, *args, **options)
                return outputs[path]

            layer.__class__ = type(kind)(kind.__name__, (kind,), {"__call__": noting})
        return {"": model(images), **outputs}

    return run(state, jnp.asarray(images))


def check(
    reference,
    name,
    paths,
    shape,
    *,
    file,
    record,
    family,
    dialect,
    state=None,
    embed=None,
    batches=(3,),
    **options,
):
    """Convert a PyTorch model's weights and compare, in float64 and float32.

    Args:
        reference: The PyTorch model, with its random weights.
        name: Our model.
        paths: our path -> their path, for every stage.
        shape: [H, W, c] of the images.
        file: Where to save the checkpoint: a path that ends in .pth.
        record: pytest's `record_property`; the table of errors is made of what it writes.
        family: What the table calls it.
        dialect: The dialect that "auto" must find.
        state: What is saved, from the reference's state_dict; itself unless told otherwise.
        embed: The module that is run, [b c H W] -> [b d]; `reference` unless told otherwise.
        batches: Batch sizes; each is compiled.
        **options: For `pretrained_ports.load`.
    """
    randomise(reference)
    images = np.random.default_rng(0).standard_normal((max(batches), *shape))
    weights = reference.state_dict()
    torch.save(state(weights) if state else weights, file)
    run = embed or reference
    with jax.enable_x64(True):
        backbone = pretrained_ports.load(name, file, param_dtype="float64", **options)
    assert backbone.report.dialect == dialect
    graph, state = nnx.split(backbone.model)
    for dtype in ("float64", "float32"):
        run = run.to(getattr(torch, dtype))
        with jax.enable_x64(dtype == "float64"), jax.default_matmul_precision("highest"):
            # The files hold float32, so this gives the parameters that float32 loads.
            model = nnx.merge(graph, jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), state))
            for batch in batches:
                given = images[:batch].astype(dtype)
                expected, got = theirs(run, paths, given), ours(model, paths, given)
                assert_alike(got, expected, dtype, record, f"{family} | {dialect} | {name}")


def assert_alike(got, expected, dtype, record, label):
    """Every output of ours within the tolerance of its type, and the errors recorded."""
    assert got.keys() == expected.keys()
    for path, value in expected.items():
        assert got[path].dtype == dtype
        assert got[path].shape == value.shape, path
        error = np.abs(got[path] - value).max() / np.abs(value).max()
        record(f"{label} | {dtype} | {path or 'embedding'}", float(error))
        assert error <= TOLERANCE[dtype], (path, value.shape)


def before_the_classifier(reference):
    """A timm model without its last layer, the model itself at the path "reference"."""
    embed = nn.Sequential()
    embed.forward = lambda x: reference.forward_head(reference.forward_features(x), pre_logits=True)
    embed.reference = reference
    return embed


def placed(reference, dialect):
    """Our path -> shape of what a PyTorch model holds, by the dialect's table; needs no numbers."""
    table, shapes = DIALECTS[dialect], {}
    for key, value in reference.state_dict().items():
        if table.reason_to_ignore(key) is None:
            rule = table.place(key)
            shapes[rule.target] = rule.transform(np.broadcast_to(np.float32(0), value.shape)).shape
    return shapes


def shapes(name):
    """Our path -> shape of a model of the zoo."""
    model = abstract(find_entry(name))
    return {path: value.shape for path, value in parameters(model).items()}


def import_torchvision():
    """Torchvision (and with it timm) without its compiled operators; skips where it is missing."""
    if torch_side.absent("torchvision"):
        pytest.skip("needs torchvision")
    return torch_side.import_torchvision()
