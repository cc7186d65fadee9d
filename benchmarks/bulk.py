"""What a large job costs: beside the bare loop, beside the usual loop, over time, over devices.

    python benchmarks/bulk.py                   # all but --real; half an hour on two CPU cores
    python benchmarks/bulk.py --quick           # tiny sizes, to see that it runs
    python benchmarks/bulk.py --only memory     # throughput, usual, memory or scaling
    python benchmarks/bulk.py --real DIR --out STORE    # 12,100 pairs of crops of the photographs

Wall time over forced devices on two cores says nothing about scaling; what is shown there is that
a device's program has no collective in it, and that the store is the same.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from bulk_inputs import CONSOLE, crops, demo_photos
from bulk_scale import CHILDREN, memory, scaling
from bulk_speed import throughput, usual_loop
from PIL import Image
from rich.table import Table

import fam_jax
import pretrained_ports
from fam_jax import bulk


def real(folder: Path, out: Path) -> None:
    """110 x 110 crops of every photograph at hand, all pairs, and 12,100 of them from a table."""
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png"})
    sources = demo_photos() + [Image.open(p).convert("RGB") for p in files]
    sources = [photo for photo in sources if min(photo.size) >= 64]
    paths = crops(out / "pictures", 220, None, sources)
    backbone = pretrained_ports.load("tiny")
    encode = fam_jax.capture(backbone)
    table = Table(title=f"12,100 pairs of {len(paths)} crops of {len(sources)} photographs, tiny")
    for name in ("pairs", "maps", "seconds", "pairs/s", "invalid", "store"):
        table.add_column(name, justify="right")
    grid = bulk.grid(paths[:110], paths[110:], 32)
    rng = np.random.default_rng(0)
    drawn = [tuple(paths[i] for i in rng.choice(220, 2, replace=False)) for _ in range(12_100)]
    for name, pairs in (("all of 110 x 110", grid), ("drawn, from a table", drawn)):
        for dtype in ("float16", "uint8") if pairs is grid else ("float16",):
            store = out / f"{name.split()[0].strip(',')}-{dtype}"
            began = time.perf_counter()
            done = bulk.run(encode, pairs, store, preprocess=backbone.preprocess, dtype=dtype)
            seconds = time.perf_counter() - began
            files = [p.stat() for p in store.rglob("*") if p.is_file()]
            size = sum(file.st_size for file in files) / 2**20
            blocks = sum(file.st_blocks * 512 for file in files) / 2**20
            rate, on_disk = done.pairs / seconds, f"{size:.1f} MiB ({blocks:.1f} on the disk)"
            numbers = f"{seconds:.0f}", f"{rate:.0f}", str(done.invalid)
            table.add_row(name, dtype, *numbers, on_disk)
    CONSOLE.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=["throughput", "usual", "memory", "scaling"])
    parser.add_argument("--real", type=Path, help="a folder of photographs")
    parser.add_argument("--out", type=Path, default=Path("bulk-real"))
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        what, *rest = args.child
        CHILDREN[what](*rest)
        return
    if args.real:
        real(args.real, args.out)
        return
    parts = {"throughput": throughput, "usual": usual_loop, "memory": memory, "scaling": scaling}
    for name, part in parts.items():
        if args.only in (None, name):
            part(args.quick)


if __name__ == "__main__":
    main()
