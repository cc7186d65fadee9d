"""Vision transformers give PyTorch's numbers: the embedding and every block.

The models are those of the zoo made small (two blocks of 48 channels), so that every way of
building one is compared in seconds; the large ones are held against timm's shapes.
"""

import re
from dataclasses import replace
from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pretrained_ports.catalog import ENTRIES
from pretrained_ports.convert import parameters
from pretrained_ports.dialects import DIALECTS
from pretrained_ports.positions import Resampling, resample
from pretrained_ports.vit import VisionTransformer

torch = pytest.importorskip("torch")
compare = pytest.importorskip("tests.parity.compare")
plain = pytest.importorskip("tests.parity.torch_vit")
ssl = pytest.importorskip("tests.parity.torch_ssl")
pytestmark = pytest.mark.parity

DIM, DEPTH, HEADS, PATCH, GRID = 48, 2, 3, 4, 5
IMAGE = PATCH * GRID
WIDE = (16, 28, 3)  # 4 x 7 patches: one side shrinks, the other grows


class Embed(torch.nn.Module):
    """A model and how its embedding is had."""

    def __init__(self, model, embed):
        super().__init__()
        self.model = model
        self.embed = embed

    def forward(self, images):
        return self.embed(self.model, images)


@pytest.fixture
def check(monkeypatch, tmp_path, record_property):
    """Compares with a small model of the kind that `name` is."""

    def small(reference, name, paths, shape=WIDE, *, dialect, variant=None, **options):
        entry = ENTRIES[name]
        design = entry.build.args[0]._replace(
            patch=PATCH, dim=DIM, depth=DEPTH, heads=HEADS, grid=GRID, **(variant or {})
        )
        preprocess = replace(entry.preprocess, size=(IMAGE, IMAGE), resize=None)
        entry = replace(entry, build=partial(VisionTransformer, design), preprocess=preprocess)
        monkeypatch.setitem(ENTRIES, name, entry)
        monkeypatch.setattr(torch.Tensor, "float", lambda self: self)  # timm resamples in float32
        compare.check(
            reference,
            name,
            paths,
            shape,
            file=tmp_path / "random.pth",
            record=record_property,
            family=entry.family,
            dialect=dialect,
            batches=(1, 3) if name == "vit-tiny-patch16" else (3,),
            **options,
        )

    return small


def blocks(theirs):
    return {f"blocks.{i}": theirs.format(i) for i in range(DEPTH)}


def timm_vit(**options):
    compare.import_torchvision()
    from timm.models.vision_transformer import VisionTransformer

    base = {"num_classes": 7, "dynamic_img_size": True}
    return VisionTransformer(
        **(base | options),
        img_size=IMAGE,
        patch_size=PATCH,
        embed_dim=DIM,
        depth=DEPTH,
        num_heads=HEADS,
    )


def before_the_head(model, images):
    return model.forward_head(model.forward_features(images), pre_logits=True)


def test_timm_at_full_size(tmp_path, record_property):
    """Errors do not grow with twelve blocks."""
    compare.import_torchvision()
    import timm

    reference = timm.create_model("vit_tiny_patch16_224")
    compare.check(
        reference,
        "vit-tiny-patch16",
        {f"blocks.{i}": f"model.blocks.{i}" for i in (0, 5, 11)},
        (224, 224, 3),
        file=tmp_path / "random.pth",
        record=record_property,
        family="ViT",
        dialect="timm-vit",
        embed=Embed(reference, before_the_head),
        batches=(1,),
    )


@pytest.mark.parametrize(
    ("name", "options", "variant"),
    [
        ("vit-tiny-patch16", {}, {}),
        (
            "dinov2-small-reg4",  # timm keeps the class token's position in the class token
            {"init_values": 0.1, "reg_tokens": 4, "no_embed_class": True},
            {"positioned": 0},
        ),
        ("dinov2-giant-reg4", {"init_values": 0.1, "reg_tokens": 4, "no_embed_class": True}, {}),
        ("vit-small-patch16-moco-v3", {}, {}),
    ],
)
def test_timm(check, name, options, variant):
    compare.import_torchvision()
    if "giant" in name:
        from timm.layers import SwiGLUPacked

        options |= {"mlp_layer": SwiGLUPacked, "act_layer": torch.nn.SiLU, "mlp_ratio": 4}
        variant |= {"hidden": 2 * DIM}
    reference = timm_vit(**options)
    paths = {"patch_embed.proj": "model.patch_embed.proj", **blocks("model.blocks.{}")}
    check(
        reference,
        name,
        paths,
        dialect="timm-vit",
        variant=variant,
        embed=Embed(reference, before_the_head),
    )


@pytest.mark.parametrize("name", ["clip-vit-b32", "clip-vit-b32-laion2b"])
def test_timm_clip(check, name):
    """The head is part of the embedding here, and timm gives it a bias."""
    compare.import_torchvision()
    from timm.layers import QuickGELU

    reference = timm_vit(
        pre_norm=True,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-5),
        act_layer=QuickGELU if name == "clip-vit-b32" else torch.nn.GELU,
    )
    paths = {"norm_pre": "norm_pre", **blocks("blocks.{}")}
    check(reference, name, paths, dialect="timm-clip", variant={"output": 7})


def test_timm_siglip(check):
    reference = timm_vit(class_token=False, global_pool="map", act_layer="gelu_tanh", num_classes=0)
    paths = {"attn_pool": "attn_pool", **blocks("blocks.{}")}
    check(reference, "siglip-base-patch16", paths, dialect="timm-siglip")


def test_timm_deit_distilled(check):
    """At the trained size: timm antialiases positions, DeiT's own code does not."""
    compare.import_torchvision()
    from timm.models.deit import VisionTransformerDistilled

    reference = VisionTransformerDistilled(
        img_size=IMAGE, patch_size=PATCH, embed_dim=DIM, depth=DEPTH, num_heads=HEADS
    )
    check(
        reference,
        "deit-tiny-patch16-distilled",
        blocks("model.blocks.{}"),
        (IMAGE, IMAGE, 3),
        dialect="timm-vit",
        embed=Embed(reference, before_the_head),
    )


def test_moco_v3(check):
    """From a training checkpoint, with the slow encoder and the heads beside it."""
    reference = timm_vit()

    def training(state):
        encoder = {f"module.base_encoder.{k}": v for k, v in state.items() if "head" not in k}
        slow = {f"module.momentum_encoder.{k}": torch.zeros_like(v) for k, v in state.items()}
        heads = {
            f"module.{k}.weight": torch.zeros(3, 3) for k in ("base_encoder.head.0", "predictor.0")
        }
        return {"epoch": 300, "state_dict": encoder | slow | heads, "optimizer": {}}

    check(
        reference,
        "vit-small-patch16-moco-v3",
        blocks("model.blocks.{}"),
        dialect="moco-v3-vit",
        state=training,
        embed=Embed(reference, before_the_head),
    )


def with_head(reference, head):
    """A model with its projection head beside it."""
    return Embed(
        torch.nn.ModuleDict({"backbone": reference, "head": head}),
        lambda both, images: both["head"](both["backbone"](images)),
    )


def test_moco_v3_with_its_projection_head(check):
    end = torch.nn.BatchNorm1d(16, affine=False)
    both = with_head(timm_vit(num_classes=0), ssl.mlp_with_norms(DIM, 32, 16, end=end))

    def training(state):
        state = {k.removeprefix("model."): v for k, v in state.items()}
        names = {k: k.removeprefix("backbone.") for k in state}
        return {"state_dict": {f"module.base_encoder.{names[k]}": v for k, v in state.items()}}

    check(
        both,
        "vit-small-patch16-moco-v3",
        blocks("model.backbone.blocks.{}"),
        dialect="moco-v3-vit",
        state=training,
        head="keep",
    )


def test_dino_with_its_projection_head(check):
    reference = plain.Facebook(DIM, DEPTH, HEADS, PATCH, GRID, dinov2=False)
    both = with_head(reference, ssl.DinoHead(DIM))

    def teacher(state):
        return {"teacher": {k.removeprefix("model."): v for k, v in state.items()}, "epoch": 1}

    check(
        both,
        "dino-small-patch16",
        blocks("model.backbone.blocks.{}"),
        dialect="dino-vit",
        state=teacher,
        head="keep",
    )


@pytest.mark.parametrize(
    ("name", "options", "variant"),
    [
        ("dino-small-patch16", {"dinov2": False}, {}),
        ("dinov2-small", {}, {}),
        ("dinov2-giant-reg4", {"registers": 4, "swiglu": True}, {"hidden": 4 * DIM}),
    ],
)
def test_facebook(check, name, options, variant):
    """DINO's teacher with its prefix and head; DINOv2 with groups of blocks and a mask token."""
    reference = plain.Facebook(DIM, DEPTH, HEADS, PATCH, GRID, **options)
    teacher = "dinov2" in options

    def state(tensors):
        if not teacher:
            return tensors
        heads = {"head.last_layer.weight_v": torch.zeros(2, 2)}
        return {"teacher": {f"backbone.{k}": v for k, v in tensors.items()} | heads, "epoch": 1}

    check(
        reference,
        name,
        {"patch_embed.proj": "patch_embed.proj"}
        | blocks("blocks.{}" if teacher else "blocks.0.{}"),
        dialect="timm-vit",
        variant=variant,
        state=state,
    )


@pytest.mark.parametrize(
    ("name", "act"),
    [("clip-vit-b32", plain.QuickGELU), ("clip-vit-b32-laion2b", torch.nn.GELU)],
)
def test_openai_clip(check, name, act):
    """Both towers in the file."""
    reference = plain.ClipVisual(DIM, DEPTH, HEADS, PATCH, GRID, output=7, act=act)

    def state(tensors):
        text = {
            key: torch.zeros(2, 2)
            for key in (
                *("positional_embedding", "text_projection", "token_embedding.weight"),
                *("transformer.resblocks.0.attn.in_proj_weight", "ln_final.bias", "logit_scale"),
            )
        }
        return {f"visual.{k}": v for k, v in tensors.items()} | text

    paths = {"norm_pre": "ln_pre", **blocks("transformer.resblocks.{}")}
    check(reference, name, paths, dialect="openai-clip", variant={"output": 7}, state=state)


def hf(kind, config="{}Config", **options):
    """A small model of transformers."""
    compare.import_torchvision()
    import transformers

    config = getattr(transformers, config.format(re.sub("Model.*|For.*", "", kind)))
    return getattr(transformers, kind)(
        config(
            **options,
            hidden_size=DIM,
            num_hidden_layers=DEPTH,
            num_attention_heads=HEADS,
            image_size=IMAGE,
            patch_size=PATCH,
        )
    )


@pytest.fixture
def on_disk(tmp_path):
    """Weights with the names of transformers's files, which are not those of its modules."""

    def rename(model):
        from safetensors.torch import load_file

        def state(tensors):
            model.save_pretrained(tmp_path / "hf")
            return load_file(tmp_path / "hf" / "model.safetensors")

        return state

    return rename


def class_token(model, images):
    return model(images).last_hidden_state[:, 0]


@pytest.mark.parametrize("name", ["vit-small-patch16", "dino-small-patch16"])
def test_hf_vit(check, on_disk, name):
    """Epsilon is the 1e-6 of the original, not the 1e-12 of transformers's own configurations."""
    reference = hf("ViTForImageClassification", intermediate_size=4 * DIM, layer_norm_eps=1e-6)
    check(
        reference,
        name,
        blocks("model.vit.layers.{}"),
        (IMAGE, IMAGE, 3),
        dialect="hf-vit",
        state=on_disk(reference),
        embed=Embed(reference, lambda model, x: class_token(model.vit, x)),
    )


@pytest.mark.parametrize("distilled", [False, True])
def test_hf_deit(check, on_disk, distilled):
    options = {"intermediate_size": 4 * DIM, "layer_norm_eps": 1e-6}

    def embed(model, x):
        tokens = model(x, interpolate_pos_encoding=True).last_hidden_state
        return tokens[:, :2].mean(1) if distilled else tokens[:, 0]

    kind = "DeiTModel" if distilled else "ViTModel"
    reference = hf(kind, **options)
    check(
        reference,
        "deit-tiny-patch16-distilled" if distilled else "deit-tiny-patch16",
        blocks("model.layers.{}"),
        dialect="hf-vit",
        state=on_disk(reference),
        embed=Embed(reference, embed),
    )


@pytest.mark.parametrize("registers", [False, True])
@pytest.mark.parametrize("swiglu", [False, True])
def test_hf_dinov2(check, on_disk, monkeypatch, registers, swiglu):
    def embed(model, images):
        with monkeypatch.context() as patch:  # it resamples in torch.float32, whatever its type
            patch.setattr(torch, "float32", images.dtype)
            return class_token(model, images)

    kind = "Dinov2WithRegistersModel" if registers else "Dinov2Model"
    reference = hf(kind, use_swiglu_ffn=swiglu)
    name = f"dinov2-{'giant' if swiglu else 'small'}{'-reg4' if registers else ''}"
    check(
        reference,
        name,
        blocks("model.encoder.layer.{}"),
        WIDE if registers else (IMAGE, IMAGE, 3),  # without registers it leaves the 0.1 out
        dialect="hf-dinov2",
        variant={"hidden": 4 * DIM * 2 // 3} if swiglu else None,
        state=on_disk(reference),
        embed=Embed(reference, embed),
    )


@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
def test_hf_clip(check, on_disk, act):
    reference = hf(
        "CLIPVisionModelWithProjection",
        "CLIPVisionConfig",
        intermediate_size=4 * DIM,
        hidden_act=act,
        projection_dim=7,
    )
    check(
        reference,
        "clip-vit-b16" if act == "quick_gelu" else "clip-vit-b16-datacomp",
        {"norm_pre": "model.vision_model.pre_layrnorm"}
        | blocks("model.vision_model.encoder.layers.{}"),
        (IMAGE, IMAGE, 3),
        dialect="hf-clip",
        variant={"output": 7},
        state=on_disk(reference),
        embed=Embed(reference, lambda model, x: model(x).image_embeds),
    )


def test_hf_siglip(check, on_disk):
    reference = hf("SiglipVisionModel", "SiglipVisionConfig", intermediate_size=4 * DIM)
    check(
        reference,
        "siglip2-base-patch16",
        blocks("model.encoder.layers.{}"),
        (IMAGE, IMAGE, 3),
        dialect="hf-siglip",
        state=on_disk(reference),
        embed=Embed(reference, lambda model, x: model(x).pooler_output),
    )


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("to", [(3, 3), (14, 20), (37, 9), (5, 16), (1, 1), (15, 14)])
def test_positions(x64, antialias, to):
    """Both bicubic methods of PyTorch, shrinking and growing, to other aspects."""
    given = np.random.default_rng(0).standard_normal((1, 14 * 14, 6))
    grid = torch.as_tensor(given).view(1, 14, 14, 6).permute(0, 3, 1, 2)
    expected = torch.nn.functional.interpolate(grid, size=to, mode="bicubic", antialias=antialias)
    expected = expected.permute(0, 2, 3, 1).reshape(1, -1, 6).numpy()
    for dtype, tolerance in (("float64", 1e-12), ("float32", 1e-6)):
        positions = jnp.asarray(given, dtype)
        found = resample(positions, (14, 14), to, Resampling(antialias))
        assert found.dtype == dtype
        assert np.abs(np.asarray(found) - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize("to", [(7, 7), (16, 34), (60, 37)])
def test_positions_with_an_offset(x64, to):
    """The 0.1 that DINO adds to the factor moves every sample."""
    given = np.random.default_rng(0).standard_normal((1, 37 * 37, 6))
    grid = torch.as_tensor(given).view(1, 37, 37, 6).permute(0, 3, 1, 2)
    factor = tuple((side + 0.1) / 37 for side in to)
    expected = torch.nn.functional.interpolate(grid, scale_factor=factor, mode="bicubic")
    assert expected.shape[2:] == to
    expected = expected.permute(0, 2, 3, 1).reshape(1, -1, 6).numpy()
    found = resample(jnp.asarray(given), (37, 37), to, Resampling(False, 0.1))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
    plain = resample(jnp.asarray(given), (37, 37), to, Resampling(False))
    assert np.abs(plain - expected).max() > 1e-4


ON_THE_HUB = [n for n, e in ENTRIES.items() if e.hub and e.hub.repository.startswith("timm/vit_")]
ON_THE_HUB += [n for n, e in ENTRIES.items() if e.hub and e.hub.repository.startswith("timm/deit")]


@pytest.mark.parametrize("name", ON_THE_HUB)
def test_licences_are_those_that_timm_lists(name):
    compare.import_torchvision()
    import timm

    entry = ENTRIES[name]
    if not name.startswith("clip"):  # MIT; timm lists its own licence
        config = timm.get_pretrained_cfg(entry.hub.repository.removeprefix("timm/"))
        assert entry.licence.lower() == config.license


def test_a_row_for_every_weight_that_the_docs_promise():
    assert len(ON_THE_HUB) >= 35


@pytest.mark.parametrize(
    "name",
    [
        *("vit-tiny-patch16", "vit-small-patch32", "vit-base-patch8", "vit-large-patch32-384"),
        *("deit-base-patch16-distilled-384", "dino-base-patch8", "dinov2-giant-reg4"),
        *("clip-vit-l14-336", "siglip-base-patch16-384"),
    ],
)
def test_shapes_are_those_of_timm(name):
    """Every parameter of every size, without making a model."""
    compare.import_torchvision()
    import timm

    entry = ENTRIES[name]
    with torch.device("meta"):
        reference = timm.create_model(entry.hub.repository.removeprefix("timm/"))
    (dialect,) = {"timm-vit", "timm-clip", "timm-siglip"} & set(entry.dialects)
    dialect = DIALECTS[dialect]
    shapes = {}
    for key, tensor in reference.state_dict().items():
        if dialect.reason_to_ignore(key):
            continue
        rule = dialect.place(key)
        path = rule.target.partition("[")[0]
        array = rule.transform(np.broadcast_to(np.float32(0), tensor.shape))
        known = shapes.get(path, (*array.shape[:-1], 0))
        shapes[path] = (*array.shape[:-1], known[-1] + array.shape[-1])
    fitted = entry.infer(entry, shapes)
    model = nnx.eval_shape(lambda: fitted.build(rngs=nnx.Rngs(0)))
    assert {path: array.shape for path, array in parameters(model).items()} == shapes
