"""The local page of `fam-jax app`: pictures in, answers out, and the page around them."""
