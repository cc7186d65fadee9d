"""`fam-jax evaluate`: methods of explanation, measured on a network's own task."""
