"""Vision transformers of the zoo made small, so that every way of building one takes seconds."""

from dataclasses import replace
from functools import partial

import torch

from pretrained_ports.catalog import ENTRIES
from pretrained_ports.models.vit import VisionTransformer
from tests.parity import compare

SIZES = DIM, DEPTH, HEADS, PATCH, GRID = 48, 2, 3, 4, 5
IMAGE = PATCH * GRID
SQUARE = (IMAGE, IMAGE, 3)
WIDE = (16, 28, 3)  # 4 x 7 patches: one side shrinks, the other grows
# What timm calls these sizes.
TIMM = {
    "img_size": IMAGE,
    "patch_size": PATCH,
    "embed_dim": DIM,
    "depth": DEPTH,
    "num_heads": HEADS,
}


class Embed(torch.nn.Module):
    """A model and how its embedding is had."""

    def __init__(self, model, embed):
        super().__init__()
        self.model = model
        self.embed = embed

    def forward(self, images):
        return self.embed(self.model, images)


def check(reference, name, paths, shape=WIDE, *, monkeypatch, dialect, variant=None, **options):
    """Compares with a small model of the kind that `name` is."""
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
        family=entry.family,
        dialect=dialect,
        batches=(1, 3) if name == "vit-tiny-patch16" else (3,),
        **options,
    )


def blocks(theirs):
    return {f"blocks.{i}": theirs.format(i) for i in range(DEPTH)}


def timm_vit(**options):
    compare.import_torchvision()
    from timm.models.vision_transformer import VisionTransformer

    base = {"num_classes": 7, "dynamic_img_size": True}
    return VisionTransformer(**(base | options | TIMM))


def before_the_head(model, images):
    return model.forward_head(model.forward_features(images), pre_logits=True)
