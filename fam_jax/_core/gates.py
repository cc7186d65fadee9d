"""Gates held constant: the backward pass in which a transformer is linear.

    softmax(q k^T) v,  (x - mean) / sd,  x Phi(x):   softmax(q k^T), 1 / sd and Phi(x) are constants

With these gates every layer is affine in its tokens, so that at any layer sum_k A_k G_k is the
score less the part of the biases, as it is for the head of a convolutional network. The forward
pass is the same bit for bit. Ali et al. (ICML 2022) propose it for attention and norms, Achtibat
et al. (ICML 2024) in another form for gated units.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax import Array
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

from fam_jax._core.programs import closed, equations, evaluate, inside, is_program
from fam_jax._core.pytree import pytree_dataclass

GATES = ("free", "frozen")

# What softmax, norms, GELU (both forms) and SiLU are made with. Not `pow`: pooling by a power mean
# is no gate.
_MADE_WITH = {"exp", "exp2", "rsqrt", "sqrt", "erf", "erfc", "logistic", "tanh"}
_OWN_RULES = {"custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"}


@pytree_dataclass()
class Frozen:
    """A network whose gates are constants in its backward pass."""

    network: Callable[[Array], Any]

    def __call__(self, images: Array) -> Any:
        """As the network, in the forward pass."""
        return frozen(self.network)(images)

    def with_state(self, images: Array) -> Any:
        """The same of the network's method."""
        return frozen(self.network.with_state)(images)


def frozen(fn: Callable) -> Callable:
    """The function with its gates held constant in its backward pass."""

    def run(*args: Any) -> Any:
        program, output = jax.make_jaxpr(fn, return_shape=True)(*args)
        values = evaluate(program, jax.tree.leaves(args), _instead)
        return jax.tree.unflatten(jax.tree.structure(output), values)

    return run


def _instead(eqn: JaxprEqn) -> JaxprEqn | Callable | None:
    if eqn.primitive.name in _MADE_WITH:
        return lambda x: [jax.lax.stop_gradient(eqn.primitive.bind(x, **eqn.params))]
    if not any(map(_has_gates, inside(eqn))):
        return None
    if eqn.primitive.name in _OWN_RULES:  # the rule is of the gates, too: softmax has one
        return lambda *args: evaluate(inside(eqn)[0], args, _instead)
    if eqn.primitive.name == "shard_map":  # its program is of the axes of a mesh
        return _held_on_mesh(eqn)
    held = {name: _held(param) for name, param in eqn.params.items()}
    return eqn.replace(params=held)


def _held_on_mesh(eqn: JaxprEqn) -> Callable:
    (program,), params = inside(eqn), eqn.params
    return jax.shard_map(
        lambda *args: evaluate(program, args, _instead),
        mesh=params["mesh"],
        in_specs=tuple(params["in_specs"]),
        out_specs=list(params["out_specs"]),
        axis_names=set(params["newly_manual_axes"]),
        check_vma=params["check_vma"],
    )


def _has_gates(program: ClosedJaxpr) -> bool:
    return any(eqn.primitive.name in _MADE_WITH for eqn in equations(program))


def _held(param: Any) -> Any:
    """A parameter of an equation; if it is a program, or several, with their gates held."""
    if isinstance(param, tuple) and any(map(is_program, param)):  # the branches of a choice
        return tuple(map(_held, param))
    if not isinstance(param, ClosedJaxpr | Jaxpr):
        return param
    program = closed(param)
    other = jax.make_jaxpr(lambda *args: evaluate(program, args, _instead))(*program.in_avals)
    return other.jaxpr if isinstance(param, Jaxpr) else other
