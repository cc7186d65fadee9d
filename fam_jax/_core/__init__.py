"""The machinery: a network as a pure function with named places, encodings, similarities, maps."""
