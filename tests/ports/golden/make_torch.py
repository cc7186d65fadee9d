"""Writes this version's files of `tests/ports/test_torch_files.py`: python make_torch.py FOLDER.

The files here were written by torch 1.13.1 (Debian's, Python 3.11) and 2.13.0.
"""

import argparse
import sys
from collections import Counter, OrderedDict
from pathlib import Path

import numpy as np


def content(torch):
    """What training scripts save: weights of several types, and plain data beside them."""
    ramp = torch.arange(6.0).reshape(2, 3)
    weights = OrderedDict(
        ramp=ramp,
        turned=ramp.T,
        row=ramp[1],
        parameter=torch.nn.Parameter(torch.full((2,), 0.5)),
        double=torch.tensor([0.1], dtype=torch.float64),
        half=torch.tensor([1.5, -2.0], dtype=torch.float16),
        brain=torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        complex=torch.tensor([1 + 2j]),
        count=torch.tensor(7),
        flags=torch.tensor([True, False]),
        bytes=torch.tensor([0, 255], dtype=torch.uint8),
        none=torch.empty(0, 3),
    )
    if hasattr(torch, "float8_e4m3fn"):
        weights["eight"] = torch.tensor([1.5, -2.0]).to(torch.float8_e4m3fn)
        weights["unsigned"] = torch.tensor([65535], dtype=torch.uint16)
    return {
        "state_dict": OrderedDict((f"module.{key}", value) for key, value in weights.items()),
        "epoch": 3,
        "best": np.float64(0.9),
        "args": argparse.Namespace(lr=0.1, milestones=[30, 60]),
        "state": {"rates": (0.1, None, True), "steps": Counter({3: 1}), "huge": 2**70},
        "kinds": [torch.float32, torch.Size([2, 3]), torch.device("cpu"), b"raw", {1, 2}, 1j],
    }


if __name__ == "__main__":
    import torch

    version = torch.__version__.split("+")[0].replace("1.13.0a0", "1.13.1")
    for kind in ("zip", "old"):
        file = Path(sys.argv[1]) / f"torch-{version}-{kind}.pth"
        torch.save(content(torch), file, _use_new_zipfile_serialization=kind == "zip")
