"""Overlays and figures. Matplotlib figures are returned, not shown: `figure.savefig(path)`."""

from fam_jax.plot.figures import grid_figure as grid_figure
from fam_jax.plot.figures import pair_figure as pair_figure
from fam_jax.plot.overlays import Picture as Picture
from fam_jax.plot.overlays import overlay as overlay
from fam_jax.plot.points import points_figure as points_figure
from fam_jax.plot.sentences import sentence as sentence
from fam_jax.plot.signals import signal as signal
from fam_jax.plot.volumes import volume as volume
