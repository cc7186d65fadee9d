"""What the commands let a user choose by name: methods and similarities."""

from jax import Array

import fam_jax
from fam_jax import methods
from fam_jax._core.checks import check_choice
from fam_jax.methods.registry import entry

SIMILARITIES = {
    "cosine": fam_jax.cosine,
    "dot": fam_jax.dot,
    "euclidean": fam_jax.euclidean,
}


def check(method: str, similarity: str, *, background: bool, option: str = "--background") -> None:
    """Raise ValueError for an unknown name, or for a method that lacks the background it needs."""
    check_choice("--method", method, methods.names())
    check_choice("--similarity", similarity, SIMILARITIES)
    if entry(method).background == "needed" and not background:
        raise ValueError(
            f"--method {method} shows what makes the pair more alike than others: give them with "
            f"{option}"
        )


def method_of(method: str, similarity: str, background: Array | None) -> fam_jax.Method:
    """A method by name, of a similarity by name, against a background if there is one."""
    return methods.make(method, SIMILARITIES[similarity], background)
