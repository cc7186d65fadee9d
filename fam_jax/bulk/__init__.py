"""Large jobs: maps of any number of pairs, on many devices and hosts, into a zarr store."""

from fam_jax._core.extras import needed

with needed("large jobs need", "bulk"):
    from fam_jax.bulk._index import Index as Index
    from fam_jax.bulk._index import IndexSummary as IndexSummary
    from fam_jax.bulk._index import index as index
    from fam_jax.bulk._index import open_index as open_index
    from fam_jax.bulk._maps import MapStore as MapStore
    from fam_jax.bulk._maps import open_store as open_store
    from fam_jax.bulk._pairs import grid as grid
    from fam_jax.bulk._pictures import Loader as Loader
    from fam_jax.bulk._retrieve import Retrieval as Retrieval
    from fam_jax.bulk._retrieve import retrieve as retrieve
    from fam_jax.bulk._run import Summary as Summary
    from fam_jax.bulk._run import run as run
    from fam_jax.bulk._search import search as search
    from fam_jax.bulk._steps import Progress as Progress
    from fam_jax.store import Row as Row
