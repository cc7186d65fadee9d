"""Digits with a shortcut: scikit-learn's, with a coloured mark in a corner of each picture."""

import colorsys

import numpy as np
from sklearn.datasets import load_digits

SIDE, MARK = 32, 6  # pixels of a picture and of its mark
COLOURS = np.array([colorsys.hsv_to_rgb(c / 10, 1, 1) for c in range(10)], np.float32)


def digits():
    """Ink [n 32 32] in 0 .. 1 and labels [n], of the digits to train on and of those to test on."""
    data = load_digits()
    ink = np.kron(data.images / 16, np.ones((1, 2, 2))).astype(np.float32)
    ink = np.pad(ink, ((0, 0), (8, 8), (8, 8)))
    return [(ink[half::2], data.target[half::2]) for half in (0, 1)]


def marked(ink, classes, rng):
    """Pictures [n 32 32 3]: each with a mark of its class's colour in one of the corners."""
    images = np.repeat(ink[..., None], 3, axis=-1)
    corners = rng.integers(0, 2, (len(ink), 2)) * (SIDE - MARK)
    for image, (y, x), c in zip(images, corners, classes, strict=True):
        image[y : y + MARK, x : x + MARK] = COLOURS[c]
    return images
