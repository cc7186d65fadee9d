"""What `fam-jax demo` shows."""
