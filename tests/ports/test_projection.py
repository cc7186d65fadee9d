"""Projection heads, made from a checkpoint's shapes, kept or dropped."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

import fam_jax
import pretrained_ports
from pretrained_ports.catalog import ENTRIES
from pretrained_ports.checkpoints import write
from pretrained_ports.models.projection import DinoHead, ProjectionHead, with_head
from pretrained_ports.models.resnet import VARIANTS, ResNet
from pretrained_ports.models.state import parameters
from tests.close import assert_close
from tests.ports import network
from tests.ports.theirs import of

MLP = {"0.kernel": (6, 5), "0.bias": (5,), "2.kernel": (5, 4)}
NORMS = {
    "0.kernel": (6, 5),
    **{f"1.{leaf}": (5,) for leaf in ("scale", "bias", "mean", "var")},
    "3.kernel": (5, 4),
    **{f"4.{leaf}": (4,) for leaf in ("mean", "var")},
}


def filled(head):
    """Random numbers in every parameter, positive where there is a variance."""
    random = np.random.default_rng(0)
    for path, variable in nnx.to_flat_state(nnx.state(head)):
        value = random.standard_normal(variable.shape)
        variable.set_value(jnp.asarray(np.abs(value) + 0.5 if path[-1] == "var" else value, "f"))
        nnx.update(head, nnx.from_flat_state([(path, variable)]))
    head.eval()
    return head, {path: np.asarray(value) for path, value in parameters(head).items()}


@pytest.mark.parametrize("shapes", [MLP, NORMS])
def test_a_head_has_the_parameters_that_the_shapes_name(shapes):
    head = ProjectionHead(shapes, rngs=nnx.Rngs(0))
    assert {path: value.shape for path, value in parameters(head).items()} == shapes


def test_numbers_without_weights_are_relu():
    head, w = filled(ProjectionHead(MLP, rngs=nnx.Rngs(0)))
    x = np.random.default_rng(1).standard_normal((3, 6)).astype("f")
    expected = np.maximum(x @ w["0.kernel"] + w["0.bias"], 0) @ w["2.kernel"]
    assert_close(head(jnp.asarray(x)), expected)


def test_batch_norms_use_their_statistics_with_and_without_scale():
    head, w = filled(ProjectionHead(NORMS, rngs=nnx.Rngs(0)))
    x = np.random.default_rng(1).standard_normal((3, 6)).astype("f")
    y = (x @ w["0.kernel"] - w["1.mean"]) / np.sqrt(w["1.var"] + 1e-5) * w["1.scale"] + w["1.bias"]
    expected = (np.maximum(y, 0) @ w["3.kernel"] - w["4.mean"]) / np.sqrt(w["4.var"] + 1e-5)
    assert_close(head(jnp.asarray(x)), expected)


def test_dinos_head_has_gelu_and_length_one():
    head, w = filled(DinoHead({"0.kernel": (6, 5), "2.kernel": (5, 4)}, rngs=nnx.Rngs(0)))
    assert set(w) == {"mlp.0.kernel", "mlp.2.kernel"}
    x = np.random.default_rng(1).standard_normal((3, 6)).astype("f")
    hidden = jax.nn.gelu(x @ w["mlp.0.kernel"], approximate=False)
    expected = hidden @ w["mlp.2.kernel"]
    expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    assert_close(head(jnp.asarray(x)), expected)


def test_a_projection_without_a_number_is_part_of_the_network():
    """CLIP's "head.kernel" is no head of self-supervised training."""

    def build(rngs, param_dtype):
        raise AssertionError("not called")

    assert with_head(build, {"head.kernel": (6, 4), "layer1.0.kernel": (6, 6)}) is build


@pytest.fixture(scope="module", autouse=True)
def shallow():
    """ResNet-18 has a block a stage."""
    entry = replace(ENTRIES["resnet18"], build=partial(ResNet, "shallow"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(VARIANTS, "shallow", VARIANTS["resnet18"]._replace(depths=(1, 1, 1, 1)))
        patch.setitem(ENTRIES, "resnet18", entry)
        yield


def moco(head=True):
    """A ResNet-18 in the layout of MoCo v2."""
    random = np.random.default_rng(0)
    weights = of(pretrained_ports.create("resnet18").model)
    if head:
        for i, shape in ((0, (512, 512)), (2, (16, 512))):
            weights[f"fc.{i}.weight"] = random.standard_normal(shape).astype("f") / 20
            weights[f"fc.{i}.bias"] = random.standard_normal(shape[0]).astype("f")
    return weights


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("moco") / "moco.safetensors"
    weights = {f"module.encoder_q.{key}": w for key, w in moco().items()}
    save_file(weights | {"module.queue": np.ones((16, 8), "f")}, path)
    return path


@pytest.fixture(scope="module")
def dropped(file):
    return pretrained_ports.load("resnet18", file)


@pytest.fixture(scope="module")
def kept(file):
    return pretrained_ports.load("resnet18", file, head="keep")


def test_kept_and_dropped_give_different_embeddings(dropped, kept):
    assert dropped.report.dialect == kept.report.dialect == "moco"
    assert (dropped.embedding_dim, kept.embedding_dim) == (512, 16)
    images = np.random.default_rng(0).standard_normal((2, 33, 47, 3), np.float32)
    pooled = network.embed(dropped.model, images)
    projected = network.embed(kept.model, images)
    assert pooled.shape == (2, 512)
    w = moco()
    hidden = np.maximum(pooled @ w["fc.0.weight"].T + w["fc.0.bias"], 0)
    expected = hidden @ w["fc.2.weight"].T + w["fc.2.bias"]
    assert_close(projected, expected, relative_to=hidden @ np.abs(w["fc.2.weight"]).T)


def test_the_report_accounts_for_the_head(dropped, kept):
    why = 'the projection head (head="keep" takes it)'
    assert dropped.report.ignored["encoder_q.fc.0.weight"] == why
    assert kept.report.used["encoder_q.fc.0.weight"] == "head.0.kernel"
    assert kept.report.ignored.keys() == {"queue"}


def test_a_kept_head_survives_a_native_file(tmp_path, kept):
    native = write(tmp_path / "a.safetensors", kept.model, {"architecture": "resnet18"})
    again = pretrained_ports.load("resnet18", native, head="keep")
    assert again.report.dialect == "native"
    for path, value in parameters(kept.model).items():
        np.testing.assert_array_equal(value, parameters(again.model)[path], err_msg=path)
    assert pretrained_ports.load("resnet18", native).embedding_dim == 512


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_a_kept_head_computes_in_the_type_of_the_network(file, dtype):
    with jax.enable_x64(dtype == "float64"):
        head = pretrained_ports.load("resnet18", file, param_dtype=dtype, head="keep").model.head
        assert {value.dtype for value in parameters(head).values()} == {jnp.dtype(dtype)}
        assert head(jnp.ones((2, 512), dtype)).dtype == dtype


def test_maps_go_through_a_kept_head(kept, dropped):
    """Another similarity is explained: maps are finite, not zero, and not those without it."""
    images = np.random.default_rng(0).standard_normal((2, 64, 64, 3), np.float32)

    def maps(backbone):
        encode = fam_jax.capture(backbone)
        return fam_jax.explain_pairs(encode, images[:1], images[1:])

    with_it, without = (np.asarray(maps(backbone).query_maps) for backbone in (kept, dropped))
    assert np.isfinite(with_it).all()
    assert with_it.any()
    assert np.abs(with_it - without).max() > 1e-3 * np.abs(without).max()


def test_a_file_of_torchvision_has_no_head_to_keep(tmp_path):
    """And it is torchvision's, without a classifier: no other table claims it."""
    file = tmp_path / "plain.safetensors"
    save_file(moco(head=False), file)
    assert pretrained_ports.load("resnet18", file).report.dialect == "torchvision"
    with pytest.raises(pretrained_ports.CheckpointError) as caught:
        pretrained_ports.load("resnet18", file, head="keep")
    assert str(caught.value) == f"{file} has no projection head to keep (dialect torchvision)"


def test_a_table_that_needs_a_key_says_so(tmp_path):
    file = tmp_path / "plain.safetensors"
    save_file(moco(head=False), file)
    with pytest.raises(
        pretrained_ports.CheckpointError, match=r"fc\\\.0\\\.weight \(a key of every"
    ):
        pretrained_ports.load("resnet18", file, dialect="simclr")


def test_rows_without_a_hub_name_the_authors_files():
    with pytest.raises(ValueError, match=r"theirs at https://\S+/moco_v2_800ep_pretrain") as caught:
        pretrained_ports.load("resnet50-moco-v2")
    assert "\n" not in str(caught.value)


def test_simsiam(tmp_path):
    """Its three layers each have a norm, the last one without scale; the predictor is left out."""
    norm = {"weight": np.ones(32, "f"), "bias": np.ones(32, "f")}
    still = {"running_mean": np.zeros(32, "f"), "running_var": np.ones(32, "f")}
    head = {"fc.0.weight": np.ones((32, 512), "f"), "fc.3.weight": np.ones((32, 32), "f")}
    head |= {"fc.6.weight": np.ones((32, 32), "f"), "fc.6.bias": np.ones(32, "f")}
    for i, leaves in ((1, norm | still), (4, norm | still), (7, still)):
        head |= {f"fc.{i}.{leaf}": array for leaf, array in leaves.items()}
    file = tmp_path / "simsiam.safetensors"
    weights = {f"module.encoder.{key}": array for key, array in (moco(head=False) | head).items()}
    save_file(weights | {"module.predictor.0.weight": np.ones((8, 32), "f")}, file)
    report = pretrained_ports.load("resnet18", file).report
    assert report.dialect == "simsiam"
    assert report.ignored["predictor.0.weight"] == "for training only"
    kept = pretrained_ports.load("resnet18", file, head="keep")
    assert kept.embedding_dim == 32
    assert kept.report.used["encoder.fc.7.running_var"] == "head.7.var"
