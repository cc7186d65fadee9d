"""Vision transformers give the numbers of transformers: the embedding and every block.

At another size than the trained one, where positions are resampled as transformers does it.
"""

import re

import pytest

torch = pytest.importorskip("torch")
compare = pytest.importorskip("tests.parity.compare")
small = pytest.importorskip("tests.parity.torch_small_vit")
pytestmark = pytest.mark.parity


def hf(kind, config="{}Config", **options):
    """A small model of transformers."""
    compare.import_torchvision()
    import transformers

    config = getattr(transformers, config.format(re.sub("Model.*|For.*", "", kind)))
    return getattr(transformers, kind)(
        config(
            **options,
            hidden_size=small.DIM,
            num_hidden_layers=small.DEPTH,
            num_attention_heads=small.HEADS,
            image_size=small.IMAGE,
            patch_size=small.PATCH,
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


RESAMPLED = {"interpolate_pos_encoding": True}  # which DINOv2 does unasked


def class_token(model, images, **options):
    return model(images, **options).last_hidden_state[:, 0]


@pytest.mark.parametrize("name", ["vit-small-patch16", "dino-small-patch16"])
def test_hf_vit(check_vit, on_disk, name):
    """Epsilon is the 1e-6 of the original, not the 1e-12 of transformers's own configurations."""
    reference = hf(
        "ViTForImageClassification", intermediate_size=4 * small.DIM, layer_norm_eps=1e-6
    )
    check_vit(
        reference,
        name,
        small.blocks("model.vit.layers.{}"),
        dialect="hf-vit",
        state=on_disk(reference),
        embed=small.Embed(reference, lambda model, x: class_token(model.vit, x, **RESAMPLED)),
    )


@pytest.mark.parametrize("distilled", [False, True])
def test_hf_deit(check_vit, on_disk, distilled):
    options = {"intermediate_size": 4 * small.DIM, "layer_norm_eps": 1e-6}

    def embed(model, x):
        tokens = model(x, **RESAMPLED).last_hidden_state
        return tokens[:, :2].mean(1) if distilled else tokens[:, 0]

    kind = "DeiTModel" if distilled else "ViTModel"
    reference = hf(kind, **options)
    check_vit(
        reference,
        "deit-tiny-patch16-distilled" if distilled else "deit-tiny-patch16",
        small.blocks("model.layers.{}"),
        dialect="hf-vit",
        state=on_disk(reference),
        embed=small.Embed(reference, embed),
    )


@pytest.mark.parametrize("registers", [False, True])
@pytest.mark.parametrize("swiglu", [False, True])
def test_hf_dinov2(check_vit, on_disk, monkeypatch, registers, swiglu):
    def embed(model, images):
        with monkeypatch.context() as patch:  # it resamples in torch.float32, whatever its type
            patch.setattr(torch, "float32", images.dtype)
            return class_token(model, images)

    kind = "Dinov2WithRegistersModel" if registers else "Dinov2Model"
    reference = hf(kind, use_swiglu_ffn=swiglu)
    name = f"dinov2-{'giant' if swiglu else 'small'}{'-reg4' if registers else ''}"
    check_vit(
        reference,
        name,
        small.blocks("model.encoder.layer.{}"),
        dialect="hf-dinov2",
        variant={"hidden": 4 * small.DIM * 2 // 3} if swiglu else None,
        state=on_disk(reference),
        embed=small.Embed(reference, embed),
    )


@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
def test_hf_clip(check_vit, on_disk, act):
    reference = hf(
        "CLIPVisionModelWithProjection",
        "CLIPVisionConfig",
        intermediate_size=4 * small.DIM,
        hidden_act=act,
        projection_dim=7,
    )
    check_vit(
        reference,
        "clip-vit-b16" if act == "quick_gelu" else "clip-vit-b16-datacomp",
        {"norm_pre": "model.vision_model.pre_layrnorm"}
        | small.blocks("model.vision_model.encoder.layers.{}"),
        dialect="hf-clip",
        variant={"output": 7},
        state=on_disk(reference),
        embed=small.Embed(reference, lambda model, x: model(x, **RESAMPLED).image_embeds),
    )


def test_hf_siglip(check_vit, on_disk):
    reference = hf("SiglipVisionModel", "SiglipVisionConfig", intermediate_size=4 * small.DIM)
    check_vit(
        reference,
        "siglip2-base-patch16",
        small.blocks("model.encoder.layers.{}"),
        dialect="hf-siglip",
        state=on_disk(reference),
        embed=small.Embed(reference, lambda model, x: model(x, **RESAMPLED).pooler_output),
    )
