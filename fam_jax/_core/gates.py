"""Gates held constant: the backward pass in which a transformer is linear.

    softmax(q k^T) v,  (x - mean) / sd,  x Phi(x):   softmax(q k^T), 1 / sd and Phi(x) are constants

With these gates every layer is affine in its tokens, so that at any layer sum_k A_k G_k is the
score less the part of the biases, as it is for the head of a convolutional network. The forward
pass is the same bit for bit, and so are its derivatives: constant are the gates in the pullback G,
not in the derivative of an embedding, or of a map, by a parameter. Ali et al. (ICML 2022) propose
it for attention and norms, Achtibat et al. (ICML 2024) in another form for gated units.
"""

from collections.abc import Callable
from typing import Any

from jax import Array
from jax.extend.core import JaxprEqn, Primitive
from jax.interpreters import ad, batching, mlir
from jax.tree_util import Partial

from fam_jax._core.programs import rewritten
from fam_jax._core.pytree import pytree_dataclass

GATES = ("free", "frozen")

# What softmax, norms, GELU (both forms) and SiLU are made with. Not `pow`: pooling by a power mean
# is no gate.
_MADE_WITH = {"exp", "exp2", "rsqrt", "sqrt", "erf", "erfc", "logistic", "tanh"}

# Kernels whose program cannot be seen, nor the gates in it.
_HIDDEN = {"ffi_call", "pallas_call"}

# The identity, constant for those derivatives alone that are taken before it is let go.
_hold_p = Primitive("hold")
_hold_p.def_impl(lambda x: x)
_hold_p.def_abstract_eval(lambda x: x)
mlir.register_lowering(_hold_p, lambda ctx, x: [x])
ad.defjvp(_hold_p, None)
batching.primitive_batchers[_hold_p] = lambda args, dims: (_hold_p.bind(*args), dims[0])


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
    """The function with its gates held constant in its derivatives, until they are let go."""
    return rewritten(fn, _hold)


def released(fn: Callable) -> Callable:
    """The function, and the pullbacks that it gives, with no gate held in their derivatives."""
    return rewritten(fn, _let_go)


def released_pullback(pullback: Callable) -> Callable:
    """A pullback as a pytree: what is computed anew in a backward pass holds gates, too."""
    return Partial(_pull, pullback)


def _pull(pullback: Callable, cotangent: Array) -> Any:
    return released(pullback)(cotangent)


def _hold(eqn: JaxprEqn) -> Callable | None:
    name = eqn.primitive.name
    if name in _HIDDEN or "attention" in name:  # cuDNN's is a primitive of that name
        raise ValueError(
            f'gates="frozen": the kernel `{name}` hides its gates; let the network take an '
            "attention of plain operations, such as jax.nn.dot_product_attention(..., "
            'implementation="xla")'
        )
    if name not in _MADE_WITH:
        return None
    return lambda x: [_hold_p.bind(eqn.primitive.bind(x, **eqn.params))]


def _let_go(eqn: JaxprEqn) -> Callable | None:
    return (lambda x: [x]) if eqn.primitive is _hold_p else None
