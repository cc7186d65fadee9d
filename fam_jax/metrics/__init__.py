"""How good a map is, in numbers."""

from fam_jax.metrics.localization import energy_in as energy_in
from fam_jax.metrics.localization import pointing as pointing
