"""Vision transformers: the names of timm, of the authors of each, and of transformers."""

from pretrained_ports.checkpoints.dialects.rules import (
    CLASSIFIER,
    COUNTERS,
    TEXT_TOWER,
    Dialect,
    Ignore,
    Rule,
    conv,
    layer_norm,
    linear,
    linear_part,
    oi_to_io,
)
from pretrained_ports.checkpoints.dialects.self_supervised import (
    DINO_HEAD,
    PROTOTYPES,
    mlp_with_norms,
    under,
)

_HEAD = "a head of its training; the embedding is what enters it"
_MASK = Ignore(r"(.+\.)?mask_token", "stands for hidden patches in training only")
_TEMPERATURE = Ignore(r"logit_(scale|bias)", "the temperature of the training loss")


def _as_token(array):
    """[d] or [1 1 d] -> [1 1 d]."""
    return array.reshape(1, 1, array.shape[-1])


def _as_positions(array):
    """[n d] -> [1 n d]."""
    rows, channels = array.shape
    return array.reshape(1, rows, channels)


_TIMM = (
    Rule(r"(cls_token|dist_token|reg_token|pos_embed)", r"\1"),
    Rule(r"register_tokens", "reg_token"),
    *conv(r"(patch_embed\.proj)"),
    *layer_norm(r"(norm_pre|norm)"),
    # dinov2 may have blocks in groups, "blocks.1.7": the block's own number comes last
    *layer_norm(r"blocks\.(?:\d+\.)?(\d+)\.(norm[12])", r"blocks.\1.\2"),
    *linear(r"blocks\.(?:\d+\.)?(\d+)\.(attn\.qkv|attn\.proj|mlp\.fc[12])", r"blocks.\1.\2"),
    *linear(r"blocks\.(?:\d+\.)?(\d+)\.mlp\.w12", r"blocks.\1.mlp.fc1"),
    *linear(r"blocks\.(?:\d+\.)?(\d+)\.mlp\.w3", r"blocks.\1.mlp.fc2"),
    Rule(r"blocks\.(?:\d+\.)?(\d+)\.(ls[12]\.gamma)", r"blocks.\1.\2"),
)

# https://github.com/huggingface/pytorch-image-models, https://github.com/facebookresearch/deit,
# https://github.com/facebookresearch/dino, https://github.com/facebookresearch/dinov2
TIMM_VIT = Dialect(
    "timm-vit",
    rules=_TIMM,
    prefix=r"(?:backbone\.)?",
    ignore=(
        _MASK,
        Ignore(r"(head|head_dist)\.(weight|bias)", CLASSIFIER),
        Ignore(r"(head(?!\.mlp)|dino_head|ibot_head)\..+", _HEAD),
    ),
)

# Teacher or student, with the head. https://github.com/facebookresearch/dino
DINO_VIT = Dialect(
    "dino-vit",
    rules=under(r"backbone\.", _TIMM),
    head=DINO_HEAD,
    ignore=(_MASK, PROTOTYPES),
    needs=r"head\.mlp\.0\.weight",
)

# https://github.com/facebookresearch/moco-v3
MOCO_V3_VIT = Dialect(
    "moco-v3-vit",
    rules=_TIMM,
    prefix=r"base_encoder\.",
    head=mlp_with_norms(r"head"),
    ignore=(
        COUNTERS,
        Ignore(r"momentum_encoder\..+", "the slow copy of the encoder, for training only"),
        Ignore(r"predictor\..+", _HEAD),
    ),
)

# Files of older versions number the layers of the MLP in another way.
# https://github.com/pytorch/vision
_TV_LAYER = r"encoder\.layers\.encoder_layer_(\d+)"
_TV_ATTENTION = rf"{_TV_LAYER}\.self_attention"
TORCHVISION_VIT = Dialect(
    "torchvision-vit",
    rules=(
        Rule(r"class_token", "cls_token"),
        Rule(r"encoder\.pos_embedding", "pos_embed"),
        *conv(r"conv_proj", "patch_embed.proj"),
        *layer_norm(rf"{_TV_LAYER}\.ln_([12])", r"blocks.\1.norm\2"),
        Rule(rf"{_TV_ATTENTION}\.in_proj_weight", r"blocks.\1.attn.qkv.kernel", oi_to_io),
        Rule(rf"{_TV_ATTENTION}\.in_proj_bias", r"blocks.\1.attn.qkv.bias"),
        *linear(rf"{_TV_ATTENTION}\.out_proj", r"blocks.\1.attn.proj"),
        *linear(rf"{_TV_LAYER}\.mlp\.(?:0|linear_1)", r"blocks.\1.mlp.fc1"),
        *linear(rf"{_TV_LAYER}\.mlp\.(?:3|linear_2)", r"blocks.\1.mlp.fc2"),
        *layer_norm(r"encoder\.ln", "norm"),
    ),
    ignore=(Ignore(r"heads\..+", CLASSIFIER),),
)

TIMM_CLIP = Dialect("timm-clip", rules=(*_TIMM, *linear(r"(head)")))

# Also OpenCLIP's file, where the image tower of timm lies at "visual.trunk".
TIMM_SIGLIP = Dialect(
    "timm-siglip",
    rules=(
        *_TIMM,
        Rule(r"(attn_pool\.latent)", r"\1"),
        *linear_part(r"attn_pool\.q", "attn_pool.qkv", "[0:1/3]"),
        *linear_part(r"attn_pool\.kv", "attn_pool.qkv", "[1:3/3]"),
        *linear(r"(attn_pool\.proj|attn_pool\.mlp\.fc[12])"),
        *layer_norm(r"(attn_pool\.norm)"),
    ),
    prefix=r"(?:visual\.trunk\.)?",
    ignore=(Ignore(r"text\..+", TEXT_TOWER), _TEMPERATURE),
)

# https://github.com/openai/CLIP, https://github.com/mlfoundations/open_clip
_RESBLOCK = r"transformer\.resblocks\.(\d+)"
OPENAI_CLIP = Dialect(
    "openai-clip",
    rules=(
        Rule(r"class_embedding", "cls_token", _as_token),
        Rule(r"positional_embedding", "pos_embed", _as_positions),
        *conv(r"conv1", "patch_embed.proj"),
        *layer_norm(r"ln_pre", "norm_pre"),
        *layer_norm(r"ln_post", "norm"),
        *layer_norm(rf"{_RESBLOCK}\.ln_([12])", r"blocks.\1.norm\2"),
        Rule(rf"{_RESBLOCK}\.attn\.in_proj_weight", r"blocks.\1.attn.qkv.kernel", oi_to_io),
        Rule(rf"{_RESBLOCK}\.attn\.in_proj_bias", r"blocks.\1.attn.qkv.bias"),
        *linear(rf"{_RESBLOCK}\.attn\.out_proj", r"blocks.\1.attn.proj"),
        *linear(rf"{_RESBLOCK}\.mlp\.c_fc", r"blocks.\1.mlp.fc1"),
        *linear(rf"{_RESBLOCK}\.mlp\.c_proj", r"blocks.\1.mlp.fc2"),
        Rule(r"proj", "head.kernel"),  # a matrix [dim output] in the original too
    ),
    prefix=r"visual\.",
    ignore=(
        Ignore(r"(transformer|token_embedding|ln_final|text)\..+", TEXT_TOWER),
        Ignore(r"positional_embedding|text_projection|attn_mask", TEXT_TOWER),
        Ignore(r"input_resolution|context_length|vocab_size", "a size, not a weight"),
        _TEMPERATURE,
    ),
)


def _fused(source: str, names: tuple[str, str, str]) -> tuple[Rule, ...]:
    """Queries, keys and values as three layers at a source path that has the block's number."""
    return tuple(
        rule
        for third, name in enumerate(names)
        for rule in linear_part(
            rf"{source}\.{name}", r"blocks.\1.attn.qkv", f"[{third}:{third + 1}/3]"
        )
    )


# https://github.com/huggingface/transformers, as its files are on disk
_LAYER = r"encoder\.layer\.(\d+)"
_HF_VIT = (
    Rule(r"embeddings\.cls_token", "cls_token"),
    Rule(r"embeddings\.distillation_token", "dist_token"),
    Rule(r"embeddings\.register_tokens", "reg_token"),
    Rule(r"embeddings\.position_embeddings", "pos_embed"),
    *conv(r"embeddings\.patch_embeddings\.projection", "patch_embed.proj"),
    *_fused(rf"{_LAYER}\.attention\.attention", ("query", "key", "value")),
    *linear(rf"{_LAYER}\.attention\.output\.dense", r"blocks.\1.attn.proj"),
    *layer_norm(r"layernorm", "norm"),
)

HF_VIT = Dialect(
    "hf-vit",
    rules=(
        *_HF_VIT,
        *layer_norm(rf"{_LAYER}\.layernorm_before", r"blocks.\1.norm1"),
        *layer_norm(rf"{_LAYER}\.layernorm_after", r"blocks.\1.norm2"),
        *linear(rf"{_LAYER}\.intermediate\.dense", r"blocks.\1.mlp.fc1"),
        *linear(rf"{_LAYER}\.output\.dense", r"blocks.\1.mlp.fc2"),
    ),
    prefix=r"(?:vit\.|deit\.)?",
    ignore=(
        _MASK,
        Ignore(r"(cls_|distillation_)?classifier\..+", CLASSIFIER),
        Ignore(r"((vit|deit)\.)?pooler\..+", _HEAD),
    ),
    positions="transformers",
)

HF_DINOV2 = Dialect(
    "hf-dinov2",
    rules=(
        *_HF_VIT,
        *layer_norm(rf"{_LAYER}\.(norm[12])", r"blocks.\1.\2"),
        *linear(rf"{_LAYER}\.(mlp\.fc[12])", r"blocks.\1.\2"),
        *linear(rf"{_LAYER}\.mlp\.weights_in", r"blocks.\1.mlp.fc1"),
        *linear(rf"{_LAYER}\.mlp\.weights_out", r"blocks.\1.mlp.fc2"),
        Rule(rf"{_LAYER}\.layer_scale([12])\.lambda1", r"blocks.\1.ls\2.gamma"),
    ),
    prefix=r"(?:dinov2\.|dinov2_with_registers\.)?",
    ignore=(_MASK, Ignore(r"classifier\..+", CLASSIFIER)),
    positions="transformers",
)

_LAYER = r"encoder\.layers\.(\d+)"
_HF_CLIP = (
    Rule(r"embeddings\.position_embedding\.weight", "pos_embed", _as_positions),
    *conv(r"embeddings\.patch_embedding", "patch_embed.proj"),
    *_fused(rf"{_LAYER}\.self_attn", ("q_proj", "k_proj", "v_proj")),
    *linear(rf"{_LAYER}\.self_attn\.out_proj", r"blocks.\1.attn.proj"),
    *layer_norm(rf"{_LAYER}\.layer_norm([12])", r"blocks.\1.norm\2"),
    *linear(rf"{_LAYER}\.(mlp\.fc[12])", r"blocks.\1.\2"),
    *layer_norm(r"post_layernorm", "norm"),
)
_HF_TEXT = (
    Ignore(r"text_model\..+|text_projection\.weight", TEXT_TOWER),
    Ignore(r"(.+\.)?position_ids", "0, 1, 2, ..."),
    _TEMPERATURE,
)

HF_CLIP = Dialect(
    "hf-clip",
    rules=(
        *(rule._replace(pattern=r"vision_model\." + rule.pattern) for rule in _HF_CLIP),
        Rule(r"vision_model\.embeddings\.class_embedding", "cls_token", _as_token),
        *layer_norm(r"vision_model\.pre_layrnorm", "norm_pre"),  # spelt so
        *linear(r"visual_projection", "head"),
    ),
    ignore=_HF_TEXT,
    positions="transformers",
)

HF_SIGLIP = Dialect(
    "hf-siglip",
    rules=(
        *_HF_CLIP,
        Rule(r"head\.probe", "attn_pool.latent"),
        Rule(r"head\.attention\.in_proj_weight", "attn_pool.qkv.kernel", oi_to_io),
        Rule(r"head\.attention\.in_proj_bias", "attn_pool.qkv.bias"),
        *linear(r"head\.attention\.out_proj", "attn_pool.proj"),
        *layer_norm(r"head\.layernorm", "attn_pool.norm"),
        *linear(r"head\.(mlp\.fc[12])", r"attn_pool.\1"),
    ),
    prefix=r"(?:vision_model\.)?",
    ignore=_HF_TEXT,
    positions="transformers",
)

VIT_DIALECTS = (
    TIMM_VIT,
    TORCHVISION_VIT,
    DINO_VIT,
    MOCO_V3_VIT,
    TIMM_CLIP,
    TIMM_SIGLIP,
    OPENAI_CLIP,
    HF_VIT,
    HF_DINOV2,
    HF_CLIP,
    HF_SIGLIP,
)
