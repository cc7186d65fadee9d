"""Traced programs (jaxprs): the ones inside equations, and runs with some equations replaced."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from jax import Array
from jax.extend.core import ClosedJaxpr, DropVar, Jaxpr, JaxprEqn, Literal, Var, jaxpr_as_fun

_OWN_RULES = {"custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"}

# Calls that only wrap a piece of the program.
CALLS = {"jit", "pjit", "closed_call", "core_call", "checkpoint", "remat", "remat2"}


def is_program(value: Any) -> bool:
    """Whether it is a program."""
    return isinstance(value, ClosedJaxpr | Jaxpr)


def inside(eqn: JaxprEqn) -> list[ClosedJaxpr]:
    """The programs that an equation calls."""
    leaves = jax.tree.leaves(list(eqn.params.values()), is_leaf=is_program)
    return [closed(leaf) for leaf in leaves if is_program(leaf)]


def variables(atoms: Sequence[Any]) -> list[Var]:
    """The inputs, or outputs, of an equation that are no literals."""
    return [atom for atom in atoms if not isinstance(atom, Literal)]


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
) -> list[Any]:
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


def rewritten(fn: Callable, change: Callable[[JaxprEqn], Callable | None]) -> Callable:
    """The function with other functions in places of its equations, wherever these stand.

    `change(eqn)` is a function of the equation's inputs; None leaves it. Functions with a
    derivative of their own are entered, if there is something to change, and lose it.
    """

    def run(*args: Any) -> Any:
        program, output = jax.make_jaxpr(fn, return_shape=True)(*args)
        values = evaluate(program, jax.tree.leaves(args), instead)
        return jax.tree.unflatten(jax.tree.structure(output), values)

    def instead(eqn: JaxprEqn) -> JaxprEqn | Callable | None:
        if (other := change(eqn)) is not None:
            return other
        if all(change(e) is None for program in inside(eqn) for e in equations(program)):
            return None
        if eqn.primitive.name in _OWN_RULES:
            return lambda *args: evaluate(inside(eqn)[0], args, instead)
        if eqn.primitive.name == "shard_map":  # its program is of the axes of a mesh
            return on_mesh(eqn)
        return eqn.replace(params={name: changed(param) for name, param in eqn.params.items()})

    def on_mesh(eqn: JaxprEqn) -> Callable:
        (program,), params = inside(eqn), eqn.params
        return jax.shard_map(
            lambda *args: evaluate(program, args, instead),
            mesh=params["mesh"],
            in_specs=tuple(params["in_specs"]),
            out_specs=list(params["out_specs"]),
            axis_names=set(params["newly_manual_axes"]),
            check_vma=params["check_vma"],
        )

    def changed(param: Any) -> Any:
        if isinstance(param, tuple) and any(map(is_program, param)):  # the branches of a choice
            return tuple(map(changed, param))
        if not isinstance(param, ClosedJaxpr | Jaxpr):
            return param
        program = closed(param)
        other = jax.make_jaxpr(lambda *args: evaluate(program, args, instead))(*program.in_avals)
        return other.jaxpr if isinstance(param, Jaxpr) else other

    return run
