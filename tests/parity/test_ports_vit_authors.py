"""Vision transformers give the numbers of their authors' files: MoCo v3, DINO, DINOv2, CLIP."""

import pytest

torch = pytest.importorskip("torch")
compare = pytest.importorskip("tests.parity.compare")
plain = pytest.importorskip("tests.parity.torch_vit")
small = pytest.importorskip("tests.parity.torch_small_vit")
ssl = pytest.importorskip("tests.parity.torch_ssl")
pytestmark = pytest.mark.parity


def test_moco_v3(check_vit):
    """From a training checkpoint, with the slow encoder and the heads beside it."""
    reference = small.timm_vit()

    def training(state):
        encoder = {f"module.base_encoder.{k}": v for k, v in state.items() if "head" not in k}
        slow = {f"module.momentum_encoder.{k}": torch.zeros_like(v) for k, v in state.items()}
        heads = {
            f"module.{k}.weight": torch.zeros(3, 3) for k in ("base_encoder.head.0", "predictor.0")
        }
        return {"epoch": 300, "state_dict": encoder | slow | heads, "optimizer": {}}

    check_vit(
        reference,
        "vit-small-patch16-moco-v3",
        small.blocks("model.blocks.{}"),
        dialect="moco-v3-vit",
        state=training,
        embed=small.Embed(reference, small.before_the_head),
    )


def with_head(reference, head):
    """A model with its projection head beside it."""
    return small.Embed(
        torch.nn.ModuleDict({"backbone": reference, "head": head}),
        lambda both, images: both["head"](both["backbone"](images)),
    )


def test_moco_v3_with_its_projection_head(check_vit):
    end = torch.nn.BatchNorm1d(16, affine=False)
    both = with_head(small.timm_vit(num_classes=0), ssl.mlp_with_norms(small.DIM, 32, 16, end=end))

    def training(state):
        state = {k.removeprefix("model."): v for k, v in state.items()}
        names = {k: k.removeprefix("backbone.") for k in state}
        return {"state_dict": {f"module.base_encoder.{names[k]}": v for k, v in state.items()}}

    check_vit(
        both,
        "vit-small-patch16-moco-v3",
        small.blocks("model.backbone.blocks.{}"),
        dialect="moco-v3-vit",
        state=training,
        head="keep",
    )


def test_dino_with_its_projection_head(check_vit):
    reference = plain.Facebook(*small.SIZES, dinov2=False)
    both = with_head(reference, ssl.DinoHead(small.DIM))

    def teacher(state):
        return {"teacher": {k.removeprefix("model."): v for k, v in state.items()}, "epoch": 1}

    check_vit(
        both,
        "dino-small-patch16",
        small.blocks("model.backbone.blocks.{}"),
        dialect="dino-vit",
        state=teacher,
        head="keep",
    )


@pytest.mark.parametrize(
    ("name", "options", "variant"),
    [
        ("dino-small-patch16", {"dinov2": False}, {}),
        ("dinov2-small", {}, {}),
        ("dinov2-giant-reg4", {"registers": 4, "swiglu": True}, {"hidden": 4 * small.DIM}),
    ],
)
def test_facebook(check_vit, name, options, variant):
    """DINO's teacher with its prefix and head; DINOv2 with groups of blocks and a mask token."""
    reference = plain.Facebook(*small.SIZES, **options)
    teacher = "dinov2" in options

    def state(tensors):
        if not teacher:
            return tensors
        heads = {"head.last_layer.weight_v": torch.zeros(2, 2)}
        return {"teacher": {f"backbone.{k}": v for k, v in tensors.items()} | heads, "epoch": 1}

    check_vit(
        reference,
        name,
        {"patch_embed.proj": "patch_embed.proj"}
        | small.blocks("blocks.{}" if teacher else "blocks.0.{}"),
        dialect="timm-vit",
        variant=variant,
        state=state,
    )


@pytest.mark.parametrize(
    ("name", "act"),
    [("clip-vit-b32", plain.QuickGELU), ("clip-vit-b32-laion2b", torch.nn.GELU)],
)
def test_openai_clip(check_vit, name, act):
    """Both towers in the file."""
    reference = plain.ClipVisual(*small.SIZES, output=7, act=act)

    def state(tensors):
        text = {
            key: torch.zeros(2, 2)
            for key in (
                *("positional_embedding", "text_projection", "token_embedding.weight"),
                *("transformer.resblocks.0.attn.in_proj_weight", "ln_final.bias", "logit_scale"),
            )
        }
        return {f"visual.{k}": v for k, v in tensors.items()} | text

    paths = {"norm_pre": "ln_pre", **small.blocks("transformer.resblocks.{}")}
    check_vit(reference, name, paths, dialect="openai-clip", variant={"output": 7}, state=state)


@pytest.mark.parametrize("head", ["drop", "keep"])
@pytest.mark.parametrize("old", [False, True])
def test_torchvision(check_vit, head, old):
    """With its classifier left out or kept, and with the names that old files have in the MLP."""
    compare.import_torchvision()
    from torchvision.models.vision_transformer import VisionTransformer

    sizes = {"num_layers": small.DEPTH, "num_heads": small.HEADS, "hidden_dim": small.DIM}
    sizes |= {"image_size": small.IMAGE, "patch_size": small.PATCH, "mlp_dim": 4 * small.DIM}
    reference = VisionTransformer(**sizes, num_classes=7)
    layers = "model.encoder.layers.encoder_layer_{}"

    def renamed(state):
        names = {"mlp.0.": "mlp.linear_1.", "mlp.3.": "mlp.linear_2."} if old else {}
        for new, name in names.items():
            state = {key.replace(new, name): value for key, value in state.items()}
        return state

    def embed(model, images):
        heads, model.heads = model.heads, torch.nn.Identity()
        z = model(images)
        model.heads = heads
        return heads(z) if head == "keep" else z

    check_vit(
        reference,
        "vit-base-patch16-tv",
        {"patch_embed.proj": "model.conv_proj", **small.blocks(layers)},
        small.SQUARE,  # it takes no other
        dialect="torchvision-vit",
        state=renamed,
        embed=small.Embed(reference, embed),
        head=head,
    )
