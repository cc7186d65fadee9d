"""Two embeddings over which the mean of the shares is that over a whole gallery."""

from collections.abc import Iterable

import numpy as np

from fam_jax._core.similarity import Cosine, Dot, Euclidean, Similarity


def stand_ins(similarity: Similarity, parts: Iterable[np.ndarray]) -> np.ndarray:
    """Embeddings [2, d] for those of a gallery [n, d], read a part at a time.

        cosine       m +- sqrt(1 - |m|^2) e     m: mean of b / |b|, e: a unit vector across m
        dot          m, m                       m: mean of b
        euclidean    m +- s                     m: mean of b, s: standard deviation

    Shares are linear in b / |b|, in b, in b and b^2: the means of these over both rows are the
    gallery's, so those of shares, scores and gradients are, too.

    Raises:
        ValueError: another similarity, or fewer than two finite embeddings.
    """
    if not isinstance(similarity, Cosine | Dot | Euclidean):
        raise ValueError(f"similarity: expected cosine, dot or euclidean, got {similarity!r}")
    n, total, squares = 0, np.zeros(()), np.zeros(())
    for part in parts:
        b = part[np.isfinite(part).all(1)].astype(np.float64)
        if isinstance(similarity, Cosine):
            norms = np.linalg.norm(b, axis=1, keepdims=True)
            b = b / np.where(norms == 0, 1, norms)
        n, total, squares = n + len(b), total + b.sum(0), squares + np.square(b).sum(0)
    if n < 2:
        raise ValueError("the index holds no second picture: there is nothing to compare with")
    mean = total / n
    if isinstance(similarity, Cosine):
        apart = np.sqrt(max(0, 1 - mean @ mean)) * _across(mean)
    elif isinstance(similarity, Euclidean):
        apart = np.sqrt(np.maximum(0, squares / n - np.square(mean)))
    else:
        apart = np.zeros_like(mean)
    return np.stack([mean + apart, mean - apart]).astype(np.float32)


def _across(vector: np.ndarray) -> np.ndarray:
    """A unit vector at right angles to this one, close to the axis where it is smallest."""
    square = vector @ vector or 1
    across = -vector * vector[np.argmin(np.abs(vector))] / square
    across[np.argmin(np.abs(vector))] += 1
    return across / (np.linalg.norm(across) or 1)
