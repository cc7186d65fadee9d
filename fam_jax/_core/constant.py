"""Along which axes a traced program's values are constant, from its equations, not its numbers.

What pools positions is pulled back by spreading a vector over them: a broadcast is where a value
becomes constant, and reshaping, transposing and arithmetic keep it so.
"""

from collections.abc import Sequence
from typing import Any

from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal

from fam_jax._core.programs import CALLS, inside

Axes = frozenset[int]

_ELEMENTWISE = {
    *("add", "add_any", "sub", "mul", "div", "neg", "max", "min", "select_n"),
    *("convert_element_type", "reduce_precision", "copy", "slice", "pvary"),
}


def constant_axes(program: ClosedJaxpr, inputs: Sequence[Axes] = ()) -> list[Axes]:
    """Axes along which each output is constant; `inputs` are those of the arguments.

    What is not known is taken for not constant.
    """
    jaxpr = program.jaxpr
    known = dict(zip(jaxpr.invars, inputs, strict=False))

    def of(atom: Any) -> Axes:
        single = frozenset(i for i, size in enumerate(_shape(atom)) if size == 1)
        return single if isinstance(atom, Literal) else single | known.get(atom, frozenset())

    for eqn in jaxpr.eqns:
        given = [of(atom) for atom in eqn.invars]
        known.update(zip(eqn.outvars, _outputs(eqn, given), strict=False))
    return [of(atom) for atom in jaxpr.outvars]


def _outputs(eqn: JaxprEqn, given: list[Axes]) -> list[Axes]:
    name, params = eqn.primitive.name, eqn.params
    if name in CALLS:
        return constant_axes(inside(eqn)[0], given)
    if len(eqn.outvars) != 1:
        return []
    shape = _shape(eqn.outvars[0])
    if name == "broadcast_in_dim":
        source = {i: old for old, i in enumerate(params["broadcast_dimensions"])}
        new = (i for i in range(len(shape)) if i not in source or source[i] in given[0])
        return [frozenset(new)]
    if name == "transpose":
        return [frozenset(i for i, old in enumerate(params["permutation"]) if old in given[0])]
    if name in ("reshape", "squeeze"):
        return [_reshaped(given[0], _shape(eqn.invars[0]), shape)]
    if name in _ELEMENTWISE:  # a scalar beside arrays is constant along all axes
        whole = [axes for axes, x in zip(given, eqn.invars, strict=True) if _shape(x)]
        return [frozenset.intersection(*whole)] if whole else []
    return []


def _shape(atom: Any) -> tuple[int, ...]:
    return atom.aval.shape


def _reshaped(axes: Axes, old: tuple[int, ...], new: tuple[int, ...]) -> Axes:
    """The axes of a reshaped array that split or join constant ones."""
    kept: set[int] = set()
    i = j = 0
    while 0 not in old and (i < len(old) or j < len(new)):
        before, after = i, j
        a, b = (shape[k] if k < len(shape) else 1 for shape, k in ((old, i), (new, j)))
        i, j = i + 1, j + 1
        while a != b:
            if a < b:
                a, i = a * old[i], i + 1
            else:
                b, j = b * new[j], j + 1
        if all(k in axes for k in range(before, min(i, len(old)))):
            kept.update(range(after, min(j, len(new))))
    return frozenset(kept)
