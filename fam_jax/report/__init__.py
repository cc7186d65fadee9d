"""Static HTML report of many explained pairs: a page, thumbnails, no server. Needs jinja2."""

from fam_jax.report._folder import write as write
