"""What the documents' blocks find: files and names as the text says, and small stand-in networks.

A network that a document fetches from the hub lies in a cache here, under the name that it has
there: as small as `tiny` or the smallest transformer, with random weights.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image
from safetensors.numpy import save_file

import fam_jax
import pretrained_ports
from pretrained_ports.catalog import ENTRIES
from pretrained_ports.catalog.clip_text import TOKENIZER
from pretrained_ports.checkpoints import write
from pretrained_ports.models.cifar_resnet import CifarResNet
from pretrained_ports.models.conv4 import Conv4
from pretrained_ports.models.state import parameters
from tests import toy_clip
from tests.ports.torch_bytes import pickled, storage, tensor, write_zip

PICTURES = ("query.jpg", "reference.jpg", "a.png", "b.png", "a.jpg", "b.jpg", "photo.jpg")
FOLDERS = {"photos": 3, "gallery": 6, "A": 2, "B": 3}  # and how many pictures each has
_LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}


def shrink(patch, cache: Path) -> None:
    """Put small networks under the names that the documents use, and their files into a cache."""
    patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    convolutional = replace(ENTRIES["tiny"], embedded=None, package=None)
    for name, small in {
        "resnet50": convolutional,
        "efficientnet-lite0": convolutional,
        "dinov2-small": ENTRIES["vit-mini-patch8"],
    }.items():
        entry = ENTRIES[name]
        small = replace(small, hub=entry.hub, dialects=entry.dialects)
        patch.setitem(ENTRIES, name, replace(small, preprocess=_smaller(entry.preprocess)))
        file = _cached(cache, entry.hub)
        write(file, pretrained_ports.create(name).model, {"architecture": name})
    cifar = replace(ENTRIES["cifar-resnet56"], build=partial(CifarResNet, 20))
    patch.setitem(ENTRIES, "cifar-resnet56", cifar)
    toy_clip.shrink(patch)
    towers = pretrained_ports.create_text(toy_clip.NAME), pretrained_ports.create(toy_clip.NAME)
    file = _cached(cache, ENTRIES[toy_clip.NAME].hub)
    toy_clip.save_openai(file, *(tower.model for tower in towers))
    toy_clip.write_tokenizer(_cached(cache, TOKENIZER))


def _smaller(preprocess):
    return replace(preprocess, size=(32, 32), resize=32)


def _cached(cache: Path, hub) -> Path:
    """Where the hub's client looks for a file."""
    folder = cache / f"models--{hub.repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "refs" / "main").write_text("0" * 40)
    file = folder / "snapshots" / ("0" * 40) / hub.file
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def write_files(folder: Path) -> None:
    """Pictures, tables, folders and weights, under the names of the documents."""
    rng = np.random.default_rng(0)

    def picture(file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
        coarse.resize((120, 90), Image.Resampling.BICUBIC).save(file)

    for name in PICTURES:
        picture(folder / name)
    for name, count in FOLDERS.items():
        for i in range(count):
            picture(folder / name / f"{i}.jpg")
    queries = ("a.jpg", "b.jpg", "photo.jpg")
    pairs = [f"{query},gallery/{i}.jpg\n" for query in queries for i in range(6)]
    (folder / "pairs.csv").write_text("".join(["query,reference\n", *pairs]))
    for label in ("cats", "dogs"):  # a folder a class; few, since every method is asked of them
        for i in range(2):
            picture(folder / "FOLDER" / label / f"{i}.jpg")
    box = "<bndbox><xmin>20</xmin><ymin>10</ymin><xmax>80</xmax><ymax>70</ymax></bndbox>"
    for i in range(2):  # boxes as Pascal VOC has them
        picture(folder / "VOC_FOLDER" / f"{i}.jpg")
        xml = f"<annotation><object><name>cat</name>{box}</object></annotation>"
        (folder / "VOC_FOLDER" / f"{i}.xml").write_text(xml)
    weights = torch_names(pretrained_ports.create("cifar-resnet56").model)
    weights |= {"linear.weight": np.ones((10, 64), "f"), "linear.bias": np.ones(10, "f")}
    write_torch(folder / "resnet56.th", weights)
    weights = torch_names(pretrained_ports.create("resnet50").model)
    classifier = {"fc.weight": rng.normal(size=(10, 128)).astype("f"), "fc.bias": np.ones(10, "f")}
    save_file(weights | classifier, folder / "resnet50.safetensors")


def torch_names(model) -> dict[str, np.ndarray]:
    """The parameters of a network whose modules have the same names in PyTorch."""
    arrays = {}
    for path, value in parameters(model).items():
        module, _, leaf = path.rpartition(".")
        value = np.asarray(value)
        value = value.transpose(3, 2, 0, 1) if leaf == "kernel" else value
        arrays[f"{module}.{_LEAVES.get(leaf, leaf)}"] = np.ascontiguousarray(value)
    return arrays


def write_torch(file: Path, arrays: dict[str, np.ndarray]) -> None:
    """A file of `torch.save({"state_dict": arrays})`."""
    tensors = {}
    for key, (name, array) in enumerate(arrays.items()):
        strides = tuple(stride // array.itemsize for stride in array.strides)
        of = storage(str(key), "FloatStorage", array.size)
        tensors[name] = tensor(array.shape, strides, 0, of)
    data = {str(key): array.tobytes() for key, array in enumerate(arrays.values())}
    write_zip(file, pickled({"state_dict": tensors}), data)


def names(document: str, folder: Path) -> dict:
    """The names that a document's Python takes for granted."""
    of = {
        "docs/any-model.md": _any_model,
        "docs/guide.md": _guide,
        "docs/methods.md": _methods,
        "docs/training.md": _training,
    }
    return of[document](folder) if document in of else {"embeddings": np.ones((2, 128), "f")}


def images(seed: int, *shape: int) -> jax.Array:
    return 0.5 * jax.random.normal(jax.random.key(seed), shape, jnp.float32)


def _any_model(folder: Path) -> dict:
    return {
        "kernels": images(0, 2, 3, 4),
        "images": images(1, 2, 8, 8, 3),
        "references": images(2, 2, 4),
    }


def _guide(folder: Path) -> dict:
    return {
        "queries": images(0, 3, 64, 64, 3),
        "references": images(1, 3, 64, 64, 3),
        "background": images(2, 5, 128),
    }


def _methods(folder: Path) -> dict:
    return {
        "jax": jax,
        "queries": images(0, 2, 64, 64, 3),
        "references": images(1, 2, 64, 64, 3),
        "others": images(2, 5, 64, 64, 3),
        "picture": Image.open(folder / "a.jpg"),
        "other_picture": Image.open(folder / "b.jpg"),
        "LAYERS": ("layer2", "layer3"),
        "WEIGHTS": folder / "resnet50.safetensors",
    }


def _training(folder: Path) -> dict:
    optax = pytest.importorskip("optax", reason="needs the train extra")
    batch = images(0, 4, 64, 64, 1)
    model = Conv4(1, width=8, head="pool", rngs=nnx.Rngs(0))
    looked_at = Conv4(1, width=8, head="pool", rngs=nnx.Rngs(0))
    looked_at.eval()
    method, encode = fam_jax.decomposition(), fam_jax.capture(looked_at, at="block3")
    prototypes, labels = jnp.ones((4, 8)), jnp.array([0, 0, 1, 1])
    masks = jnp.ones((4, 64, 64), bool)

    def task(z, prototypes, labels):
        return jnp.mean((z - prototypes[labels]) ** 2)

    return {
        "nnx": nnx,
        "fam_jax": fam_jax,
        "model": model,
        "images": batch,
        "labels": labels,
        "masks": masks,
        "classes": 2,
        "task": task,
        "optimizer": nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param),
        "method": method,
        "encode": encode,
        "prototypes": prototypes,
        "maps": method(encode(batch), prototypes),
        "crops": batch[:, 16:48, 16:48],
        "boxes": jnp.tile(jnp.array([0.25, 0.25, 0.75, 0.75]), (4, 1)),
        "queries": batch[:2],
        "references": batch[2:],
        "folder": "run/maps",
        "batches": iter([(batch, labels, masks)] * 9),
        "steps": 3,
        "start": 2,
    }
