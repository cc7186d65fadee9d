"""Every tensor has its place, or the error says which has not."""

from dataclasses import replace

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from safetensors import safe_open
from safetensors.numpy import save_file

import pretrained_ports
from pretrained_ports.catalog.entry import abstract
from pretrained_ports.checkpoints import convert, provenance, write
from pretrained_ports.checkpoints.dialects import DIALECTS, Dialect
from pretrained_ports.checkpoints.dialects.rules import linear_part
from pretrained_ports.checkpoints.readers import CheckpointError, read, sha256
from pretrained_ports.models.state import parameters


def sequential(in_channels=3, width=64):
    """A Conv-4 checkpoint as nn.Sequential writes it."""
    random = np.random.default_rng(0)
    weights = {}
    for block in range(4):
        shape = (width, in_channels if block == 0 else width, 3, 3)
        weights[f"{4 * block}.weight"] = random.standard_normal(shape)
        weights[f"{4 * block}.bias"] = random.standard_normal(width)
        norm = f"{4 * block + 1}"
        for leaf in ("weight", "bias", "running_mean"):
            weights[f"{norm}.{leaf}"] = random.standard_normal(width)
        weights[f"{norm}.running_var"] = random.uniform(0.5, 1.5, width)
        weights[f"{norm}.num_batches_tracked"] = np.array(7)
    return weights


@pytest.fixture
def load(tmp_path):
    """Loads a dictionary of arrays through a file."""

    def through_a_file(name, weights, **options):
        save_file(weights, tmp_path / "weights.safetensors")
        return pretrained_ports.load(name, tmp_path / "weights.safetensors", **options)

    return through_a_file


def test_the_report_accounts_for_every_tensor(load):
    weights = {f"_orig_mod.module.{key}": w for key, w in sequential().items()}
    report = load("conv4", weights).report
    assert report.fits
    assert report.dialect == "conv4-sequential"
    assert report.unwrapped == ("_orig_mod.", "module.")
    assert report.used["0.weight"] == "block1.conv.kernel"
    assert report.used["13.running_var"] == "block4.bn.var"
    assert set(report.ignored) == {f"{i}.num_batches_tracked" for i in (1, 5, 9, 13)}
    assert "unwrapped _orig_mod. module.; 24 tensors used, 4 ignored" in str(report)


def test_kernels_are_transposed_and_cast(load):
    weights = sequential()
    model = load("conv4", weights, param_dtype=jnp.bfloat16).model
    assert {value.dtype for value in parameters(model).values()} == {jnp.bfloat16.dtype}
    expected = weights["4.weight"].transpose(2, 3, 1, 0).astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(model.block2.conv.kernel[...], expected)


def test_bfloat16_files_are_read(load):
    weights = {k: w.astype(ml_dtypes.bfloat16) for k, w in sequential().items()}
    assert load("conv4", weights).model.block1.conv.kernel.dtype == jnp.float32


def test_grey_conv4_brings_its_own_preprocessing(load):
    for name in ("conv4", "conv4-omniglot"):
        backbone = load(name, sequential(in_channels=1))
        assert backbone.preprocess.size == (28, 28)
        assert backbone.preprocess.channels == 1
        assert backbone.embedding_dim == 64
        assert load(name, sequential(in_channels=3)).preprocess.size == (84, 84)


def test_width_is_read_from_the_checkpoint(load):
    assert load("conv4", sequential(width=32)).embedding_dim == 5 * 5 * 32


def test_all_misfits_are_reported_together(load):
    weights = sequential()
    del weights["4.weight"], weights["13.running_var"]
    weights["14.weight"] = np.zeros((5, 1600))
    weights["8.weight"] = np.zeros((64, 32, 3, 3))
    weights["12.weight"] = np.zeros((64, 64))
    weights["9.weight"] = np.zeros(64, np.int32)
    with pytest.raises(CheckpointError) as caught:
        load("conv4", weights, dialect="conv4-sequential")
    message = str(caught.value)
    assert "does not fit conv4" in message
    assert "14.weight [5, 1600]" in message
    assert "block2.conv.kernel [3, 3, 64, 64]" in message
    assert "block4.bn.var [64]" in message
    assert "8.weight gives [3, 3, 32, 64], block3.conv.kernel is [3, 3, 64, 64]" in message
    assert "12.weight has 2 dimensions [64, 64]" in message
    assert "9.weight is int32, block3.bn.scale is floating point" in message


def test_another_architecture_lists_keys_both_ways_and_hints(load):
    with pytest.raises(CheckpointError) as caught:
        load("cifar-resnet20", sequential())
    message = str(caught.value)
    assert "does not fit cifar-resnet20 in any dialect" in message
    assert "all its keys are known to conv4-sequential" in message
    assert "0.weight [64, 3, 3, 3]" in message
    assert "conv1.kernel [3, 3, 3, 16]" in message
    assert "and 18 more" in message


def test_one_model_is_made_for_all_dialects(load, monkeypatch):
    models = []

    def counted(*args):
        models.append(abstract(*args))
        return models[-1]

    monkeypatch.setattr("pretrained_ports.fitting.abstract", counted)
    with pytest.raises(CheckpointError, match="akamaster-cifar places 0, native places 0"):
        load("cifar-resnet20", sequential())
    assert len(models) == 1


def test_a_fitting_but_ambiguous_checkpoint_is_refused(tmp_path):
    model = pretrained_ports.create("conv4").model
    write(tmp_path / "a.safetensors", model, {"architecture": "conv4"})
    native = DIALECTS["native"]
    twin = type(native)("twin", native.rules)
    with pytest.raises(CheckpointError, match="more than one dialect: native, twin"):
        convert(read(tmp_path / "a.safetensors"), lambda shapes: model, [native, twin])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(load, value):
    weights = sequential()
    weights["5.bias"][3] = value
    with pytest.raises(CheckpointError, match=r"not finite: block2.bn.bias"):
        load("conv4", weights)


def test_a_type_too_narrow_for_the_weights_is_refused(load):
    weights = sequential()
    weights["5.bias"][3] = 1e6
    with pytest.raises(CheckpointError, match=r"not finite: block2.bn.bias float16"):
        load("conv4", weights, param_dtype=jnp.float16)


def test_write_and_load_are_inverse(tmp_path):
    backbone = pretrained_ports.create("conv4", seed=3)
    source = tmp_path / "source.th"
    source.write_bytes(b"original")
    metadata = provenance("conv4", source)
    file = write(tmp_path / "native.safetensors", backbone.model, metadata)
    with safe_open(file, framework="numpy") as opened:
        assert opened.metadata() == {
            "dialect": "native",
            "converter_version": "1",
            "architecture": "conv4",
            "source": "source.th",
            "source_sha256": sha256(source),
        }
        assert "block3.bn.mean" in set(opened.keys())
    again = pretrained_ports.load("conv4", file)
    assert again.report.dialect == "native"
    for path, value in parameters(backbone.model).items():
        np.testing.assert_array_equal(value, parameters(again.model)[path])
    with pytest.raises(CheckpointError, match="it says it holds 'conv4'"):
        pretrained_ports.load("relationnet", file)


def test_write_checks_before_it_writes(tmp_path):
    model = pretrained_ports.create("conv4").model
    with pytest.raises(ValueError, match=r"must end in \.safetensors, got a\.pth"):
        write(tmp_path / "a.pth", model, {"architecture": "conv4"})
    with pytest.raises(ValueError, match="must name the architecture"):
        write(tmp_path / "a.safetensors", model, {})
    model.block1.bn.var[...] = model.block1.bn.var[...] * jnp.nan
    with pytest.raises(CheckpointError, match=r"not finite: block1.bn.var"):
        write(tmp_path / "a.safetensors", model, {"architecture": "conv4"})
    assert not list(tmp_path.iterdir())


PARTS = Dialect(
    "parts",
    rules=(
        *linear_part("q", "toy", "[0:1/3]"),
        *linear_part("kv", "toy", "[1:3/3]"),
        *linear_part("also_q", "toy", "[0:1/3]"),
    ),
)


def in_parts(tmp_path, **changes):
    """A linear layer [2 6] out of two: the first 2 outputs, and the other 4."""
    random = np.random.default_rng(0)
    shapes = {"kv.weight": (4, 2), "kv.bias": (4,), "q.weight": (2, 2), "q.bias": (2,), **changes}
    weights = {key: random.standard_normal(shape) for key, shape in shapes.items() if shape}
    save_file(weights, tmp_path / "parts.safetensors")
    model = nnx.Dict(toy=nnx.Linear(2, 6, rngs=nnx.Rngs(0)))
    return weights, convert(read(tmp_path / "parts.safetensors"), lambda shapes: model, [PARTS])


def test_layers_that_are_parts_of_one_are_joined_in_order(tmp_path):
    weights, (model, report) = in_parts(tmp_path)
    expected = np.concatenate([weights["q.weight"], weights["kv.weight"]]).T.astype(np.float32)
    np.testing.assert_array_equal(model.toy.kernel[...], expected)
    np.testing.assert_array_equal(model.toy.bias[2:], weights["kv.bias"].astype(np.float32))
    assert report.used["kv.weight"] == "toy.kernel[1:3/3]"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"q.bias": None}, r"parameters of the model are not in the file: toy\.bias \[6\]"),
        ({"kv.weight": (3, 2)}, r"kv.weight gives \[2, 3\], toy.kernel\[1:3/3\] is \[2, 4\]"),
        ({"also_q.bias": (2,)}, r"would fill toy.bias\[0:1/3\] a second time"),
    ],
)
def test_parts_that_lack_or_do_not_fit_are_named(tmp_path, changes, message):
    with pytest.raises(CheckpointError, match=message):
        in_parts(tmp_path, **changes)


def test_an_optional_prefix_is_reported_where_it_is(tmp_path):
    dialect = replace(PARTS, prefix=r"(?:tower\.)?")
    for prefix in ("", "tower."):
        shapes = {"q.weight": (2, 2), "q.bias": (2,), "kv.weight": (4, 2), "kv.bias": (4,)}
        save_file({prefix + k: np.ones(s) for k, s in shapes.items()}, tmp_path / "a.safetensors")
        model = nnx.Dict(toy=nnx.Linear(2, 6, rngs=nnx.Rngs(0)))
        _, report = convert(read(tmp_path / "a.safetensors"), lambda shapes, m=model: m, [dialect])
        assert report.unwrapped == ((prefix,) if prefix else ())
