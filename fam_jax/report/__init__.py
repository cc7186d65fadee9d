"""Static HTML report of many explained pairs: a page, thumbnails, no server. Needs jinja2."""

from fam_jax.report.folder import write as write
from fam_jax.report.store import Row as Row
from fam_jax.report.store import Store as Store
