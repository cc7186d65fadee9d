"""The networks: flax.nnx modules from images, or token numbers, to embeddings."""
