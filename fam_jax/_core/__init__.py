"""The machinery: a network as a pure function with named places, encodings, similarities, maps.

Arguments of other shapes or types than a signature's raise ValueError or TypeError, in one line.
"""
