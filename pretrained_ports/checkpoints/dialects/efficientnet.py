"""EfficientNet: the names of timm, and those of efficientnet_pytorch."""

from pretrained_ports.checkpoints.dialects.resnet import CLASSIFIER
from pretrained_ports.checkpoints.dialects.rules import (
    COUNTERS,
    Dialect,
    Ignore,
    Rule,
    batch_norm,
    conv,
)
from pretrained_ports.models.efficientnet import VARIANTS, depths

# https://github.com/huggingface/pytorch-image-models
TIMM_EFFICIENTNET = Dialect(
    "timm-efficientnet",
    rules=(
        *conv(r"(conv_stem|conv_head)"),
        *batch_norm(r"(bn[12])"),
        *conv(r"(blocks\.\d+\.\d+\.conv_(?:dw|pw|pwl))"),
        *conv(r"(blocks\.\d+\.\d+\.se\.conv_(?:reduce|expand))"),
        *batch_norm(r"(blocks\.\d+\.\d+\.bn[123])"),
    ),
    ignore=(COUNTERS, Ignore(r"classifier\.(weight|bias)", CLASSIFIER)),
    needs=r"blocks\.0\.0\.conv_dw\.weight",
)


def _block(source: str, target: str, expanded: bool) -> tuple[Rule, ...]:
    """The layers of one block; its norms are counted from _bn0, which only an expansion has."""
    first = 0 if expanded else 1
    last = "conv_pwl" if expanded else "conv_pw"
    return (
        *(conv(rf"{source}\._expand_conv", f"{target}.conv_pw") if expanded else ()),
        *conv(rf"{source}\._depthwise_conv", f"{target}.conv_dw"),
        *conv(rf"{source}\._se_(reduce|expand)", rf"{target}.se.conv_\1"),
        *conv(rf"{source}\._project_conv", f"{target}.{last}"),
        *(
            rule
            for n in range(first, 3)
            for rule in batch_norm(rf"{source}\._bn{n}", f"{target}.bn{n - first + 1}")
        ),
    )


def efficientnet_pytorch(variant: str) -> str:
    """The name of the dialect that counts a variant's blocks through, from 0.

    Example:
        >>> efficientnet_pytorch("lite0")
        'efficientnet-pytorch-16'
    """
    return f"efficientnet-pytorch-{sum(depths(variant))}"


def _counted(variant: str) -> Dialect:
    places = [(stage, i) for stage, blocks in enumerate(depths(variant)) for i in range(blocks)]
    return Dialect(
        efficientnet_pytorch(variant),
        rules=(
            *conv(r"_(conv_stem|conv_head)"),
            *batch_norm("_bn0", "bn1"),
            *batch_norm("_bn1", "bn2"),
            *(
                rule
                for n, (stage, i) in enumerate(places)
                for rule in _block(rf"_blocks\.{n}", f"blocks.{stage}.{i}", expanded=stage > 0)
            ),
        ),
        ignore=(COUNTERS, Ignore(r"_fc\.(weight|bias)", CLASSIFIER)),
        needs=rf"_blocks\.{len(places) - 1}\._project_conv\.weight",
    )


# https://github.com/lukemelas/EfficientNet-PyTorch; variants of one depth share a table.
EFFICIENTNET_PYTORCH = {
    dialect.name: dialect for dialect in (_counted(variant) for variant in VARIANTS)
}
