"""Text towers of CLIP; what belongs to the image tower is left to the image tower."""

from pretrained_ports.checkpoints.dialects.rules import (
    Dialect,
    Ignore,
    Rule,
    layer_norm,
    linear,
    linear_part,
    oi_to_io,
)

_TEMPERATURE = Ignore(r"logit_(scale|bias)", "the temperature of the training loss")
_IMAGE_TOWER = "the image tower"
_RESBLOCK = r"transformer\.resblocks\.(\d+)\."
_HF_LAYER = r"text_model\.encoder\.layers\.(\d+)\."

# https://github.com/openai/CLIP, https://github.com/mlfoundations/open_clip
OPENAI_CLIP_TEXT = Dialect(
    "openai-clip-text",
    rules=(
        Rule(r"token_embedding\.weight", "token_embedding.embedding"),
        Rule(r"positional_embedding", "positional_embedding"),
        *layer_norm(_RESBLOCK + r"ln_([12])", r"blocks.\1.norm\2"),
        Rule(_RESBLOCK + r"attn\.in_proj_weight", r"blocks.\1.attn.qkv.kernel", oi_to_io),
        Rule(_RESBLOCK + r"attn\.in_proj_bias", r"blocks.\1.attn.qkv.bias"),
        *linear(_RESBLOCK + r"attn\.out_proj", r"blocks.\1.attn.proj"),
        *linear(_RESBLOCK + r"mlp\.c_fc", r"blocks.\1.mlp.fc1"),
        *linear(_RESBLOCK + r"mlp\.c_proj", r"blocks.\1.mlp.fc2"),
        *layer_norm(r"(ln_final)"),
        Rule(r"text_projection", "text_projection.kernel"),  # a matrix [dim e] in the original too
    ),
    prefix=r"(?:text\.)?",  # OpenCLIP, where the tower is a module of its own
    ignore=(
        Ignore(r"visual\..+", _IMAGE_TOWER),
        _TEMPERATURE,
        Ignore(r"input_resolution|context_length|vocab_size", "a size, not a weight"),
        Ignore(r"(text\.)?attn_mask", "the causal mask, which is made anew"),
    ),
)

# https://github.com/huggingface/transformers
HF_CLIP_TEXT = Dialect(
    "hf-clip-text",
    rules=(
        Rule(r"text_model\.embeddings\.token_embedding\.weight", "token_embedding.embedding"),
        Rule(r"text_model\.embeddings\.position_embedding\.weight", "positional_embedding"),
        *layer_norm(_HF_LAYER + r"layer_norm([12])", r"blocks.\1.norm\2"),
        *linear_part(_HF_LAYER + r"self_attn\.q_proj", r"blocks.\1.attn.qkv", "[0:1/3]"),
        *linear_part(_HF_LAYER + r"self_attn\.k_proj", r"blocks.\1.attn.qkv", "[1:2/3]"),
        *linear_part(_HF_LAYER + r"self_attn\.v_proj", r"blocks.\1.attn.qkv", "[2:3/3]"),
        *linear(_HF_LAYER + r"self_attn\.out_proj", r"blocks.\1.attn.proj"),
        *linear(_HF_LAYER + r"mlp\.(fc[12])", r"blocks.\1.mlp.\2"),
        *layer_norm(r"text_model\.final_layer_norm", "ln_final"),
        *linear(r"(text_projection)"),
    ),
    ignore=(
        Ignore(r"vision_model\..+|visual_projection\.weight", _IMAGE_TOWER),
        Ignore(r"text_model\.embeddings\.position_ids", "0, 1, 2, ..."),
        _TEMPERATURE,
    ),
)
