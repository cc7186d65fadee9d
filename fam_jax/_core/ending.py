"""The norm at the end of a network: z = s v, its scale s(v) > 0 one number for every image.

Of z = v / |v| no part belongs to v's length: sum_k A_k G_k would be 0 and not the score. Where the
score is blind to length v is what is explained: a pullback that takes s u for v, s held constant.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import ShapedArray
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal, Var, jaxpr_as_fun

from fam_jax._core.checks import wide
from fam_jax._core.programs import CALLS, evaluate, inside, variables

_LONGEST = 64  # equations of a norm
_TINY = 1e-3  # a constant that is added to a norm, or bounds it from below


class Ending(NamedTuple):
    """A program up to v, which it gives in the place of its first output z, and the norm v -> z."""

    body: ClosedJaxpr  # gives v, what the norm needs beside v, and the program's other outputs
    norm: ClosedJaxpr | None  # None if z is v
    needed: int = 0

    def outputs(self, values: Sequence[Array]) -> tuple[Array, list[Array], list[Array]]:
        """What the body gives, in its three parts."""
        v, *rest = values
        return v, rest[: self.needed], rest[self.needed :]

    def embedding(self, v: Array, needed: list[Array]) -> Array:
        """The output z."""
        return v if self.norm is None else jaxpr_as_fun(self.norm)(v, *needed)[0]


def scale(v: Array, z: Array) -> Array:
    """S of z = s v, [b, 1]; 0 for a zero vector."""
    v, z = wide(v, z)
    largest = jnp.max(jnp.abs(v), axis=-1, keepdims=True)
    unit = v / jnp.where(largest == 0, 1, largest)  # squares neither overflow nor vanish
    square = jnp.sum(unit * unit, axis=-1, keepdims=True) * largest
    return jnp.sum(z * unit, axis=-1, keepdims=True) / jnp.where(square == 0, 1, square)


def ending(program: ClosedJaxpr) -> Ending:
    """Where the norm begins that the program's first output ends in."""
    if not program.jaxpr.outvars:
        return Ending(program, None)
    calls = {v for eqn in program.eqns if eqn.primitive.name in CALLS for v in eqn.outvars}
    found = _split(program)
    if (
        found is None and variables(program.jaxpr.outvars[:1]) and program.jaxpr.outvars[0] in calls
    ):  # the network is one compiled function
        found = _split(_flat(program))
    return found or Ending(program, None)


def _flat(program: ClosedJaxpr) -> ClosedJaxpr:
    def instead(eqn: JaxprEqn) -> Callable | None:
        if eqn.primitive.name in CALLS:
            return lambda *args: evaluate(inside(eqn)[0], args, instead)
        return None

    return jax.make_jaxpr(lambda *args: evaluate(program, args, instead))(*program.in_avals)


def _split(program: ClosedJaxpr) -> Ending | None:
    """Walk back from the output; of the places where one vector per image is left, the first."""
    jaxpr = program.jaxpr
    z = jaxpr.outvars[0]
    if isinstance(z, Literal) or len(_shape(z)) != 2:
        return None
    of_images = set(jaxpr.invars)
    for eqn in jaxpr.eqns:
        if not of_images.isdisjoint(variables(eqn.invars)):
            of_images.update(eqn.outvars)
    frontier, tail, found = {z}, [], None
    for eqn in reversed(jaxpr.eqns):
        if frontier.isdisjoint(eqn.outvars):
            continue
        if eqn.primitive.name == "tap" or len(tail) == _LONGEST:
            break
        tail.insert(0, eqn)
        inputs = [v for v in variables(eqn.invars) if v in of_images]
        frontier = (frontier - {*eqn.outvars}) | {*inputs}
        if not frontier or any(len(_shape(v)) > 2 for v in frontier):
            break
        if len(frontier) > 1 or _shape(next(iter(frontier))) != _shape(z):
            continue
        (v,) = frontier
        if _kinds(tail, {v: _Kind("row", Fraction(1))}).get(z) == ("row", 0):
            found = _ending(program, v, tail)
    return found


def _ending(program: ClosedJaxpr, v: Var, tail: list[JaxprEqn]) -> Ending:
    jaxpr = program.jaxpr
    made = {v, *(out for eqn in tail for out in eqn.outvars)}
    needed = [x for eqn in tail for x in variables(eqn.invars) if x not in made]
    needed = list(dict.fromkeys(needed))
    body = jaxpr.replace(outvars=[v, *needed, *jaxpr.outvars[1:]])
    norm = jaxpr.replace(constvars=(), invars=[v, *needed], outvars=[jaxpr.outvars[0]], eqns=tail)
    return Ending(ClosedJaxpr(body, program.consts), ClosedJaxpr(norm, ()), len(needed))


class _Kind(NamedTuple):
    """What a value is of v, and the power of t by which it grows when v becomes t v."""

    # "row": parallel to v; "entries": of its entries one by one; "scale": of its length;
    # "small": next to nothing beside a norm, "constant": neither depends on v;
    # "other": what cannot be told
    of: str
    degree: Fraction = Fraction(0)


_OTHER, _SMALL, _CONSTANT = _Kind("other"), _Kind("small"), _Kind("constant")
_WITHOUT_V = {"small", "constant"}
_SAME = {
    "broadcast_in_dim",
    "convert_element_type",
    "copy",
    "expand_dims",
    "hold",
    "pvary",
    "reduce_precision",
    "reshape",
    "sharding_constraint",
    "squeeze",
    "stop_gradient",
}
_POWERS = {"sqrt": Fraction(1, 2), "rsqrt": Fraction(-1, 2), "square": Fraction(2)}
_COMPARISONS = {"eq", "ne", "gt", "lt", "ge", "le"}
_REDUCED = {"reduce_sum", "reduce_max"}


def _kinds(eqns: Sequence[JaxprEqn], known: dict[Var, _Kind]) -> dict[Var, _Kind]:
    """What the values of a piece of a program are of v, as far as it can be told."""
    known = dict(known)

    def kind_of(x: Any) -> _Kind:
        return _of_literal(x) if isinstance(x, Literal) else known.get(x, _CONSTANT)

    for eqn in eqns:
        kinds = [kind_of(x) for x in eqn.invars]
        if eqn.primitive.name in {*CALLS, "custom_jvp_call", "custom_vjp_call"}:
            program = inside(eqn)[0].jaxpr
            inner = _kinds(program.eqns, dict(zip(program.invars, kinds, strict=True)))
            outer = zip(eqn.outvars, program.outvars, strict=True)
            known |= {v: inner[x] for v, x in outer if not isinstance(x, Literal) and x in inner}
        elif {kind.of for kind in kinds} - {"constant"}:
            known |= dict.fromkeys(eqn.outvars, _OTHER) | {eqn.outvars[0]: _kind(eqn, kinds)}
    return known


def _of_literal(literal: Literal) -> _Kind:
    value = np.asarray(literal.val)
    small = not value.ndim and np.issubdtype(value.dtype, np.floating) and abs(value) <= _TINY
    return _SMALL if small else _CONSTANT


def _kind(eqn: JaxprEqn, kinds: list[_Kind]) -> _Kind:
    if len(kinds) == 1:
        return _of_one(eqn, kinds[0])
    name, of = eqn.primitive.name, [kind.of for kind in kinds]
    if name in _COMPARISONS:
        return _Kind("scale") if "scale" in of and {*of} <= {"scale", *_WITHOUT_V} else _OTHER
    if name == "select_n":  # where(norm == 0, 1, norm)
        of_v = {kind for kind in kinds[1:] if kind.of not in _WITHOUT_V}
        alike = len(of_v) == 1 and (of[0] == "scale" or next(iter(of_v)).of == "scale")
        return of_v.pop() if alike else _OTHER
    if name == "dot_general" and kinds[0] == kinds[1] and of[0] == "row":
        each = len(_shape(eqn.outvars[0])) == 1
        return _Kind("scale", 2 * kinds[0].degree) if each else _OTHER
    if len(kinds) != 2:
        return _OTHER
    if name in {"add", "max"} and "small" in of:
        kind = kinds[1 - of.index("small")]
        return kind if kind.of in {"scale", "small"} else _OTHER
    if name == "pow" and isinstance(eqn.invars[1], Literal) and of[0] == "scale":
        return _Kind("scale", kinds[0].degree * Fraction(float(np.asarray(eqn.invars[1].val))))
    if name in {"mul", "div"}:
        return _product(eqn, kinds)
    return _OTHER


def _of_one(eqn: JaxprEqn, kind: _Kind) -> _Kind:
    name = eqn.primitive.name
    if name in _SAME:
        return kind
    if name in _REDUCED and kind.of == "entries":
        entries = tuple(eqn.params["axes"]) == (len(_shape(eqn.invars[0])) - 1,)
        return kind._replace(of="scale") if entries else _OTHER
    powers = _POWERS | {"abs": Fraction(1), "integer_pow": Fraction(eqn.params.get("y", 1))}
    if name not in powers or kind.of in {"other", *_WITHOUT_V}:
        return _OTHER
    degree = powers[name] * kind.degree
    if kind.of == "scale":
        return _Kind("scale", degree)
    return _Kind("entries", degree) if powers[name] > 0 else _OTHER


def _product(eqn: JaxprEqn, kinds: list[_Kind]) -> _Kind:
    """Of a product, or a quotient."""
    a, b = kinds
    if eqn.primitive.name == "div":
        if b.of in {"row", "entries"}:
            return _OTHER
        b = b._replace(degree=-b.degree)
    if "other" in (a.of, b.of):
        return _OTHER
    constants = [x for x, kind in zip(eqn.invars, kinds, strict=True) if kind.of in _WITHOUT_V]
    if any(n != 1 for x in constants for n in _shape(x)):  # not one number for all
        return _OTHER
    if a.of in _WITHOUT_V or b.of in _WITHOUT_V:
        return b if a.of in _WITHOUT_V else a
    degree = a.degree + b.degree
    if "scale" in (a.of, b.of):
        return _Kind(b.of if a.of == "scale" else a.of, degree)
    return _Kind("entries", degree)


def _shape(x: Any) -> tuple[int, ...]:
    return cast(ShapedArray, x.aval).shape
