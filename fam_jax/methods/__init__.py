"""Methods of explanation: factories of one type, `Method`."""

from fam_jax.methods.activation_sum import activation_sum as activation_sum
from fam_jax.methods.decomposition import decomposition as decomposition
from fam_jax.methods.fam import fam as fam
from fam_jax.methods.grad_cam import grad_cam as grad_cam
from fam_jax.methods.method import Method as Method
from fam_jax.methods.method import all_pairs as all_pairs
