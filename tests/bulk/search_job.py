"""An index and a search by the toy network, to be run in a process of its own.

The pictures are those of FOLDER/pictures, every one twice, so that every hit is one of two.
"""

from pathlib import Path
from unittest.mock import patch

import numpy as np

from fam_jax import bulk
from fam_jax.apps import hosts
from tests.bulk import toy


def main(folder, name, port=None, process=0, processes=1):
    if port is not None:
        hosts.join(f"127.0.0.1:{port}", processes, process)
    folder, encode = Path(folder), toy.encoder()
    paths = sorted(map(str, (folder / "pictures").iterdir()))
    told = {"preprocess": toy.Preprocess(), "batch": 2}
    bulk.index(encode, [*paths, *paths], folder / name / "index", **told)
    gallery = bulk.open_index(folder / name / "index")
    queries = [*paths[1:4], str(folder / "none.png")]
    with patch.multiple("fam_jax.bulk._search", _ROWS=8, _SPARE=2):
        hits = bulk.retrieve(encode, queries, gallery, folder / name / "maps", top=5, **told)
    np.savez(folder / f"{name}-{process}.npz", scores=hits.scores, rows=hits.rows)
