"""Writes golden.npz beside this file, from the PyTorch models: `python tests/ports/golden/make.py`.

The weights are a formula of a tensor's name and shape, so that only the embeddings are stored.
"""

import sys
import zlib
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
SHAPES = {
    "resnet18": (1, 64, 96, 3),
    "resnet50": (1, 64, 96, 3),
    "cifar-resnet20": (2, 32, 40, 3),
    "conv4": (2, 48, 32, 3),
    "conv4-omniglot": (2, 28, 28, 1),
    "resnet12": (1, 84, 60, 3),
    "relationnet": (1, 84, 60, 3),
    "mobilefacenet": (1, 112, 112, 3),
    "efficientnet-lite0": (1, 67, 93, 3),  # padding "same" of odd sides
    "efficientnet-b0-ra": (1, 64, 96, 3),
    "mobilenetv3-small": (1, 67, 93, 3),
    "convnext-tiny": (1, 67, 93, 3),
    "vit-tiny-patch16": (1, 224, 224, 3),
    "dino-small-patch16": (1, 96, 160, 3),  # positions resampled
    "dinov2-small-reg4": (1, 70, 112, 3),  # registers, layer scales, positions resampled
}


def tensor(key, shape):
    """Waves of a frequency that depends on the name, scaled as weights usually are."""
    number = zlib.crc32(key.encode()) % 1000
    size = int(np.prod(shape))
    wave = np.sin((1.0 + number / 997) * np.arange(1, size + 1)).reshape(shape)
    if key.endswith("running_var"):
        wave = 1 + 0.5 * wave
    elif len(shape) > 1:
        wave *= np.sqrt(2 / np.prod(shape[1:]))
    elif key.endswith(".weight"):
        wave = 0.75 + 0.25 * wave
    else:
        wave = 0.2 * wave
    return wave.astype(np.float32)


def images(shape):
    return np.sin(0.1 * np.arange(np.prod(shape))).reshape(shape).astype(np.float32)


def main():
    import torch

    sys.path.insert(0, str(HERE.parents[2]))
    from tests.parity import compare, torch_face, torch_few_shot, torch_vit

    zoo = compare.import_torchvision().models
    import timm

    models = {
        "resnet18": zoo.resnet18(),
        "resnet50": zoo.resnet50(),
        "cifar-resnet20": torch_few_shot.CifarResNet(20),
        "conv4": torch_few_shot.conv4(3),
        "conv4-omniglot": torch_few_shot.conv4(1),
        "resnet12": torch_few_shot.ResNet12((64, 160, 320, 640)),
        "relationnet": torch_few_shot.RelationEncoder(),
        "mobilefacenet": torch_face.MobileFaceNet(),
        "efficientnet-lite0": timm.create_model("tf_efficientnet_lite0", num_classes=0),
        "efficientnet-b0-ra": timm.create_model("efficientnet_b0", num_classes=0),
        "mobilenetv3-small": timm.create_model("tf_mobilenetv3_small_100", num_classes=0),
        "convnext-tiny": timm.create_model("convnext_tiny", num_classes=0),
        "vit-tiny-patch16": timm.create_model("vit_tiny_patch16_224", num_classes=0),
        "dino-small-patch16": torch_vit.Facebook(384, 12, 6, 16, 14, dinov2=False),
        "dinov2-small-reg4": torch_vit.Facebook(384, 12, 6, 14, 37, registers=4),
    }
    golden = {}
    for name, model in models.items():
        weights = {
            key: tensor(key, tuple(value.shape))
            for key, value in model.state_dict().items()
            if "num_batches_tracked" not in key
        }
        golden[f"{name} keys"] = np.array([f"{k} {list(w.shape)}" for k, w in weights.items()])
        tensors = {key: torch.as_tensor(value) for key, value in weights.items()}
        model.load_state_dict(tensors, strict=False)
        if hasattr(model, "fc"):
            model.fc = torch.nn.Identity()
        embedding = compare.theirs(model.double().eval(), {}, images(SHAPES[name]).astype(float))
        golden[f"{name} embedding"] = embedding[""].astype(np.float32)[:, ::4]
    np.savez_compressed(HERE / "golden.npz", **golden)


if __name__ == "__main__":
    main()
