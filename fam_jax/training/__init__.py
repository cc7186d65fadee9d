"""Maps as part of training: watched while a network learns, and as terms of its loss."""

from fam_jax.training.losses import crop as crop
from fam_jax.training.losses import disagreement as disagreement
from fam_jax.training.losses import energy_outside as energy_outside
from fam_jax.training.losses import total_variation as total_variation
from fam_jax.training.map_logger import MapLogger as MapLogger
from fam_jax.training.strips import strip as strip
