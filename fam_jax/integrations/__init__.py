"""Stores of maps in tools for looking at data: `fam_jax.integrations.fiftyone`."""
