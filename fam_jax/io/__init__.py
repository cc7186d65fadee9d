"""Pictures and files: read, listed, written whole."""

from fam_jax.io import pictures as pictures
