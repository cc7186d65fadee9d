"""Large jobs: maps of any number of pairs, on many devices and hosts, into a zarr store."""

from fam_jax._core.extras import needed

with needed("large jobs need", "bulk"):
    from fam_jax.bulk.drive import Progress as Progress
    from fam_jax.bulk.index import IndexSummary as IndexSummary
    from fam_jax.bulk.index import index as index
    from fam_jax.bulk.job import Summary as Summary
    from fam_jax.bulk.pairs import grid as grid
    from fam_jax.bulk.read import MapStore as MapStore
    from fam_jax.bulk.read import Row as Row
    from fam_jax.bulk.read import open_store as open_store
    from fam_jax.bulk.retrieve import Retrieval as Retrieval
    from fam_jax.bulk.retrieve import retrieve as retrieve
    from fam_jax.bulk.run import run as run
    from fam_jax.bulk.search import Index as Index
    from fam_jax.bulk.search import open_index as open_index
