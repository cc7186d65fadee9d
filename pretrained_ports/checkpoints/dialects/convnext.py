"""ConvNeXt: the names of timm, of the authors, of torchvision and of transformers."""

import numpy as np

from pretrained_ports.checkpoints.dialects.rules import (
    CLASSIFIER,
    Dialect,
    Ignore,
    Rule,
    conv,
    layer_norm,
    linear,
)


def _flat(factors: np.ndarray) -> np.ndarray:
    """[c 1 1] or [c] -> [c]."""
    return factors.reshape(factors.shape[0])


def _block(source: str, target: str, layers: tuple[str, str, str, str, str]) -> tuple[Rule, ...]:
    """The layers of a block in the order that they run."""
    depthwise, norm, fc1, fc2, gamma = (rf"{source}\.{layer}" for layer in layers)
    return (
        *conv(depthwise, f"{target}.conv_dw"),
        *layer_norm(norm, f"{target}.norm"),
        *linear(fc1, f"{target}.mlp.fc1"),
        *linear(fc2, f"{target}.mlp.fc2"),
        Rule(gamma, f"{target}.gamma", _flat),
    )


def _half(source: str, target: str) -> tuple[Rule, ...]:
    """A norm and a convolution, which lie at 0 and 1."""
    return *layer_norm(rf"{source}\.0", f"{target}.0"), *conv(rf"{source}\.1", f"{target}.1")


# https://github.com/huggingface/pytorch-image-models
TIMM_CONVNEXT = Dialect(
    "timm-convnext",
    rules=(
        *conv(r"(stem\.0)"),
        *layer_norm(r"(stem\.1|head\.norm)"),
        *_half(r"stages\.([1-3])\.downsample", r"stages.\1.downsample"),
        *_block(
            r"stages\.(\d)\.blocks\.(\d+)",
            r"stages.\1.blocks.\2",
            ("conv_dw", "norm", r"mlp\.fc1", r"mlp\.fc2", "gamma"),
        ),
    ),
    ignore=(Ignore(r"head\.fc\.(weight|bias)", CLASSIFIER),),
)

# https://github.com/facebookresearch/ConvNeXt
FACEBOOK_CONVNEXT = Dialect(
    "facebook-convnext",
    rules=(
        *conv(r"downsample_layers\.0\.0", "stem.0"),
        *layer_norm(r"downsample_layers\.0\.1", "stem.1"),
        *_half(r"downsample_layers\.([1-3])", r"stages.\1.downsample"),
        *_block(
            r"stages\.(\d)\.(\d+)",
            r"stages.\1.blocks.\2",
            ("dwconv", "norm", "pwconv1", "pwconv2", "gamma"),
        ),
        *layer_norm("norm", "head.norm"),
    ),
    ignore=(Ignore(r"head\.(weight|bias)", CLASSIFIER),),
)

# Stages have odd numbers, what stands before them even ones. https://github.com/pytorch/vision
TORCHVISION_CONVNEXT = Dialect(
    "torchvision-convnext",
    rules=(
        *conv(r"features\.0\.0", "stem.0"),
        *layer_norm(r"features\.0\.1", "stem.1"),
        *(
            rule
            for stage in range(4)
            for rule in (
                *_half(rf"features\.{2 * stage}", f"stages.{stage}.downsample"),
                *_block(
                    rf"features\.{2 * stage + 1}\.(\d+)",
                    rf"stages.{stage}.blocks.\1",
                    (r"block\.0", r"block\.2", r"block\.3", r"block\.5", "layer_scale"),
                ),
            )
        ),
        *layer_norm(r"classifier\.0", "head.norm"),
    ),
    ignore=(Ignore(r"classifier\.2\.(weight|bias)", CLASSIFIER),),
)

# The last norm adds 1e-12 there unless told otherwise; the authors' adds 1e-6, as all others do.
# https://github.com/huggingface/transformers
HF_CONVNEXT = Dialect(
    "hf-convnext",
    rules=(
        *conv(r"embeddings\.patch_embeddings", "stem.0"),
        *layer_norm(r"embeddings\.layernorm", "stem.1"),
        *_half(r"encoder\.stages\.([1-3])\.downsampling_layer", r"stages.\1.downsample"),
        *_block(
            r"encoder\.stages\.(\d)\.layers\.(\d+)",
            r"stages.\1.blocks.\2",
            ("dwconv", "layernorm", "pwconv1", "pwconv2", "layer_scale_parameter"),
        ),
        *layer_norm("layernorm", "head.norm"),
    ),
    prefix=r"(?:convnext\.)?",
    ignore=(Ignore(r"classifier\.(weight|bias)", CLASSIFIER),),
)

CONVNEXT_DIALECTS = (TIMM_CONVNEXT, FACEBOOK_CONVNEXT, TORCHVISION_CONVNEXT, HF_CONVNEXT)
