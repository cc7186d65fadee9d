"""The norm at the end of a network: z = s v, its scale s(v) > 0 one number for every image.

Of z = v / |v| no part belongs to v's length: sum_k A_k G_k would be 0 and not the score. Where the
score is blind to length v is what is explained: a pullback that takes s u for v, s held constant.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal, Var, jaxpr_as_fun

from fam_jax._core.checks import wide
from fam_jax._core.programs import CALLS, evaluate, inside

_LONGEST = 64  # equations of a norm
_SMALL = 1e-3  # a constant that is added to a norm, or bounds it from below


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
        found is None
        and _variables(program.jaxpr.outvars[:1])
        and program.jaxpr.outvars[0] in calls
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
    if isinstance(z, Literal) or len(z.aval.shape) != 2:
        return None
    of_images = set(jaxpr.invars)
    for eqn in jaxpr.eqns:
        if not of_images.isdisjoint(_variables(eqn.invars)):
            of_images.update(eqn.outvars)
    frontier, tail, found = {z}, [], None
    for eqn in reversed(jaxpr.eqns):
        if frontier.isdisjoint(eqn.outvars):
            continue
        if eqn.primitive.name == "tap" or len(tail) == _LONGEST:
            break
        tail.insert(0, eqn)
        inputs = [v for v in _variables(eqn.invars) if v in of_images]
        frontier = (frontier - {*eqn.outvars}) | {*inputs}
        if not frontier or any(len(v.aval.shape) > 2 for v in frontier):
            break
        if len(frontier) > 1 or next(iter(frontier)).aval.shape != z.aval.shape:
            continue
        (v,) = frontier
        if _kinds(tail, {v: _Kind("row", Fraction(1))}).get(z) == ("row", 0):
            found = _ending(program, v, tail)
    return found


def _ending(program: ClosedJaxpr, v: Var, tail: list[JaxprEqn]) -> Ending:
    jaxpr = program.jaxpr
    made = {v, *(out for eqn in tail for out in eqn.outvars)}
    needed = [x for eqn in tail for x in _variables(eqn.invars) if x not in made]
    needed = list(dict.fromkeys(needed))
    body = jaxpr.replace(outvars=[v, *needed, *jaxpr.outvars[1:]])
    norm = jaxpr.replace(constvars=(), invars=[v, *needed], outvars=[jaxpr.outvars[0]], eqns=tail)
    return Ending(ClosedJaxpr(body, program.consts), ClosedJaxpr(norm, ()), len(needed))


def _variables(atoms: Sequence[Any]) -> list[Var]:
    return [atom for atom in atoms if not isinstance(atom, Literal)]


class _Kind(NamedTuple):
    """What a value is of v, and the power of t by which it grows when v becomes t v."""

    # "row": parallel to v; "entries": of its entries one by one; "scale": of its length;
    # "small": a constant that is next to nothing beside a norm
    of: str
    degree: Fraction


def _kinds(eqns: Sequence[JaxprEqn], known: dict[Var, _Kind]) -> dict[Var, _Kind]:
    """What all values of a piece of a program are of v, as far as it can be told."""
    known = dict(known)
    for eqn in eqns:
        kinds = [_small(x) if isinstance(x, Literal) else known.get(x) for x in eqn.invars]
        if eqn.primitive.name in {*CALLS, "custom_jvp_call", "custom_vjp_call"}:
            (program, *_) = inside(eqn)
            given = zip(program.jaxpr.invars, kinds, strict=True)
            inner = _kinds(program.eqns, {v: kind for v, kind in given if kind is not None})
            outer = zip(eqn.outvars, program.jaxpr.outvars, strict=True)
            known |= {v: inner[x] for v, x in outer if not isinstance(x, Literal) and x in inner}
        elif any(kinds) and (kind := _kind(eqn, kinds)) is not None:
            known[eqn.outvars[0]] = kind
    return known


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


def _small(literal: Literal) -> _Kind | None:
    value = np.asarray(literal.val)
    if value.ndim or not np.issubdtype(value.dtype, np.floating) or abs(value) > _SMALL:
        return None
    return _Kind("small", Fraction(0))


def _kind(eqn: JaxprEqn, kinds: list[_Kind | None]) -> _Kind | None:
    name, first = eqn.primitive.name, kinds[0]
    small = [kind is not None and kind.of == "small" for kind in kinds]
    if any(small):
        if len(kinds) == 1:
            return first if name in _SAME else None
        if name in {"add", "max"} and len(kinds) == 2:
            kind = kinds[1 - small.index(True)]
            return kind if kind is not None and kind.of in {"scale", "small"} else None
        kinds = [None if is_small else k for is_small, k in zip(small, kinds, strict=True)]
        first = kinds[0]
        if not any(kinds):
            return None
    if name in _COMPARISONS:
        return _Kind("scale", Fraction(0)) if {k.of for k in kinds if k} == {"scale"} else None
    if name == "select_n":  # where(norm == 0, 1, norm)
        of_v = {kind for kind in kinds[1:] if kind is not None}
        alike = len(of_v) == 1 and (first is not None or next(iter(of_v)).of == "scale")
        return of_v.pop() if alike else None
    if name == "pow" and isinstance(eqn.invars[1], Literal) and first.of == "scale":
        return _Kind("scale", first.degree * Fraction(float(eqn.invars[1].val)))
    if name == "mul" and None not in kinds:
        return _product(*kinds)
    if name == "div" and None not in kinds:
        if kinds[1].of != "scale":
            return None
        return _product(kinds[0], kinds[1]._replace(degree=-kinds[1].degree))
    if name in {"mul", "div"} and len([k for k in kinds if k is not None]) == 1:
        return _with_constant(eqn, kinds)
    if name == "dot_general" and None not in kinds and kinds[0] == kinds[1]:
        return _Kind("scale", 2 * first.degree) if eqn.outvars[0].aval.ndim == 1 else None
    if len(kinds) != 1:
        return None
    if name in _REDUCED and first.of == "entries":
        entries = tuple(eqn.params["axes"]) == (eqn.invars[0].aval.ndim - 1,)
        return first._replace(of="scale") if entries else None
    power = _POWERS.get(name) or (
        Fraction(eqn.params["y"])
        if name == "integer_pow"
        else Fraction(1)
        if name == "abs"
        else None
    )
    if power is not None:
        of = "scale" if first.of == "scale" else "entries"
        return _Kind(of, power * first.degree) if of == "scale" or power > 0 else None
    return first if name in _SAME else None


def _product(a: _Kind, b: _Kind) -> _Kind | None:
    degree = a.degree + b.degree
    if "scale" in (a.of, b.of):
        return _Kind(b.of if a.of == "scale" else a.of, degree)
    return _Kind("entries", degree)


def _with_constant(eqn: JaxprEqn, kinds: list[_Kind | None]) -> _Kind | None:
    """A value of v times, or over, a number that is the same for all."""
    (place,) = (i for i, kind in enumerate(kinds) if kind is not None)
    other, kind = eqn.invars[1 - place], kinds[place]
    if eqn.primitive.name == "div" and place == 1:
        kind = kind._replace(degree=-kind.degree) if kind.of == "scale" else None
    return kind if all(n == 1 for n in other.aval.shape) else None
