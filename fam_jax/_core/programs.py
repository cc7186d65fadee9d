"""Traced programs (jaxprs): the ones inside equations, and runs with some equations replaced."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from jax import Array
from jax.extend.core import ClosedJaxpr, DropVar, Jaxpr, JaxprEqn, Literal, jaxpr_as_fun

# Calls that only wrap a piece of the program.
CALLS = {"jit", "pjit", "closed_call", "core_call", "checkpoint", "remat", "remat2"}


def is_program(value: Any) -> bool:
    """Whether it is a program."""
    return isinstance(value, ClosedJaxpr | Jaxpr)


def inside(eqn: JaxprEqn) -> list[ClosedJaxpr]:
    """The programs that an equation calls."""
    leaves = jax.tree.leaves(list(eqn.params.values()), is_leaf=is_program)
    return [closed(leaf) for leaf in leaves if is_program(leaf)]


def closed(program: ClosedJaxpr | Jaxpr) -> ClosedJaxpr:
    """The program with its constants."""
    return program if isinstance(program, ClosedJaxpr) else ClosedJaxpr(program, ())


def equations(program: ClosedJaxpr | Jaxpr) -> Iterator[JaxprEqn]:
    """All equations of a program, and of those that these call."""
    for eqn in program.eqns:
        yield eqn
        for inner in inside(eqn):
            yield from equations(inner)


def evaluate(
    program: ClosedJaxpr,
    args: Sequence[Any],
    instead: Callable[[JaxprEqn], JaxprEqn | Callable[..., Sequence[Array]] | None],
) -> list[Array]:
    """Run a program with other equations, or functions of the same inputs, in places of its own.

    `instead(eqn)` is what takes the place of an equation; None leaves it.
    """
    jaxpr = program.jaxpr
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*program.consts, *args), strict=True))
    waiting: list[JaxprEqn] = []

    def read(atom):
        return atom.val if isinstance(atom, Literal) else values[atom]

    def run() -> None:
        outvars = [v for eqn in waiting for v in eqn.outvars if not isinstance(v, DropVar)]
        part = jaxpr.replace(constvars=(), invars=list(values), outvars=outvars, eqns=[*waiting])
        outputs = jaxpr_as_fun(ClosedJaxpr(part, ()))(*values.values())
        values.update(zip(outvars, outputs, strict=True))
        waiting.clear()

    for eqn in jaxpr.eqns:
        other = instead(eqn)
        if other is None or isinstance(other, JaxprEqn):
            waiting.append(other or eqn)
            continue
        run()
        values.update(zip(eqn.outvars, other(*map(read, eqn.invars)), strict=True))
    run()
    return [read(atom) for atom in jaxpr.outvars]
