"""Layers inside scans: "block[10]" is the tap "block" at step 10, taken out of its scan.

    scan(f, c, xs)  =  scan(f, c, xs[:10]),  f(c, xs[10]) on its own,  scan(f, c, xs[11:])

The program stays as long as it was, whatever the depth: two scans in the place of one, and the
body once more for every step that is asked for.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import ClosedJaxpr, JaxprEqn, Primitive

from fam_jax._core.programs import CALLS, closed, equations, evaluate, inside

_STEP = re.compile(r"\[(-?\d+)\]")
_Steps = Mapping[str, tuple[int, ...]]  # name -> its steps, of the scans that are still around it


def unstepped(name: str) -> str:
    """What the tap itself is called: "stack[3].block[10]" is the tap "stack.block"."""
    return _STEP.sub("", name)


def opened(program: ClosedJaxpr, names: Sequence[str], tap: Primitive) -> ClosedJaxpr:
    """The program with a tap of the whole name wherever a name such as "block[10]" asks for one.

    Numbers count the steps as they are stored, from the outermost scan inwards; negative ones from
    the end.
    """
    taps = {eqn.params["name"] for eqn in equations(program) if eqn.primitive is tap}
    steps = {name: tuple(map(int, _STEP.findall(name))) for name in {*names} - taps}
    steps = {name: numbers for name, numbers in steps.items() if numbers}
    if not steps:
        return program
    return jax.make_jaxpr(
        lambda *args: evaluate(program, args, partial(_instead, tap=tap, steps=steps))
    )(*program.in_avals)


def length(eqn: JaxprEqn) -> int | None:
    """How many steps an equation takes; None if it is no scan."""
    return eqn.params["length"] if eqn.primitive.name == "scan" else None


def _instead(eqn: JaxprEqn, tap: Primitive, steps: _Steps) -> Callable | None:
    if eqn.primitive is tap:
        here = [name for name in steps if unstepped(name) == eqn.params["name"]]
        for name in here:
            if steps[name]:
                raise ValueError(
                    f"the layer {name!r} names more steps than there are scans around it: leave "
                    f"out the last {len(steps[name])}"
                )
        return partial(_tapped, tap, here) if here else None
    taps = [e for program in inside(eqn) for e in equations(program) if e.primitive is tap]
    met = {e.params["name"] for e in taps}
    within = {name: numbers for name, numbers in steps.items() if unstepped(name) in met}
    if not within:
        return None
    if eqn.primitive.name in CALLS:
        return lambda *args: evaluate(
            inside(eqn)[0], args, partial(_instead, tap=tap, steps=within)
        )
    name = next(iter(within))
    if eqn.primitive.name != "scan":
        raise ValueError(hidden(name, eqn))
    for name, numbers in within.items():
        if not numbers:
            raise ValueError(hidden(name, eqn))
    return partial(_split, eqn, tap, within)


def hidden(name: str, eqn: JaxprEqn) -> str:
    """The message for a layer inside an equation that runs it in no one way."""
    if (n := length(eqn)) is None:
        return (
            f"the layer {name!r} runs inside `{eqn.primitive.name}`, where no single value stands "
            "for it; take a layer outside"
        )
    return (
        f"the layer {name!r} runs inside a scan of {n} steps; say which: {name}[0] to "
        f"{name}[{n - 1}]"
    )


def _tapped(tap: Primitive, names: Sequence[str], x: Any) -> list[Array]:
    for name in names:
        x = tap.bind(x, name=name)
    return [x]


def _split(eqn: JaxprEqn, tap: Primitive, steps: _Steps, *args: Any) -> list[Array]:
    """The scan up to each of the steps, the body there, and the scan of what is left."""
    body, n, back = closed(eqn.params["jaxpr"]), eqn.params["length"], eqn.params["reverse"]
    # By ranks: how an equation counts its constants and its carry differs between versions of jax.
    rows = sum(_longer(*both) for both in zip(eqn.invars, body.jaxpr.invars, strict=True))
    carried = sum(not _longer(*both) for both in zip(eqn.outvars, body.jaxpr.outvars, strict=True))
    first = len(args) - rows
    fixed, carry, xs = args[: first - carried], args[first - carried : first], args[first:]

    def scanned(carry: Sequence[Any], start: int, stop: int) -> Sequence[Array]:
        low, high = (n - stop, n - start) if back else (start, stop)
        part = [jax.lax.slice_in_dim(x, low, high) for x in xs]
        params = {**eqn.params, "length": high - low}
        return eqn.primitive.bind(*fixed, *carry, *part, **params)

    pieces, done = [], 0  # in the order in which the steps are taken
    for step, within in sorted(_by_step(steps, n).items(), reverse=back):
        turn = n - 1 - step if back else step
        if turn > done:
            out = scanned(carry, done, turn)
            carry, done = out[:carried], turn
            pieces.append(out[carried:])
        row = [jax.lax.index_in_dim(x, step, keepdims=False) for x in xs]
        out = evaluate(body, [*fixed, *carry, *row], partial(_instead, tap=tap, steps=within))
        carry, done = out[:carried], done + 1
        pieces.append([y[None] for y in out[carried:]])
    if done < n:
        out = scanned(carry, done, n)
        carry = out[:carried]
        pieces.append(out[carried:])
    stacked = zip(*(reversed(pieces) if back else pieces), strict=True)
    return [*carry, *(jnp.concatenate(parts) for parts in stacked)]


def _by_step(steps: _Steps, n: int) -> dict[int, dict[str, tuple[int, ...]]]:
    found: dict[int, dict[str, tuple[int, ...]]] = {}
    for name, (number, *rest) in steps.items():
        if not -n <= number < n:
            raise ValueError(f"the layer {name!r}: the scan around it has {n} steps, 0 to {n - 1}")
        found.setdefault(number % n, {})[name] = tuple(rest)
    return found


def _longer(outer, inner) -> bool:
    """Whether a value outside a scan holds one for every step."""
    return len(outer.aval.shape) > len(inner.aval.shape)
