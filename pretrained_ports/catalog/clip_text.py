"""The text towers of CLIP, under the names of their image towers."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from pretrained_ports.catalog.entry import Hub
from pretrained_ports.models.clip_text import TextTransformer
from pretrained_ports.models.transformer import gelu, quick_gelu

TEXT_DIALECTS = ("openai-clip-text", "hf-clip-text", "native-text")

# One vocabulary for all of them.
TOKENIZER = Hub("openai/clip-vit-base-patch32", "tokenizer.json")


class TextEntry(NamedTuple):
    """One row.

    Attributes:
        build: Makes the model from `rngs=` and `param_dtype=`.
        hub: Where the default weights are downloaded from; the file has both towers.
    """

    build: Callable[..., TextTransformer]
    hub: Hub


def _row(variant: str, act: Callable, repository: str) -> TextEntry:
    return TextEntry(
        partial(TextTransformer, variant, act), Hub(repository, "open_clip_model.safetensors")
    )


# OpenAI's were trained with the quick GELU, the others with the exact one.
_openai = partial(_row, act=quick_gelu)
_laion = partial(_row, act=gelu)

TOWERS: dict[str, TextEntry] = {
    "clip-vit-b32": _openai("base", repository="timm/vit_base_patch32_clip_224.openai"),
    "clip-vit-b16": _openai("base", repository="timm/vit_base_patch16_clip_224.openai"),
    "clip-vit-l14": _openai("large", repository="timm/vit_large_patch14_clip_224.openai"),
    "clip-vit-l14-336": _openai("large", repository="timm/vit_large_patch14_clip_336.openai"),
    **{
        f"clip-vit-{name}-{data}": _laion(size, repository=f"laion/CLIP-ViT-{repository}")
        for name, size, data, repository in (
            ("b32", "base", "laion2b", "B-32-laion2B-s34B-b79K"),
            ("b16", "base", "laion2b", "B-16-laion2B-s34B-b88K"),
            ("l14", "large", "laion2b", "L-14-laion2B-s32B-b82K"),
            ("b32", "base", "datacomp", "B-32-DataComp.XL-s13B-b90K"),
            ("b16", "base", "datacomp", "B-16-DataComp.XL-s13B-b90K"),
            ("l14", "large", "datacomp", "L-14-DataComp.XL-s13B-b90K"),
        )
    },
}
