"""Vision transformers give timm's numbers: the embedding and every block."""

from functools import partial

import pytest

torch = pytest.importorskip("torch")
compare = pytest.importorskip("tests.parity.compare")
small = pytest.importorskip("tests.parity.torch_small_vit")
pytestmark = pytest.mark.parity


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
        embed=small.Embed(reference, small.before_the_head),
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
        ("dino-small-patch16", {}, {}),
        ("dinov2-small", {"init_values": 0.1}, {}),
    ],
)
def test_timm(check_vit, name, options, variant):
    compare.import_torchvision()
    if "giant" in name:
        from timm.layers import SwiGLUPacked

        options |= {"mlp_layer": SwiGLUPacked, "act_layer": torch.nn.SiLU, "mlp_ratio": 4}
        variant |= {"hidden": 2 * small.DIM}
    reference = small.timm_vit(**options)
    paths = {"patch_embed.proj": "model.patch_embed.proj", **small.blocks("model.blocks.{}")}
    check_vit(
        reference,
        name,
        paths,
        dialect="timm-vit",
        variant=variant,
        positions="timm",  # of these DINO alone is used in another way by its authors
        embed=small.Embed(reference, small.before_the_head),
    )


@pytest.mark.parametrize("name", ["clip-vit-b32", "clip-vit-b32-laion2b"])
def test_timm_clip(check_vit, name):
    """The head is part of the embedding here, and timm gives it a bias."""
    compare.import_torchvision()
    from timm.layers import QuickGELU

    reference = small.timm_vit(
        pre_norm=True,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-5),
        act_layer=QuickGELU if name == "clip-vit-b32" else torch.nn.GELU,
    )
    paths = {"norm_pre": "norm_pre", **small.blocks("blocks.{}")}
    check_vit(reference, name, paths, dialect="timm-clip", variant={"output": 7})


def test_timm_siglip(check_vit):
    reference = small.timm_vit(
        class_token=False, global_pool="map", act_layer="gelu_tanh", num_classes=0
    )
    paths = {"attn_pool": "attn_pool", **small.blocks("blocks.{}")}
    check_vit(reference, "siglip-base-patch16", paths, dialect="timm-siglip")


def test_timm_deit_distilled(check_vit):
    """Timm antialiases positions, DeiT's own code does not."""
    compare.import_torchvision()
    from timm.models.deit import VisionTransformerDistilled

    reference = VisionTransformerDistilled(**small.TIMM, dynamic_img_size=True)
    check_vit(
        reference,
        "deit-tiny-patch16-distilled",
        small.blocks("model.blocks.{}"),
        dialect="timm-vit",
        positions="timm",
        embed=small.Embed(reference, small.before_the_head),
    )
