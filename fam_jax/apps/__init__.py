"""The commands: options in, one-line errors out."""
